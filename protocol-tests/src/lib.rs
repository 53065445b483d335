//! Black-box conformance tests: cases over sockets, against any base URL.
//!
//! A [`case::Case`] is a name, the rules of the wire contract that it can break, and an exchange.
//! A [`contract::Contract`] is a dialect's rules with its cases.
//! [`run`] holds every case against a server, [`page`] writes `docs/conformance.md` from the same
//! tables. Nothing here links to the server: all it knows is a URL, and for cases that must stop
//! or kill the server, its binary.

#![expect(
    clippy::needless_pass_by_value,
    reason = "the helpers take values, so that cases read without a forest of `&`"
)]

pub mod advisories;
pub mod case;
pub mod content;
pub mod contract;
pub mod crash;
pub mod drf;
pub mod failure;
pub mod frames;
pub mod http1;
pub mod http2;
pub mod message;
pub mod original;
pub mod page;
pub mod resumable;
pub mod rules;
pub mod run;
pub mod server;
pub mod site;
pub mod tus;
pub mod upload;
pub mod watch;
