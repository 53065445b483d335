//! [`Peer`]: whether the client at the other end of a connection is still there. Knows no HTTP.

use std::{fmt, future::pending, sync::Arc, time::Duration};

use tokio::{io::Interest, net::tcp::OwnedWriteHalf, time::sleep};

/// How long a client that has ended its side of the connection is still waited for.
///
/// A client that is gone and one that only has nothing more to send look the same: both have sent
/// FIN. (Sending something and watching for a reset would distinguish them; HTTP has nothing that
/// every client would ignore.) So a request that can be served is served. One that has to wait for
/// others is refused as busy after this time: otherwise the connections of clients that have left
/// would add up.
///
/// The FIN comes behind what was sent before it. A body that is larger than the kernel's buffer,
/// and is not read while its request waits, keeps it away.
const HALF_CLOSED_TIME: Duration = Duration::from_secs(1);

/// The readiness that says that a peer sends nothing more, whether or not all it has sent was read.
/// Reads that end would do as well, but are ready as long as anything is unread.
#[cfg(any(target_os = "linux", target_os = "android"))]
const ENDED: Interest = Interest::PRIORITY.add(Interest::ERROR);

/// Other systems tell only of failures here.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const ENDED: Interest = Interest::ERROR;

/// The peer of a connection that serves one request at a time. By default one that is always there:
/// a connection of which something else notices the end.
#[derive(Clone, Default)]
pub(crate) struct Peer(Option<Arc<OwnedWriteHalf>>);

/// How a peer has ended its side.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// It sends nothing more, and may still read.
    Half,
    /// There is no connection any more.
    Whole,
}

impl Peer {
    /// The peer of a connection.
    pub(crate) fn of(connection: &Arc<OwnedWriteHalf>) -> Self {
        Self(Some(Arc::clone(connection)))
    }

    /// Returns when the peer sends nothing more.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub(crate) async fn ended(&self) {
        self.end().await;
    }

    /// Returns when the peer is gone, or as good as gone.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub(crate) async fn left(&self) {
        if self.end().await == End::Half {
            sleep(HALF_CLOSED_TIME).await;
        }
    }

    async fn end(&self) -> End {
        let Some(connection) = &self.0 else {
            return pending().await;
        };
        match connection.ready(ENDED).await {
            Ok(ready) if !ready.is_error() => End::Half,
            Ok(_) | Err(_) => End::Whole,
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Peer")
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::AsyncWriteExt as _,
        net::{TcpListener, TcpStream},
        time::{Instant, timeout},
    };

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(30);

    /// Both ends of a connection on which something was sent that is never read.
    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut client = TcpStream::connect(address).await.expect("a connection");
        client.write_all(b"unread").await.expect("sent");
        let (server, _) = listener.accept().await.expect("accepted");
        server.readable().await.expect("readable");
        (client, server)
    }

    #[tokio::test]
    async fn peer_is_there_until_it_leaves_whatever_is_unread() {
        type Leave = fn(TcpStream) -> Option<TcpStream>;
        let table: [(&str, Leave, bool); 3] = [
            (
                "close",
                |client| {
                    drop(client);
                    None
                },
                true,
            ),
            (
                "half close",
                |client| {
                    rustix::net::shutdown(&client, rustix::net::Shutdown::Write)
                        .expect("shut down");
                    Some(client)
                },
                true,
            ),
            (
                "reset",
                |client| {
                    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO))
                        .expect("set");
                    drop(client);
                    None
                },
                false,
            ),
        ];
        for (name, leave, is_waited_for) in table {
            let (client, server) = connection().await;
            let (_read, write) = server.into_split();
            let peer = Peer::of(&Arc::new(write));
            assert!(timeout(SHORT, peer.ended()).await.is_err(), "{name}");
            let begin = Instant::now();
            let kept = leave(client);
            assert!(timeout(LONG, peer.ended()).await.is_ok(), "{name}");
            assert!(timeout(LONG, peer.left()).await.is_ok(), "{name}");
            assert_eq!(begin.elapsed() >= HALF_CLOSED_TIME, is_waited_for, "{name}");
            drop(kept);
        }
        assert!(timeout(SHORT, Peer::default().left()).await.is_err());
    }
}
