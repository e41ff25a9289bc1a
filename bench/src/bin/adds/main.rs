//! What ADD and DEL of the real plugin cost, by how many pods the node has, beside the kernel's floor:
//! `cargo xtask bench adds`.
//!
//! Four nodes stand side by side in one lab, with 1, 110, 250 and 737 pods, and are measured by turns, so that a machine
//! that is slower for a while is so for all. In each turn the same is done by the floor: an empty static program is
//! started, and this process, which runs already and asks nobody, makes the same link, addresses, routes and neighbours by
//! netlink messages that were laid out beforehand.

#![expect(
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program for people that measures: it panics when something is not there, and prints"
)]

mod floor;
mod memory;
mod pods;
mod report;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use suites::{node::Node, programs};
use vpc_lab::{Lab, LabConfig, NodeConfig, SubnetConfig, sandbox};

use crate::pods::{Samples, Standing};

/// Measure ADD and DEL beside the kernel's floor
///
/// The exit status is 0 whatever the figures: they are this machine's, and it may be busy.
#[derive(Debug, Parser)]
#[command(name = "adds", bin_name = "cargo xtask bench adds")]
struct Cli {
    /// ADDs and DELs one after another, for each number of pods
    #[arg(long, default_value_t = 100)]
    serial: usize,
    /// Bursts of thirty ADDs and DELs at once, for each number of pods
    #[arg(long, default_value_t = 6)]
    bursts: usize,
    /// How many pods stand on the nodes
    #[arg(long, value_delimiter = ',', default_values_t = [1, 110, 250, 737])]
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
    sandbox::enter().context("nodes of the lab need namespaces of their own")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let lab = lab(&cli.pods)?;
    let mut standing = Vec::new();
    for pods in &cli.pods {
        eprintln!("a node with {pods} pods");
        let mut node = Node::new(&lab, &name(*pods))
            .with("ENABLE_PREFIX_DELEGATION", true)
            .with("MINIMUM_IP_TARGET", pods + 16 + 2 * pods::BURST)
            .with("WARM_IP_TARGET", 2 * pods::BURST)
            .with("IP_COOLDOWN_PERIOD", 1)
            .with("WEIR_CLUSTER_SIZE", 1);
        runtime.block_on(pods::warm(&mut node, *pods))?;
        standing.push(Standing::new(&lab, node, *pods)?);
    }
    let mut samples: Vec<Samples> = standing.iter().map(|_| Samples::default()).collect();
    eprintln!("one after another");
    for turn in 0..cli.serial {
        for (node, samples) in standing.iter().zip(&mut samples) {
            node.one(turn, samples)?;
        }
    }
    eprintln!("thirty at once");
    for turn in 0..cli.bursts {
        for (node, samples) in standing.iter().zip(&mut samples) {
            node.burst(turn, samples)?;
        }
    }
    let report = report::Report::new(
        &cli.pods,
        samples,
        memory::peak(&standing[0])?,
        std::fs::metadata(programs::path("weir-cni")?)?.len(),
    );
    match cli.output {
        Output::Text => print!("{report}"),
        Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
    }
    Ok(ExitCode::SUCCESS)
}

fn name(pods: usize) -> String {
    format!("n{pods}")
}

/// One subnet with room for all, a node for each number of pods.
fn lab(pods: &[usize]) -> anyhow::Result<Lab> {
    let defaults = LabConfig::default();
    let subnet = SubnetConfig {
        cidr: "10.0.64.0/18".parse()?,
        ..defaults.subnets[0].clone()
    };
    let node = |pods: &usize| NodeConfig {
        name: name(*pods),
        // 15 ENIs of 49 slots, each an address or a /28.
        instance_type: "m5.24xlarge".to_owned(),
        subnet: subnet.name.clone(),
        public_address: None,
    };
    Lab::start(LabConfig {
        nodes: pods.iter().map(node).collect(),
        subnets: vec![subnet.clone()],
        link_lag: std::time::Duration::from_millis(50),
        ..defaults
    })
}
