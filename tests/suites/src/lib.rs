//! What the end-to-end suites and the demo stand on: the runner, the programs under test, and a node that
//! runs them.

pub mod harness;
pub mod node;
pub mod programs;
