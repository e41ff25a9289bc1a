//! The deterministic simulation: `cargo xtask torture`.

#![expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program for people that tests: what it does not expect ends it, and it prints"
)]

mod act;
mod cover;
mod fleet;
mod node;
mod run;
mod trace;

use std::process::ExitCode;

use clap::Parser;
use torture::ec2;

/// A third of the time goes to small allocations; this one is quicker at them than libc's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Play whole fleets on virtual time: real pools around a simulated EC2, where everything goes wrong
///
/// Each slice is a world of its own, whose seed follows from the first seed and its number. The same seed gives the
/// same trace, to the byte. A broken promise is shrunk to a short story.
#[derive(Debug, Parser)]
#[command(name = "torture", bin_name = "cargo xtask torture")]
pub(crate) struct Args {
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many steps of a pool to play at least, over all worlds
    #[arg(long, default_value_t = 1_000_000)]
    steps: u64,
    /// Nodes of each world; 2 to 4 if not given
    #[arg(long)]
    nodes: Option<usize>,
    /// Threads that play worlds side by side
    #[arg(long, default_value_t = 1)]
    jobs: u64,
    /// Play this one world alone: its own seed, as a failure names it
    #[arg(long)]
    world: Option<u64>,
    /// Print the trace of all worlds (with --world: of that one)
    #[arg(long)]
    trace: bool,
    /// Text for people, or one JSON object
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

fn main() -> anyhow::Result<ExitCode> {
    run::run(&Args::parse())
}
