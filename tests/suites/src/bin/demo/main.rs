//! The demo: a VPC in a box, two nodes with the real ipamd and the real CNI plugin, and packets that show
//! what works. `cargo xtask demo` builds and runs it.

#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "it is a program for people"
)]

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use aws_sim::faults::{Effect, Fault};
use clap::{Parser, ValueEnum};
use proto::v1::GetPoolResponse;
use suites::node::Node;
use vpc_lab::hold::{self, Side};
use vpc_lab::{Lab, LabConfig, NodeConfig, sandbox};

mod checks;
mod latency;
mod page;
mod pods;
mod report;

use page::Page;
use pods::Pods;
use report::Report;

/// See Weir work: two nodes in a simulated VPC, pods with VPC addresses, and real packets between them.
///
/// Everything happens in network namespaces of the demo's own, against a simulated EC2; nothing outside is
/// touched, and nothing is left behind. The exit status is 1 if any check fails.
#[derive(Debug, Parser)]
#[command(name = "demo", bin_name = "cargo xtask demo", version)]
pub(crate) struct Cli {
    /// Leave the lab up with its pods, and print how to look around
    #[arg(long)]
    keep: bool,

    /// Print a page for people, or one JSON object for programs
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,

    /// How many ADDs to time on a warm pool, beside the kernel's own time for the same links; 0 for none
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=200))]
    adds: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// As EC2 has it on a good day: it takes a second to attach an ENI, and the link appears a moment later.
const LINK_LAG: Duration = Duration::from_millis(1200);

/// A call to EC2 is answered in a tenth of a second or more.
const CALL: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let holder = if cli.keep {
        match hold::begin()? {
            Side::Front(code) => return Ok(code),
            Side::Holder(holder) => Some(holder),
        }
    } else {
        sandbox::enter().context("the demo needs namespaces of its own")?;
        None
    };
    let page = Page::new(cli.output == Output::Text);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    page.title();
    page.step("Raising the VPC: two m5.large nodes, each in a subnet of its own");
    let lab = Lab::start(lab_config())?;
    lab.sim().inject(Fault::on_all(Effect::Latency(CALL)));
    page.vpc(&lab);
    let (mut a, mut b) = (Node::new(&lab, "a"), Node::new(&lab, "b"));
    let mut pods = Pods::new(&lab);
    let report = runtime.block_on(demo(cli, &page, &lab, [&mut a, &mut b], &mut pods))?;

    page.calls(&report);
    page.verdict(&report);
    if cli.output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    let code = u8::from(!report.ok());
    if let Some(holder) = holder {
        page.look_around(&a);
        holder.keep(KEPT, &lab, code)?;
    } else {
        runtime.block_on(async {
            a.stop_ipamd().await?;
            b.stop_ipamd().await
        })?;
    }
    Ok(ExitCode::from(code))
}

/// What `vpc-lab` knows a kept lab by.
const KEPT: &str = "demo";

fn lab_config() -> LabConfig {
    let mut config = LabConfig {
        link_lag: LINK_LAG,
        ..LabConfig::default()
    };
    let subnet = config
        .subnets
        .first()
        .map(|subnet| subnet.name.clone())
        .unwrap_or_default();
    config.nodes.push(NodeConfig {
        name: latency::NODE.to_owned(),
        instance_type: "m5.4xlarge".to_owned(),
        subnet,
        public_address: None,
    });
    config
}

async fn demo<'lab>(
    cli: &Cli,
    page: &Page,
    lab: &'lab Lab,
    [a, b]: [&mut Node<'lab>; 2],
    pods: &mut Pods<'lab>,
) -> anyhow::Result<Report> {
    page.step("Starting ipamd on each node");
    a.start_ipamd().await?;
    b.start_ipamd().await?;
    let warm = |pool: &GetPoolResponse| pool.totals.is_some_and(|totals| totals.free > 0);
    page.ipamd(&[
        a.wait_for_pool("the first addresses", warm).await?,
        b.wait_for_pool("the first addresses", warm).await?,
    ]);

    page.step("Adding 12 pods to node a and 2 to node b, as a container runtime would");
    for n in 1..=12 {
        page.pod(&pods.add(a, &format!("a-{n}"))?);
    }
    for n in 1..=2 {
        page.pod(&pods.add(b, &format!("b-{n}"))?);
    }
    pods.find_enis(&[a, b]).await?;
    page.pools(&[("a", a.pool().await?), ("b", b.pool().await?)]);

    page.step("Sending packets");
    let mut report = Report::new(pods);
    lab.settle()?;
    checks::packets(lab, a, b, pods, |check| {
        page.check(&check);
        report.checks.push(check);
    })?;
    report.count_calls(lab);

    if cli.adds > 0 {
        page.step("Timing ADD on a warm pool, on a third and larger node (m5.4xlarge)");
        let figures = latency::measure(lab, cli.adds).await?;
        page.latency(&figures);
        report.latency = Some(figures);
    }

    if !cli.keep {
        page.step("Deleting all pods");
        pods.delete()?;
        for node in [a, b] {
            let check = checks::nothing_left(node).await?;
            page.check(&check);
            report.checks.push(check);
        }
    }
    Ok(report)
}
