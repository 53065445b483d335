//! [`Accept`]: where connections come from, and what HTTP is spoken over. Knows no HTTP.

use std::{
    fmt,
    future::{Future, ready},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
};

use http::Extensions;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

use super::tcp::Tcp;
use crate::service::Peer;

/// What becomes a connection once both ends have agreed on how to talk, such as a TLS handshake.
///
/// [`serve`](super::serve) runs it in the task of its connection, so a slow one delays no other. It
/// is dropped when the server stops, and when the handshake and the first bytes of HTTP have taken
/// longer than [`Limits::head_timeout`](crate::Limits::head_timeout) together. An error ends the
/// connection and is logged at the level `debug`.
pub type Handshake<Io> = Pin<Box<dyn Future<Output = io::Result<Connection<Io>>> + Send>>;

/// Where connections come from: a TCP listener, one with TLS, anything that yields streams.
///
/// A TLS library that takes a stream and returns a future needs no implementation of its own: see
/// [`with_handshake`](Self::with_handshake). An implementation can also put what it knows of a
/// client into the extensions of each of its requests, where a [`Gate`](crate::Gate) finds it: here
/// the user of a local client. Behind TLS that would be the name in a certificate, from the stream
/// after `Connection::tcp(stream, address).handshake(|tcp| acceptor.accept(tcp)).await?`.
///
/// ```
/// # #[cfg(unix)]
/// # mod local {
/// use std::io;
///
/// use tokio::net::{UnixListener, UnixStream};
/// use windlass::listen::{Accept, Connection, Handshake};
///
/// /// The user that runs a client.
/// #[derive(Clone)]
/// struct User(u32);
///
/// struct Local(UnixListener);
///
/// impl Accept for Local {
///     type Io = UnixStream;
///
///     async fn accept(&mut self) -> io::Result<Handshake<UnixStream>> {
///         let (stream, _) = self.0.accept().await?;
///         Ok(Box::pin(async move {
///             let user = User(stream.peer_cred()?.uid());
///             let mut connection = Connection::new(stream);
///             connection.extensions.insert(user);
///             Ok(connection)
///         }))
///     }
/// }
/// # }
/// ```
pub trait Accept: Send {
    /// What HTTP is spoken over.
    ///
    /// When it is shut down it tells the client that nothing more comes, as TLS does with
    /// `close_notify`, and can be read from until the client ends its side too.
    type Io: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Waits for the next connection, and for nothing that its client has to send: that is the
    /// business of the [`Handshake`]. Where there will be no more connections it stays pending.
    ///
    /// # Errors
    /// Of kind `ConnectionAborted`, `ConnectionRefused` or `ConnectionReset`: that connection is
    /// lost, and the next one is accepted at once. Any other, such as that there is no free file
    /// descriptor, is logged, and accepting is tried again 100 ms later.
    ///
    /// # Cancel safety
    /// Dropped only when the server stops; a connection may be lost then.
    fn accept(&mut self) -> impl Future<Output = io::Result<Handshake<Self::Io>>> + Send;

    /// The same connections, each over what `start` makes of its stream.
    ///
    /// For instance with `acceptor.accept(stream)` of `tokio_rustls::TlsAcceptor` or
    /// `tokio_native_tls::TlsAcceptor`. Both versions of HTTP are served whatever was negotiated;
    /// offer `h2` and `http/1.1` by ALPN.
    ///
    /// ```
    /// # use std::{io, sync::Arc};
    /// # use tokio::{io::{AsyncReadExt as _, AsyncWriteExt as _}, net::TcpStream, sync::oneshot};
    /// # use windlass::{Engine, store::memory::MemoryStore};
    /// # use windlass::wire::{location::Locations, tus::Tus};
    /// # struct TlsAcceptor;
    /// # impl TlsAcceptor {
    /// #     fn accept<Io: Send>(&self, io: Io) -> impl Future<Output = io::Result<Io>> + use<Io> {
    /// #         std::future::ready(Ok(io))
    /// #     }
    /// # }
    /// use tokio::net::TcpListener;
    /// use windlass::{Windlass, listen::Accept as _};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> io::Result<()> {
    /// # let service = Windlass::new(Engine::builder(Arc::new(MemoryStore::default())).build());
    /// # let service = service.mount(Tus::new(Locations::new("/files".parse().unwrap())));
    /// # let acceptor = TlsAcceptor;
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// # let mut client = TcpStream::connect(listener.local_addr()?).await?;
    /// # let (stop, stopped) = oneshot::channel::<()>();
    /// # let client = tokio::spawn(async move {
    /// #     let request = b"OPTIONS /files HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    /// #     client.write_all(request).await?;
    /// #     let mut answer = String::new();
    /// #     client.read_to_string(&mut answer).await?;
    /// #     drop(stop);
    /// #     io::Result::Ok(answer)
    /// # });
    /// # let stop = async { let _ = stopped.await; };
    /// let listener = listener.with_handshake(move |tcp| acceptor.accept(tcp));
    /// windlass::serve(listener, service, stop).await?;
    /// # assert!(client.await??.starts_with("HTTP/1.1 204"));
    /// # Ok(())
    /// # }
    /// ```
    fn with_handshake<S, F, Io>(self, start: S) -> WithHandshake<Self, S>
    where
        Self: Sized,
        S: Fn(Self::Io) -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<Io>> + Send + 'static,
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        WithHandshake { listener: self, start: Arc::new(start) }
    }
}

/// One connection, ready for HTTP.
pub struct Connection<Io> {
    /// What HTTP is spoken over.
    pub io: Io,
    /// What each of its requests has in its extensions, for hooks to see.
    pub extensions: Extensions,
    pub(super) peer: Peer,
}

impl<Io> Connection<Io> {
    /// A connection over any stream, with no extensions.
    ///
    /// Over HTTP/1.1 a request that waits for another one waits to its end even if its client has
    /// left: only [`tcp`](Connection::tcp) can tell that before the body is read.
    pub fn new(io: Io) -> Self {
        Self { io, extensions: Extensions::new(), peer: Peer::default() }
    }

    /// The same connection, over what `start` makes of its stream.
    ///
    /// # Errors
    /// Those of `start`; the connection is closed then.
    ///
    /// # Cancel safety
    /// Dropping it closes the connection.
    pub async fn handshake<N, F>(self, start: impl FnOnce(Io) -> F) -> io::Result<Connection<N>>
    where
        F: Future<Output = io::Result<N>>,
    {
        let Self { io, extensions, peer } = self;
        Ok(Connection { io: start(io).await?, extensions, peer })
    }
}

impl Connection<Tcp> {
    /// A TCP connection as [`TcpListener::accept`] yields it. Its extensions have the `address` of
    /// the client, or of the proxy in front, as a [`SocketAddr`].
    pub fn tcp(stream: TcpStream, address: SocketAddr) -> Self {
        // Without it answers are only later.
        let _ = stream.set_nodelay(true);
        let (io, peer) = Tcp::new(stream);
        let mut extensions = Extensions::new();
        extensions.insert(address);
        Self { io, extensions, peer }
    }
}

impl<Io: fmt::Debug> fmt::Debug for Connection<Io> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("io", &self.io).finish_non_exhaustive()
    }
}

impl Accept for TcpListener {
    type Io = Tcp;

    async fn accept(&mut self) -> io::Result<Handshake<Tcp>> {
        let (stream, address) = Self::accept(self).await?;
        Ok(Box::pin(ready(Ok(Connection::tcp(stream, address)))))
    }
}

/// Connections of local clients, mostly a proxy on the same machine; see [`Connection::new`].
#[cfg(unix)]
impl Accept for tokio::net::UnixListener {
    type Io = tokio::net::UnixStream;

    async fn accept(&mut self) -> io::Result<Handshake<Self::Io>> {
        let (stream, _) = Self::accept(self).await?;
        Ok(Box::pin(ready(Ok(Connection::new(stream)))))
    }
}

/// What [`Accept::with_handshake`] returns.
pub struct WithHandshake<A, S> {
    listener: A,
    start: Arc<S>,
}

impl<A, S, F, Io> Accept for WithHandshake<A, S>
where
    A: Accept,
    S: Fn(A::Io) -> F + Send + Sync + 'static,
    F: Future<Output = io::Result<Io>> + Send + 'static,
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Io = Io;

    async fn accept(&mut self) -> io::Result<Handshake<Io>> {
        let inner = self.listener.accept().await?;
        let start = Arc::clone(&self.start);
        Ok(Box::pin(async move { inner.await?.handshake(&*start).await }))
    }
}

impl<A: fmt::Debug, S> fmt::Debug for WithHandshake<A, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithHandshake").field("listener", &self.listener).finish_non_exhaustive()
    }
}
