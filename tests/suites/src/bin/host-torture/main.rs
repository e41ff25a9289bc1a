//! The torture of the host: the real ipamd and the real plugin on a node of the lab, where everything happens at once:
//! `cargo xtask host-torture`.
//!
//! - [`kubelet`] is several container runtimes at once: pods come and go by ADD, CHECK, DEL and GC, in every order that a
//!   runtime may choose, and the plugin is killed in the middle of them.
//! - [`daemon`] ends ipamd by SIGTERM and by SIGKILL, and starts it again.
//! - [`stranger`] deletes what is not its own: links, routes, rules, neighbours, nftables.
//! - [`agree`] compares, when all is quiet, what kernel, books and EC2 hold.
//!
//! What is decided by chance follows from the seed. What happens at the same time is the machine's own choice, so a run
//! with the same seed is like the one before, but not the same.

#![expect(
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program for people that tests: it panics when something is not there, and prints"
)]

mod agree;
mod daemon;
mod kubelet;
mod random;
mod stranger;
mod world;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use suites::node::Node;
use vpc_lab::{Lab, LabConfig, NodeConfig, sandbox};

use crate::random::Random;
use crate::stranger::Damage;
use crate::world::World;

/// Play a node on which everything happens at once, and see that nothing is left over
///
/// The exit status is 1 if a promise was broken, or if a run of a minute or more has not met all that it should.
#[derive(Debug, Parser)]
#[command(name = "host-torture", bin_name = "cargo xtask host-torture")]
struct Cli {
    /// For how long; the end takes some seconds more
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The seed of all that is decided by chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What is damaged by others
    #[arg(long, value_enum, default_value_t = Damage::Node)]
    damage: Damage,
    /// Text for people, or one JSON object
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// A run of so many seconds has the time for what is lost by runtimes: GC spares what is younger than a minute.
const FORGETFUL: u64 = 180;

/// Container runtimes at the same time.
const RUNTIMES: u64 = 4;

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    sandbox::enter().context("a node of the lab needs namespaces of its own")?;
    let begun = Instant::now();
    eprintln!("seed {}, {} s", cli.seed, cli.seconds);
    let defaults = LabConfig::default();
    let lab = Lab::start(LabConfig {
        nodes: vec![NodeConfig {
            // 14 addresses on each of 4 ENIs: pods are on several.
            instance_type: "m5.xlarge".to_owned(),
            ..defaults.nodes[0].clone()
        }],
        link_lag: Duration::from_millis(50),
        seed: cli.seed,
        ..defaults
    })?;
    let mut node = Node::new(&lab, "a")
        .with("WARM_IP_TARGET", 3)
        .with("MINIMUM_IP_TARGET", 24)
        .with("IP_COOLDOWN_PERIOD", 1)
        // The account is its own.
        .with("WEIR_CLUSTER_SIZE", 1);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(node.start_ipamd())?;

    let world = World::new(&lab, &node, cli.damage, cli.seconds >= FORGETFUL);
    let over = begun + Duration::from_secs(cli.seconds);
    let pods = std::thread::scope(|scope| -> anyhow::Result<_> {
        let kubelets: Vec<_> = (0..RUNTIMES)
            .map(|n| {
                let (world, random) = (&world, Random::of(cli.seed, n));
                scope.spawn(move || kubelet::run(world, random, n, over))
            })
            .collect();
        let (collector, others) = (Random::of(cli.seed, 100), Random::of(cli.seed, 101));
        scope.spawn(|| kubelet::collect(&world, collector, over));
        scope.spawn(|| stranger::run(&world, others, over));
        let random = Random::of(cli.seed, 102);
        let lived = runtime.block_on(daemon::run(&world, &mut node, random, over));
        let mut pods = Vec::new();
        for kubelet in kubelets {
            let kept = kubelet.join();
            pods.extend(kept.map_err(|_| anyhow::anyhow!("a kubelet's thread panicked"))?);
        }
        lived.map(|()| pods)
    });
    let ended = pods.and_then(|pods| runtime.block_on(agree::end(&world, &mut node, pods)));
    if let Err(error) = &ended {
        world.broken(format!("{error:#}"));
    }
    let report = world.report(cli.seed, cli.seconds);
    match cli.output {
        Output::Text => print!("{report}"),
        Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
    }
    if !report.broken.is_empty() {
        eprintln!("the end of ipamd's log:\n{}", node.log_tail());
        return Ok(ExitCode::FAILURE);
    }
    let missed = world.missed();
    if cli.seconds >= 60 && !missed.is_empty() {
        eprintln!("never met: {}", missed.join(", "));
        return Ok(ExitCode::FAILURE);
    }
    ensure!(report.verbs > 0, "nothing happened");
    Ok(ExitCode::SUCCESS)
}
