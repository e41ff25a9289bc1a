//! What a packet costs on its way through the host, by how many pods the node has, beside aws-node's two rules for each
//! pod: `cargo xtask bench packets`.
//!
//! Each node is a namespace with a pod at either end of the measured way, and as many other pods as its number says, which
//! do not talk: all that the kernel has of them is what a packet may have to pass: routes, neighbours, rules. All nodes stand
//! side by side and are measured by turns; a ratio is that of two nodes in the same turn, and its median is told.

#![expect(
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program for people that measures: it panics when something is not there, and prints"
)]

mod report;
mod traffic;
mod world;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use vpc_lab::sandbox;

use crate::report::Report;
use crate::world::{Layout, World};

/// Measure packets through the host
///
/// The exit status is 0 whatever the figures: they are this machine's, and it may be busy.
#[derive(Debug, Parser)]
#[command(name = "packets", bin_name = "cargo xtask bench packets")]
struct Cli {
    /// How many times each node is measured
    #[arg(long, default_value_t = 25)]
    turns: usize,
    /// How many pods the nodes have
    #[arg(long, value_delimiter = ',', default_values_t = [1, 110, 737, 2000])]
    pods: Vec<usize>,
    /// A table for people, or one JSON object
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    sandbox::enter().context("nodes need namespaces of their own")?;
    let mut worlds = Vec::new();
    for layout in [Layout::Weir, Layout::TwoRulesPerPod] {
        for pods in &cli.pods {
            eprintln!("{}: {pods} pods", layout.name());
            worlds.push(World::new(layout, *pods)?);
        }
    }
    let mut turns = Vec::new();
    for turn in 0..cli.turns {
        eprint!("\rturn {} of {}", turn + 1, cli.turns);
        let seen: Result<Vec<_>, _> = worlds.iter().map(World::measure).collect();
        turns.push(seen?);
    }
    eprintln!();
    let report = Report::new(&worlds, &turns);
    match cli.output {
        Output::Text => print!("{report}"),
        Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
    }
    Ok(ExitCode::SUCCESS)
}
