//! What survives: clients at work on a server that is killed, or on a disk that loses power, and
//! the check of everything they had been told.
//!
//! [`client`] drives uploads and keeps a [`ledger`] of what was asked and answered; [`check`] holds
//! a server that was started after the crash against two states of that ledger: what was certain
//! when the crash began, and what may have happened until it was over. [`kill`] and [`power`] are
//! the two crashes. All choices come from [`dice`], so a seed repeats the plan: which requests,
//! which bytes, and after how many steps the crash comes. What the kernel and the server make of it
//! is theirs.

pub mod check;
pub mod client;
pub mod dice;
pub mod kill;
pub mod ledger;
pub mod mount;
pub mod power;
