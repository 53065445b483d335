//! Parsers for the values of settings. Each error says what is expected, with an example.

use std::{
    fmt, io,
    net::{SocketAddr, ToSocketAddrs as _},
    str::FromStr,
    time::Duration,
};

use crate::{
    upload::{Algorithm, MAX_POSITION_BYTES},
    wire::mount::Mount,
};

/// Units of sizes in bytes, in lower case.
const UNITS: [(&[&str], u64); 9] = [
    (&["", "b"], 1),
    (&["k", "kb"], 1_000),
    (&["kib"], 1 << 10),
    (&["m", "mb"], 1_000_000),
    (&["mib"], 1 << 20),
    (&["g", "gb"], 1_000_000_000),
    (&["gib"], 1 << 30),
    (&["t", "tb"], 1_000_000_000_000),
    (&["tib"], 1 << 40),
];

/// A number of bytes, such as `500MB`, `10GiB` or `1000000`, from 1 to 2^63 - 1.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start().to_ascii_lowercase();
    let unit = UNITS.iter().find(|(names, _)| names.contains(&unit.as_str()));
    let Some((_, unit)) = unit.filter(|_| digits > 0) else {
        return Err("a size is a whole number and a unit, such as 500MB, 10GiB or 1000000 (bytes)"
            .to_owned());
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*unit));
    match bytes.filter(|bytes| *bytes <= MAX_POSITION_BYTES) {
        Some(0) => Err("a limit of 0 bytes would refuse everything; remove the setting, or set a \
                        size such as 10GiB"
            .to_owned()),
        Some(bytes) => Ok(bytes),
        None => {
            Err(format!("the largest size is {MAX_POSITION_BYTES} bytes; use one such as 10GiB"))
        }
    }
}

/// A duration above zero, such as `90s`, `15m` or `24h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    const LIKE: &str = "a duration is a number and a unit, such as 90s, 15m or 24h";
    let duration = humantime::parse_duration(text).map_err(|error| format!("{error}; {LIKE}"))?;
    if duration.is_zero() {
        return Err(format!("a duration of 0 is not allowed; {LIKE}"));
    }
    Ok(duration)
}

/// A boolean, for flags set by the environment.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("expected 1, true, yes or on, or 0, false, no or off".to_owned()),
    }
}

/// A checksum algorithm by its name.
pub(super) fn checksum(text: &str) -> Result<Algorithm, String> {
    Algorithm::named(text).ok_or_else(|| "one of md5, sha1, sha256 and sha512".to_owned())
}

/// The mode of new files, in octal. The server must be able to read and write them.
pub(super) fn file_mode(text: &str) -> Result<u32, String> {
    mode(text, 0o600).ok_or_else(|| {
        "a file mode is octal and allows its owner to read and write, such as 0600 or 0640"
            .to_owned()
    })
}

/// The mode of new directories, in octal. The server must have all permissions in them.
pub(super) fn dir_mode(text: &str) -> Result<u32, String> {
    mode(text, 0o700).ok_or_else(|| {
        "a directory mode is octal and allows its owner everything, such as 0700 or 0750".to_owned()
    })
}

/// Permission bits in octal, with all of `needed`.
fn mode(text: &str, needed: u32) -> Option<u32> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let is_octal = digits.bytes().all(|byte| byte.is_ascii_digit());
    let mode = u32::from_str_radix(digits, 8).ok().filter(|_| is_octal)?;
    (mode <= 0o777 && mode & needed == needed).then_some(mode)
}

/// The path of a dialect; `None` disables the dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route(pub(super) Option<Mount>);

impl FromStr for Route {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if matches!(text, "" | "off") {
            return Ok(Self(None));
        }
        let mount = text.parse().map_err(|error| format!("{error}; off disables the protocol"))?;
        Ok(Self(Some(mount)))
    }
}

/// An address to listen on: a host name or IP address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Empty for all addresses of this machine.
    host: String,
    port: u16,
}

/// The text is not an address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an address is HOST:PORT, such as 127.0.0.1:8080, localhost:8080, [::1]:8080, or :8080 for all \
     addresses"
)]
pub struct InvalidListen;

impl Listen {
    /// The socket addresses to try, in order. A name is resolved.
    ///
    /// # Errors
    /// When the name cannot be resolved.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let hosts: &[&str] = match self.host.as_str() {
            // IPv6 first: on most systems that takes IPv4 connections too.
            "" => &["::", "0.0.0.0"],
            host => &[host],
        };
        let mut addresses = Vec::new();
        for host in hosts {
            addresses.extend((*host, self.port).to_socket_addrs()?);
        }
        Ok(addresses)
    }
}

impl FromStr for Listen {
    type Err = InvalidListen;

    fn from_str(text: &str) -> Result<Self, InvalidListen> {
        let (host, port) = text.rsplit_once(':').ok_or(InvalidListen)?;
        let port = port.parse().map_err(|_| InvalidListen)?;
        let number = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let host = match number {
            Some(number) if number.parse::<std::net::Ipv6Addr>().is_ok() => number,
            None if host.bytes().all(is_plain) => host,
            Some(_) | None => return Err(InvalidListen),
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_o_009() {
        for (text, expected) in [
            ("1", Some(1)),
            ("1000000", Some(1_000_000)),
            ("12B", Some(12)),
            ("1k", Some(1_000)),
            ("1K", Some(1_000)),
            ("1kB", Some(1_000)),
            ("1KiB", Some(1_024)),
            ("500MB", Some(500_000_000)),
            ("500 MB", Some(500_000_000)),
            ("10mib", Some(10 << 20)),
            ("10GB", Some(10_000_000_000)),
            ("10gb", Some(10_000_000_000)),
            ("10GiB", Some(10 << 30)),
            ("3T", Some(3_000_000_000_000)),
            ("2TiB", Some(2 << 40)),
            ("9223372036854775807", Some(MAX_POSITION_BYTES)),
            ("9223372036854775808", None),
            ("99999999TiB", None),
            ("99999999999999999999999", None),
            ("0", None),
            ("0GB", None),
            ("", None),
            ("GB", None),
            ("-1", None),
            ("+1", None),
            ("1.5GB", None),
            ("1 000", None),
            ("10GBit", None),
            ("unlimited", None),
        ] {
            let found = size(text);
            assert_eq!(found.clone().ok(), expected, "{text:?}");
            let says = found.map_or_else(|says| says, |_| "such as 10GiB".to_owned());
            assert!(says.contains("10GiB"), "{text:?}: {says}");
        }
    }

    #[test]
    fn switches_are_words_and_numbers() {
        for (text, expected) in [
            ("1", Some(true)),
            ("true", Some(true)),
            ("YES", Some(true)),
            ("on", Some(true)),
            ("0", Some(false)),
            ("False", Some(false)),
            ("no", Some(false)),
            ("off", Some(false)),
            ("2", None),
            ("perhaps", None),
        ] {
            assert_eq!(switch(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn modes_are_octal_and_let_the_server_in() {
        for (text, file, dir) in [
            ("0600", Some(0o600), None),
            ("640", Some(0o640), None),
            ("0o660", Some(0o660), None),
            ("0700", Some(0o700), Some(0o700)),
            ("0750", Some(0o750), Some(0o750)),
            ("777", Some(0o777), Some(0o777)),
            ("1777", None, None),
            ("0400", None, None),
            ("0", None, None),
            ("680", None, None),
            ("+600", None, None),
            ("rw", None, None),
            ("", None, None),
        ] {
            assert_eq!((file_mode(text).ok(), dir_mode(text).ok()), (file, dir), "{text:?}");
        }
    }

    #[test]
    fn routes_may_be_left_out() {
        for (text, expected) in [
            ("/files", Ok(Some("/files"))),
            ("/", Ok(Some("/"))),
            ("", Ok(None)),
            ("off", Ok(None)),
            ("files", Err(())),
        ] {
            let route = text.parse::<Route>().map_err(drop);
            let route = route.map(|Route(mount)| mount.map(|mount| mount.to_string()));
            assert_eq!(route, expected.map(|mount| mount.map(str::to_owned)), "{text:?}");
        }
    }

    #[test]
    fn addresses_are_names_or_numbers_with_a_port() {
        for (text, expected) in [
            ("127.0.0.1:8080", &["127.0.0.1:8080"][..]),
            ("[::1]:0", &["[::1]:0"]),
            (":8080", &["[::]:8080", "0.0.0.0:8080"]),
        ] {
            let listen = text.parse::<Listen>().expect(text);
            let addresses = listen.addresses().expect("numbers");
            let addresses: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
            assert_eq!(addresses, expected, "{text}");
            assert_eq!(listen.to_string(), text);
        }
        let named = "localhost:8080".parse::<Listen>().expect("a name");
        let addresses = named.addresses().expect("every machine has it");
        assert!(!addresses.is_empty());
        assert!(addresses.iter().all(|address| address.ip().is_loopback()), "{addresses:?}");
        for text in ["", "here", "8080", "localhost", "::1:8080", "[::1]", "h:99999", "h:", "a b:1"]
        {
            assert_eq!(text.parse::<Listen>(), Err(InvalidListen), "{text:?}");
        }
        for text in ["http://h:1", "[localhost]:1", "h/x:1"] {
            assert_eq!(text.parse::<Listen>(), Err(InvalidListen), "{text:?}");
        }
    }
}
