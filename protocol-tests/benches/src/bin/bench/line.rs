//! A long line: two network namespaces, and between them a link on which each packet takes its
//! time. Both ends are TUN devices, and we carry the packets; unlike netem that works on any
//! kernel. Needs root.

use std::{
    fs::File,
    net::{IpAddr, SocketAddr},
    process::Command,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fd::AsFd as _,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use tappers::{Interface, Tun};

/// The largest packet: that of a network with jumbo frames, to spare us some of them.
const MTU: u16 = 9000;

/// Packets on their way in one direction; more are lost, as on a router.
const MAX_PACKETS: usize = 32 << 10;

/// The two ends, in a network of their own.
const ADDRESSES: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(10, 99, 0, 1)),
    IpAddr::V4(std::net::Ipv4Addr::new(10, 99, 0, 2)),
];

/// A line; its namespaces go when it is dropped.
#[derive(Debug)]
pub(crate) struct Line {
    names: [String; 2],
}

impl Line {
    /// A line on which a packet and its answer take `round_trip`.
    ///
    /// # Errors
    /// When there is no `ip`, no `/dev/net/tun`, or no permission to use them.
    pub(crate) fn new(round_trip: Duration) -> Result<Self, String> {
        let names =
            ["client", "server"].map(|end| format!("windlass-bench-{end}-{}", std::process::id()));
        let line = Self { names };
        let mut ends = Vec::new();
        for (name, address) in line.names.iter().zip(ADDRESSES) {
            ip(&["netns", "add", name])?;
            ends.push(Arc::new(within(name, open)??));
            ip(&["-n", name, "address", "add", &format!("{address}/24"), "dev", "line"])?;
            ip(&["-n", name, "link", "set", "line", "mtu", &MTU.to_string(), "up"])?;
        }
        for (from, to) in [(0, 1), (1, 0)] {
            carry(Arc::clone(&ends[from]), Arc::clone(&ends[to]), round_trip / 2);
        }
        Ok(line)
    }

    /// The namespace of the server.
    pub(crate) fn server(&self) -> &str {
        &self.names[1]
    }

    /// Where the server should listen.
    pub(crate) fn server_address(&self) -> SocketAddr {
        SocketAddr::new(ADDRESSES[1], 8080)
    }

    /// Does `work` at the client's end.
    pub(crate) fn at_client<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, String> {
        within(&self.names[0], work)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        for name in &self.names {
            // It may never have been made.
            let _ = ip(&["netns", "delete", name]);
        }
    }
}

/// The TUN device of this namespace.
fn open() -> Result<Tun, String> {
    Interface::new("line")
        .and_then(Tun::new_named)
        .map_err(|e| format!("cannot make a TUN device: {e}"))
}

/// Carries packets, each after `delay`. Ends when the devices are gone.
fn carry(from: Arc<Tun>, to: Arc<Tun>, delay: Duration) {
    let (sender, receiver) = mpsc::sync_channel::<(Instant, Vec<u8>)>(MAX_PACKETS);
    thread::spawn(move || {
        let mut packet = vec![0; usize::from(u16::MAX)];
        while let Ok(length) = from.recv(&mut packet) {
            // A full line loses packets.
            let _ = sender.try_send((Instant::now() + delay, packet[..length].to_vec()));
        }
    });
    thread::spawn(move || {
        while let Ok((due, packet)) = receiver.recv() {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.send(&packet).is_err() {
                break;
            }
        }
    });
}

/// Does `work` on a thread in the network namespace `name`.
fn within<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> Result<T, String> {
    let enter = || {
        let namespace = File::open(format!("/run/netns/{name}"))?;
        Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
    };
    let enter = || enter().map_err(|e: std::io::Error| format!("cannot enter {name}: {e}"));
    thread::scope(|scope| {
        let thread = scope.spawn(|| enter().map(|()| work()));
        thread.join().map_err(|_| "the thread in the namespace panicked".to_owned())?
    })
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).output();
    let output = output.map_err(|e| format!("cannot run ip, install iproute2: {e}"))?;
    if output.status.success() {
        Ok(())
    } else {
        let text = String::from_utf8_lossy(&output.stderr);
        Err(format!("ip {}: {}", arguments.join(" "), text.trim()))
    }
}
