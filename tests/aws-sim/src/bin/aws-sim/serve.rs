//! `aws-sim serve`: EC2, each instance's metadata, and the control port, until a signal.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use aws_sim::scenario::{self, Kind, Names, Scenario};
use aws_sim::server::{Control, ImdsPorts};
use aws_sim::subnet::Order;
use aws_sim::{InstanceId, Latencies, Sim, Throttling, WorldConfig};
use clap::ValueEnum;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{Output, complain, write_out};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Where EC2 listens. Port 0 takes any free port; the chosen one is printed.
    #[arg(long, default_value = "127.0.0.1:4567", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Where the control port listens.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS:PORT")]
    control: SocketAddr,
    /// Listen on addresses that are not loopback: anyone who reaches them can use it.
    #[arg(long)]
    allow_remote: bool,
    /// The file that describes the world; `aws-sim world --example` prints one. Without it: a VPC with two subnets.
    #[arg(long, value_name = "FILE")]
    world: Option<PathBuf>,
    /// A file with faults, denials and events; it may describe a world too.
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Print each request on standard error: when, who, what, with what result, tokens left, parameters.
    #[arg(long)]
    log: bool,
    /// How to print what is served.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// Never answer RequestLimitExceeded. Otherwise requests are throttled as in a new account of EC2.
    #[arg(long)]
    no_throttling: bool,
    #[command(flatten)]
    usual: Usual,
}

/// The world that is served when no file describes one.
#[derive(Debug, clap::Args)]
#[group(id = "usual", multiple = true, conflicts_with = "world")]
#[command(next_help_heading = "Without --world")]
struct Usual {
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
    /// Which free address or block is given out next. EC2 promises no order; the lowest first can be foreseen by
    /// whoever names addresses.
    #[arg(long, value_enum, default_value = "lowest")]
    order: NextFree,
    /// Milliseconds that attaching and detaching take.
    #[arg(long, default_value_t = 1000, value_name = "MS")]
    attach_ms: u64,
    /// Milliseconds that IMDS lags behind EC2.
    #[arg(long, default_value_t = 1000, value_name = "MS")]
    imds_lag_ms: u64,
    /// Milliseconds that Describe lags behind what was written.
    #[arg(long, default_value_t = 0, value_name = "MS")]
    describe_lag_ms: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum NextFree {
    /// The lowest.
    Lowest,
    /// Any.
    Random,
    /// The one that spoils the most blocks.
    Fragmenting,
}

impl Usual {
    fn config(&self) -> WorldConfig {
        let slow = Duration::from_millis(self.attach_ms);
        WorldConfig {
            region: self.region.clone(),
            seed: self.seed,
            order: match self.order {
                NextFree::Lowest => Order::Lowest,
                NextFree::Random => Order::Random,
                NextFree::Fragmenting => Order::Fragmenting,
            },
            latencies: Latencies {
                attach: slow,
                detach: slow,
                ..Latencies::default()
            },
            imds_lag: Duration::from_millis(self.imds_lag_ms),
            describe_lag: Duration::from_millis(self.describe_lag_ms),
            ..WorldConfig::default()
        }
    }

    /// A VPC with two subnets in two zones, and instances in them. Its addresses are those of EC2's default VPCs, so
    /// that they are not also those of the VPC that a caller makes.
    fn network(&self) -> String {
        let mut text = "\
            [[vpc]]\nname = \"vpc\"\ncidrs = [\"172.31.0.0/16\"]\n\
            [[subnet]]\nname = \"subnet-a\"\nzone = \"a\"\ncidr = \"172.31.0.0/20\"\n\
            [[subnet]]\nname = \"subnet-b\"\nzone = \"b\"\ncidr = \"172.31.16.0/20\"\n"
            .to_owned();
        for n in 1..=self.instances {
            let (zone, kind) = (if n % 2 == 1 { "a" } else { "b" }, &self.instance_type);
            text.push_str(&format!(
                "[[instance]]\nname = \"node-{n}\"\ntype = {kind:?}\nsubnet = \"subnet-{zone}\"\n"
            ));
        }
        text
    }
}

/// What is served.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Served {
    endpoint: String,
    control: String,
    region: String,
    account: String,
    /// By the instance's name.
    imds: BTreeMap<String, Imds>,
    vpcs: BTreeMap<String, String>,
    subnets: BTreeMap<String, String>,
    security_groups: BTreeMap<String, String>,
    instances: BTreeMap<String, String>,
    enis: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Imds {
    instance: String,
    endpoint: String,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    for address in [options.listen, options.control] {
        if !address.ip().is_loopback() && !options.allow_remote {
            let address = address.ip();
            bail!(
                "{address} is not a loopback address; say --allow-remote if all who reach it may use it"
            );
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(options))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(options: &Options) -> anyhow::Result<()> {
    let files = Files::read(options)?;
    let mut scenario = files.load(options)?;
    if options.no_throttling {
        scenario.world.config.throttling = Throttling::Off;
    }
    scenario.world.config.log_imds |= options.log;
    if scenario.steps() > 0 {
        complain("aws-sim: the steps of the story are not played; `aws-sim replay` does that");
    }
    // From the moment that anything is printed, a signal ends it in good order.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // Taken before anything is printed, so that a client that reads the page at once is served.
    let ec2 = bind(options.listen)?;
    let control = bind(options.control)?;
    let Scenario { world, names, .. } = scenario;
    let sim = Sim::new(world);
    let shutdown = CancellationToken::new();
    let imds = ImdsPorts::new(sim.clone(), options.listen.ip(), shutdown.clone());
    imds.open()?;
    let served = served(&sim, &names, (&ec2, &control), &imds)?;

    let mut servers = JoinSet::new();
    let serving = Control::new(sim.clone(), names, imds.clone());
    servers.spawn(imds.follow());
    let stop = shutdown.clone();
    servers.spawn(async move { serving.serve(control, stop).await });
    let (serving, stop) = (sim.clone(), shutdown.clone());
    servers.spawn(async move { serving.serve_ec2(ec2, stop).await });
    if options.log {
        let stop = shutdown.clone();
        servers.spawn(async move { follow(&sim, &stop).await });
    }
    write_out(&match options.output {
        Output::Text => page(&served),
        Output::Json => serde_json::to_string(&served)? + "\n",
    })?;

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

/// Prints the log on standard error as it grows, to its end.
async fn follow(sim: &Sim, shutdown: &CancellationToken) -> std::io::Result<()> {
    /// How late a line may be.
    const TICK: Duration = Duration::from_millis(20);
    let mut seen = 0;
    loop {
        let ended = shutdown
            .run_until_cancelled(tokio::time::sleep(TICK))
            .await
            .is_none();
        let new = sim.look(|world, _| {
            let lines = world.log.since(seen).map(|entry| format!("{entry}\n"));
            let new: String = lines.collect();
            seen = world.log.pushed();
            new
        });
        if !new.is_empty() {
            complain(new.trim_end());
        }
        if ended {
            return Ok(());
        }
    }
}

/// What the world is made from.
struct Files {
    world: Option<(String, String)>,
    scenario: Option<(String, String)>,
    /// When no file describes a network.
    usual: String,
}

impl Files {
    fn read(options: &Options) -> anyhow::Result<Files> {
        Ok(Files {
            world: options.world.as_deref().map(read).transpose()?,
            scenario: options.scenario.as_deref().map(read).transpose()?,
            usual: options.usual.network(),
        })
    }

    fn load(&self, options: &Options) -> anyhow::Result<Scenario<'_>> {
        let scenario = self
            .scenario
            .as_ref()
            .map(|(name, text)| (name.as_str(), text.as_str()));
        let described = scenario.map_or(Ok(false), scenario::describes_network)?;
        let mut files = Vec::new();
        match &self.world {
            Some((name, text)) => files.push((name.as_str(), text.as_str())),
            None if described => {}
            None => files.push(("the usual world", self.usual.as_str())),
        }
        files.extend(scenario);
        Ok(scenario::load(&files, &options.usual.config())?)
    }
}

/// A file's name and text.
pub(crate) fn read(path: &Path) -> anyhow::Result<(String, String)> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {name}"))?;
    Ok((name, text))
}

fn served(
    sim: &Sim,
    names: &Names,
    (ec2, control): (&TcpListener, &TcpListener),
    imds: &ImdsPorts,
) -> anyhow::Result<Served> {
    let all = |kind| -> BTreeMap<String, String> {
        names
            .of(kind)
            .map(|(name, id)| (name.to_owned(), id.to_owned()))
            .collect()
    };
    let instances = all(Kind::Instance);
    let open = imds.endpoints();
    let endpoints = instances.iter().filter_map(|(name, id)| {
        let endpoint = format!("http://{}", open.get(&InstanceId::from(id.as_str()))?);
        Some((
            name.clone(),
            Imds {
                instance: id.clone(),
                endpoint,
            },
        ))
    });
    let (region, account) =
        sim.look(|world, _| (world.config.region.clone(), world.config.account.clone()));
    Ok(Served {
        endpoint: format!("http://{}", ec2.local_addr()?),
        control: format!("http://{}", control.local_addr()?),
        region,
        account,
        imds: endpoints.collect(),
        vpcs: all(Kind::Vpc),
        subnets: all(Kind::Subnet),
        security_groups: all(Kind::Group),
        instances,
        enis: all(Kind::Eni),
    })
}

/// What is there, as comments, and what a client needs, for copying.
fn page(served: &Served) -> String {
    /// Instances that are printed; the others would hide the rest.
    const SHOWN: usize = 20;
    let mut page = format!("# EC2 of account {} in {}\n", served.account, served.region);
    for (kind, all) in [
        ("VPC", &served.vpcs),
        ("subnet", &served.subnets),
        ("security group", &served.security_groups),
        ("ENI", &served.enis),
    ] {
        page.extend(
            all.iter()
                .take(SHOWN)
                .map(|(name, id)| format!("# {kind} {name} {id}\n")),
        );
    }
    for (name, id) in served.instances.iter().take(SHOWN) {
        page.push_str(&format!("# instance {name} {id}\n"));
        if let Some(Imds { endpoint, .. }) = served.imds.get(name) {
            page.push_str(&format!(
                "#   AWS_EC2_METADATA_SERVICE_ENDPOINT={endpoint}\n"
            ));
        }
    }
    if let more @ 1.. = served.instances.len().saturating_sub(SHOWN) {
        page.push_str(&format!(
            "# and {more} more instances: --output json has them all\n"
        ));
    }
    if let more @ 1.. = served.instances.len().saturating_sub(served.imds.len()) {
        page.push_str(&format!(
            "# {more} of them have no metadata: they are too many for ports
"
        ));
    }
    let Served {
        endpoint,
        control,
        region,
        ..
    } = served;
    page.push_str(&format!(
        "export AWS_ENDPOINT_URL_EC2={endpoint}\nexport AWS_REGION={region}\n\
         export AWS_DEFAULT_REGION={region}\nexport AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE\n\
         export AWS_SECRET_ACCESS_KEY=any\nexport AWS_SIM_CONTROL={control}\n"
    ));
    page
}

fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).with_context(|| {
        format!(
            "listening on {address}: if another program has the port, name another, or 0 for any"
        )
    })
}
