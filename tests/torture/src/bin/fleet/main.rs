//! A fleet's calls to EC2, in simulation: `cargo xtask fleet`.

#![expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program for people that measures: what it does not expect ends it, and it prints"
)]

mod bound;
mod fleet;
mod node;
mod picture;
mod report;
mod scenario;
mod tally;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use crate::scenario::{Scenario, Wanted};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Play fleets on virtual time, and count what they ask of EC2
///
/// Real pools around the simulated EC2, whose token buckets are those of a new account. Each scenario has its aims; the
/// command exits with 1 when a figure misses one.
#[derive(Debug, Parser)]
#[command(name = "fleet", bin_name = "cargo xtask fleet")]
struct Args {
    /// Nodes of each scenario, instead of its own sizes
    #[arg(long)]
    nodes: Option<usize>,
    /// Within how many seconds all nodes start
    #[arg(long, default_value_t = 5)]
    boot: u64,
    /// Pods that each node gets: 30 if it is not said, and 10 in the steady state
    #[arg(long)]
    pods: Option<usize>,
    /// How often one pod of each node is replaced in the steady state, in seconds; 0 for never
    #[arg(long, default_value_t = 600)]
    churn: u64,
    /// What nodes are told of their number (WEIR_CLUSTER_SIZE), instead of the truth; 0 to hold no call back
    #[arg(long)]
    cluster_size: Option<u32>,
    /// The scenarios; all of them if none is named
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,
    /// What is drawn (when nodes boot, delays) follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A table for people, or JSON
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Write a picture of the figures here, as SVG
    #[arg(long)]
    picture: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Text,
    Json,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let chosen: &[Scenario] = match args.scenarios.as_slice() {
        [] => Scenario::ALL,
        some => some,
    };
    let mut figures = Vec::new();
    for scenario in chosen {
        let own = scenario.sizes();
        let sizes = args.nodes.as_ref().map_or(own, std::slice::from_ref);
        for nodes in sizes {
            figures.push(scenario.play(Wanted {
                nodes: *nodes,
                pods: args.pods.unwrap_or_else(|| scenario.pods()),
                boot: args.boot * 1000,
                churn: (args.churn > 0).then_some(args.churn * 1000),
                cluster_size: args.cluster_size,
                seed: args.seed,
            }));
        }
    }
    match args.output {
        Output::Text => print!("{}", report::table(&figures)?),
        Output::Json => println!("{}", serde_json::to_string_pretty(&figures)?),
    }
    if let Some(path) = &args.picture {
        std::fs::write(path, picture::svg(&figures)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    let missed = figures
        .iter()
        .any(|it| it.aims.iter().any(|aim| !aim.met()));
    Ok(ExitCode::from(u8::from(missed)))
}
