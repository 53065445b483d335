//! What only the binary needs, above [`service`](crate::service): where its lines go, what it says
//! at start, which signals it lives with. Nothing below names this module.

pub mod lines;
pub mod notices;
pub mod signals;
