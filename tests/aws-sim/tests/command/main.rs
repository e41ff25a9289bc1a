//! The command as people start it: the real binary, on free ports of loopback.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that finds something else than it expects panics"
)]

mod control;
mod files;
mod process;
mod serve;
mod wire;
