//! What the end-to-end suites and the demo stand on: the runner, the programs under test, a node that runs them,
//! and programs of others, in Python and Go.

#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "these are tests: they panic when something is not there, and print for people"
)]

pub mod go;
pub mod harness;
mod install;
pub mod node;
pub mod programs;
pub mod traffic;
pub mod venv;
pub mod watch;
