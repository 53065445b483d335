//! HTTP/2 frames as bytes (RFC 9113, 4.1), for what no library would send.

use std::io::{ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::failure::Failure;

/// What a client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a peer may take no byte before [`Wire::send`] gives up.
const WRITE_PATIENCE: Duration = Duration::from_millis(200);

/// The type of a frame.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the names of the RFC")]
pub enum Kind {
    Data = 0,
    Headers = 1,
    Priority = 2,
    Reset = 3,
    Settings = 4,
    Ping = 6,
    WindowUpdate = 8,
    Continuation = 9,
}

/// Flags: the same bit ends a stream and acknowledges.
pub const END_STREAM: u8 = 1;
/// The header block is whole.
pub const END_HEADERS: u8 = 4;

/// One frame.
pub fn frame(kind: Kind, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind as u8, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The header block of a request: every field as a literal that is not indexed (RFC 7541, 6.2.2).
pub fn block(method: &str, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let pseudo =
        [(":method", method), (":scheme", "http"), (":authority", "localhost"), (":path", path)];
    let mut bytes = Vec::new();
    for (name, value) in pseudo.iter().chain(fields) {
        bytes.push(0);
        string(&mut bytes, name);
        string(&mut bytes, value);
    }
    bytes
}

/// A string without Huffman coding (RFC 7541, 5.1 and 5.2).
pub fn string(bytes: &mut Vec<u8>, text: &str) {
    let mut rest = text.len();
    if rest < 0x7f {
        bytes.push(rest as u8);
    } else {
        bytes.push(0x7f);
        rest -= 0x7f;
        while rest >= 0x80 {
            bytes.push((rest % 0x80) as u8 | 0x80);
            rest /= 0x80;
        }
        bytes.push(rest as u8);
    }
    bytes.extend(text.bytes());
}

/// A connection on which nothing is ever read.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
}

impl Wire {
    /// Connects, and sends the preface and these settings.
    pub fn open(address: SocketAddr, settings: &[u8]) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address)?;
        stream.set_write_timeout(Some(WRITE_PATIENCE))?;
        let mut wire = Self { stream };
        wire.send(&[PREFACE, &frame(Kind::Settings, 0, 0, settings)].concat())?;
        Ok(wire)
    }

    /// Sends bytes; whether the peer is still there.
    pub fn send(&mut self, bytes: &[u8]) -> Result<bool, Failure> {
        let Err(error) = self.stream.write_all(bytes) else {
            return Ok(true);
        };
        let gone = matches!(
            error.kind(),
            ErrorKind::BrokenPipe
                | ErrorKind::ConnectionAborted
                | ErrorKind::ConnectionReset
                | ErrorKind::TimedOut
                | ErrorKind::WouldBlock
        );
        if gone { Ok(false) } else { Err(error.into()) }
    }
}
