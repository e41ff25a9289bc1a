//! `aws-sim`: the simulated EC2 and IMDS as a command.

use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use aws_sim::{
    ImdsFor, InstanceId, Latencies, LaunchSpec, Sim, SimTime, Throttling, World, WorldConfig,
};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// EC2's network and IMDSv2, simulated, as strict as EC2: for software that manages ENIs.
///
/// Starts with a VPC of two subnets and some instances, and prints what a client needs. Everything is in memory
/// and gone at the end.
#[derive(Debug, Parser)]
#[command(after_help = "\
EXAMPLE
  aws-sim --listen 127.0.0.1:4567
  In another shell, with the variables that it printed:
    aws ec2 describe-network-interfaces
    aws ec2 create-network-interface --subnet-id subnet-... --ipv4-prefix-count 1

LOOKING INSIDE
  curl http://127.0.0.1:4567/_sim/world    VPCs, subnets and their free addresses, instances, ENIs
  curl http://127.0.0.1:4567/_sim/calls    every request with what it got, and counts by action

METADATA
  Each instance has an IMDS on a port of its own. For a client that runs as that instance:
    export AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:PORT")]
struct Options {
    /// Where EC2 listens. Port 0 takes any free port; the chosen one is printed.
    #[arg(long, default_value = "127.0.0.1:4567", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Listen on an address that is not loopback: anyone who reaches it can use it.
    #[arg(long)]
    allow_remote: bool,
    /// The Region's name.
    #[arg(long, default_value = "us-east-1")]
    region: String,
    /// The type of the instances.
    #[arg(long, default_value = "m5.large")]
    instance_type: String,
    /// How many instances, by turns in the two subnets.
    #[arg(long, default_value_t = 1)]
    instances: u16,
    /// The same seed gives the same ids, MAC addresses and choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Milliseconds that attaching and detaching take.
    #[arg(long, default_value_t = 1000, value_name = "MS")]
    attach_ms: u64,
    /// Milliseconds that IMDS lags behind EC2.
    #[arg(long, default_value_t = 1000, value_name = "MS")]
    imds_lag_ms: u64,
    /// Milliseconds that Describe lags behind what was written.
    #[arg(long, default_value_t = 0, value_name = "MS")]
    describe_lag_ms: u64,
    /// Never answer RequestLimitExceeded. Otherwise requests are throttled as in a new account of EC2.
    #[arg(long)]
    no_throttling: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> anyhow::Result<()> {
    if !options.listen.ip().is_loopback() && !options.allow_remote {
        let address = options.listen.ip();
        bail!(
            "{address} is not a loopback address; say --allow-remote if all who reach it may use it"
        );
    }
    let (world, instances) = seed_world(&options)?;
    // Taken before anything is printed, so that a client that reads the page at once is served.
    let ec2 = bind(options.listen)?;
    let ec2_address = ec2.local_addr()?;
    let mut page = describe(&world, ec2_address, &options.region);
    let sim = Sim::new(world);
    let shutdown = CancellationToken::new();
    let mut servers = tokio::task::JoinSet::new();
    for id in instances {
        let listener = bind(SocketAddr::new(options.listen.ip(), 0))?;
        let address = listener.local_addr()?;
        page.push_str(&format!(
            "# IMDS of {id}\n#   AWS_EC2_METADATA_SERVICE_ENDPOINT=http://{address}\n"
        ));
        let (sim, shutdown) = (sim.clone(), shutdown.clone());
        servers.spawn(async move {
            sim.serve_imds(listener, ImdsFor::Instance(id), shutdown)
                .await
        });
    }
    let serving = sim.clone();
    let stop = shutdown.clone();
    servers.spawn(async move { serving.serve_ec2(ec2, stop).await });
    write_out(&page)?;

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        Some(ended) = servers.join_next() => ended?.context("a listener ended")?,
    }
    shutdown.cancel();
    while let Some(ended) = servers.join_next().await {
        ended??;
    }
    Ok(())
}

/// A VPC with two subnets in two zones, and instances in them.
fn seed_world(options: &Options) -> anyhow::Result<(World, Vec<InstanceId>)> {
    let slow = Duration::from_millis(options.attach_ms);
    let mut world = World::new(WorldConfig {
        region: options.region.clone(),
        seed: options.seed,
        latencies: Latencies {
            attach: slow,
            detach: slow,
            ..Latencies::default()
        },
        imds_lag: Duration::from_millis(options.imds_lag_ms),
        describe_lag: Duration::from_millis(options.describe_lag_ms),
        throttling: if options.no_throttling {
            Throttling::Off
        } else {
            Throttling::Ec2
        },
        ..WorldConfig::default()
    });
    let vpc = world.add_vpc("10.0.0.0/16".parse()?)?;
    let mut subnets = Vec::new();
    for (cidr, letter) in [("10.0.0.0/20", "a"), ("10.0.16.0/20", "b")] {
        let az = format!("{}{letter}", options.region);
        subnets.push(world.add_subnet(&vpc, cidr.parse()?, &az)?);
    }
    let mut instances = Vec::new();
    let turns = subnets.iter().cycle().take(options.instances.into());
    for subnet in turns {
        let spec = LaunchSpec::new(&options.instance_type, subnet);
        let id = world.launch_instance(SimTime::ZERO, spec);
        instances.push(id.context("launching the instances")?);
    }
    Ok((world, instances))
}

/// What is there, as comments, and what a client needs, for `eval` or copying.
fn describe(world: &World, ec2: SocketAddr, region: &str) -> String {
    let fabric = world.fabric();
    let mut page = String::new();
    for vpc in &fabric.vpcs {
        page.push_str(&format!(
            "# VPC {} {}\n",
            vpc.id,
            vpc.cidrs.first().copied().unwrap_or_default()
        ));
    }
    for subnet in &fabric.subnets {
        page.push_str(&format!(
            "#   {} {} in {}\n",
            subnet.id, subnet.cidr, subnet.az
        ));
    }
    for eni in fabric.enis {
        let instance = eni.instance_id.unwrap_or_default();
        page.push_str(&format!(
            "#   {instance} with {} {}\n",
            eni.id, eni.primary_address
        ));
    }
    page.push_str(&format!(
        "export AWS_ENDPOINT_URL_EC2=http://{ec2}\nexport AWS_REGION={region}\n\
         export AWS_DEFAULT_REGION={region}\nexport AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE\n\
         export AWS_SECRET_ACCESS_KEY=any\n"
    ));
    page
}

fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).with_context(|| format!("listening on {address}"))
}

fn write_out(page: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    out.write_all(page.as_bytes())?;
    out.flush()
}
