//! The node daemon: keeps a pool of VPC addresses and serves it over gRPC.
//!
//! This file is wiring. What to do is decided in `ipam`, and carried out by `cloud`, `datapath` and `books`.

mod clock;
mod config;
mod effects;
mod egress;
mod engine;
mod eni_tags;
mod forget;
mod grpc;
mod install;
mod ipv6;
mod probe;
mod reconcile;
mod socket;
mod spool;
mod vpc_cidrs;
mod watch;

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use books::{Books, Distrust, Identity, Loaded};
use cloud::{Ec2, Ec2Identity, Metadata, NodeFacts};
use datapath::{EgressPlan, Host, NodePlan};
use ipam::{Event, Families, Ledger, Mac, Node, SecurityGroupId, SeenEni, State};
use ipnet::Ipv4Net;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing_subscriber::EnvFilter;

use config::{Cli, Command, Config, LogFormat, LogLevel};
use effects::Hands;
use engine::Engine;
use forget::Forgetter;
use install::{ConflistArgs, InstallError};
use reconcile::{Reconciler, Repairs};
use socket::Claim;
use spool::Spool;
use watch::Watch;

/// How long the last answers and the last write of the books may take. Kubernetes kills after 30 s.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How long IMDS may take to show the ENIs. Without it EC2 is asked.
const SEEN_PATIENCE: Duration = Duration::from_secs(5);

/// Why ipamd does not start, or no longer runs.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    #[error(transparent)]
    Socket(#[from] socket::SocketError),
    #[error("the node can't be learned")]
    Metadata(#[from] cloud::MetadataError),
    #[error(
        "the limits of instance type {instance_type} are not known, and EC2 does not tell them"
    )]
    Limits {
        instance_type: String,
        #[source]
        source: ipam::CallError,
    },
    #[error(transparent)]
    Ipv6(#[from] ipv6::Ipv6Error),
    #[error("EC2 can't be asked")]
    Ec2(#[from] cloud::HttpError),
    #[error("the books can't be opened")]
    Books(#[from] books::OpenError),
    #[error("the node's network can't be prepared")]
    Datapath(#[from] datapath::HostError),
    #[error(transparent)]
    Serve(#[from] grpc::ServeError),
    #[error("the runtime can't be told that the node is ready")]
    Conflist(#[from] InstallError),
    #[error("{step} failed")]
    System {
        step: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the pool's task ended by itself: this is a bug")]
    PoolEnded,
}

fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(said) => {
            // Help and version come this way too.
            drop(said.print());
            return if said.use_stderr() {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    // The pool is one task, and each RPC is short: more threads would only wait.
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error),
    };
    match cli.command {
        Some(Command::Probe { socket }) => match runtime.block_on(probe::probe(&socket)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&error),
        },
        Some(Command::Install(args)) => match install::run(&args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&error),
        },
        None => {
            start_log(cli.config.log_level, cli.config.log_format);
            let ended = runtime.block_on(run(&cli.config));
            // What still waits for EC2 is settled by the books at the next start.
            runtime.shutdown_timeout(Duration::from_millis(200));
            match ended {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    tracing::error!("ipamd ends: {}", sentence(&error));
                    ExitCode::FAILURE
                }
            }
        }
    }
}

async fn run(config: &Config) -> Result<(), Failure> {
    config.check()?;
    for setting in config::settings_without_effect(|name| std::env::var(name).ok()) {
        tracing::warn!("{setting}");
    }
    let tags = config.additional_eni_tags().into_iter();
    for sentence in tags.flat_map(|tags| &tags.left_out) {
        tracing::warn!("{sentence}");
    }
    let stop = stop_on_signals()?;
    let claim = Claim::take(&config.socket)?;
    let started = tokio::select! {
        started = start(config) => started?,
        () = stop.cancelled() => return Ok(()),
    };
    serve(config, &claim, started, stop).await
}

/// Everything that is known before the first event.
struct Started {
    state: State,
    books: Books,
    ledger: Option<Ledger>,
    /// There were books, and they are not trusted.
    lost: bool,
    /// The ENIs as IMDS shows them, if it does.
    seen: Option<Vec<SeenEni>>,
    metadata: Metadata,
    /// The primary ENI's link and security groups.
    primary: (Mac, Vec<SecurityGroupId>),
    ec2: Arc<Ec2>,
    host: Arc<Host>,
    node: NodePlan,
    egress: Option<EgressPlan>,
    vpc_cidrs: Vec<Ipv4Net>,
}

async fn start(config: &Config) -> Result<Started, Failure> {
    let settings = config.settings()?;
    let metadata = Metadata::from_env();
    let facts = metadata.node(config.imds_patience()).await?;
    let identity = Ec2Identity {
        instance_id: facts.instance_id.clone(),
        primary_eni: facts.primary_eni.clone(),
        vpc_id: facts.vpc_id.clone(),
        cluster_name: config.cluster_name(),
        additional_tags: config
            .additional_eni_tags()
            .cloned()
            .unwrap_or_default()
            .tags,
        manage_untagged: config.manage_untagged(),
    };
    let seen = metadata.enis(SEEN_PATIENCE).await;
    let ec2 = Arc::new(Ec2::from_env(&facts, identity, metadata.clone()).await?);
    let node = node_of(&facts, &ec2).await?;
    tracing::info!(
        instance = %node.instance_id,
        r#type = node.instance_type,
        zone = node.availability_zone,
        vpc = %node.vpc_id,
        subnet = %node.subnet_id,
        address = %facts.primary_address,
        enis_per_card = ?node.limits.enis_per_card,
        slots_per_eni = node.limits.ipv4_slots_per_eni,
        "learned the node"
    );
    let ipv6 = settings.families != Families::V4;
    if ipv6 {
        let address = ipv6::address_of(&node, &metadata, config.imds_patience()).await?;
        tracing::info!(%address, "pods get IPv6 addresses");
    }

    let egress = egress::plan(config, &facts, &node, &metadata).await?;

    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_err(|source| Failure::System {
            step: "reading the boot's id",
            source,
        })?
        .trim()
        .to_owned();
    let (books, ledger, lost) = open_books(config, &node, boot_id.clone())?;
    let enis = ledger.iter().flat_map(|ledger| &ledger.enis);
    let managed = enis.filter(|eni| eni.managed);
    let links = managed.filter_map(|eni| eni.link.as_ref());
    ec2.remember_subnets(links.map(|link| (link.subnet_id.clone(), link.subnet_cidr)));

    Ok(Started {
        state: State::new(node, settings, &boot_id),
        books,
        ledger,
        lost,
        seen,
        metadata,
        primary: (facts.primary_mac, facts.security_groups.clone()),
        ec2,
        host: Arc::new(Host::open()?),
        node: plan(config, &facts, ipv6),
        egress,
        vpc_cidrs: facts.vpc_cidrs,
    })
}

async fn serve(
    config: &Config,
    claim: &Claim,
    started: Started,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let tasks = TaskTracker::new();
    let (plan, node) = tokio::sync::watch::channel(started.node);
    let mut hands = None;
    let (engine, pool) = engine::build(started.state, started.books, |outcomes| {
        let carry = Hands {
            ec2: started.ec2,
            connections: Forgetter::start(Arc::clone(&started.host), config.cooldown()),
            host: started.host,
            node,
            egress: started.egress,
            eni_mtu: config.eni_mtu,
            tasks: tasks.clone(),
            outcomes,
        };
        hands = Some(carry.clone());
        move |work| carry.begin(work)
    })
    .map_err(|source| Failure::System {
        step: "starting the thread for the books",
        source,
    })?;
    let mut pool = tokio::spawn(pool.run());
    if let Some(mode) = config.mode() {
        engine.tell(Event::SetMode(Some(mode)));
    }
    engine.tell(Event::Start {
        books: started.ledger,
        seen: started.seen,
        lost: started.lost,
    });

    let spool = Spool::beside(&config.socket, engine.clone());
    // Gone can't be: the pool has only just begun.
    spool.replay().await.ok();
    tasks.spawn(spool.clone().watch());

    // These end with the runtime: nothing waits for them.
    let (primary, groups) = started.primary;
    let watch = Watch::new(started.metadata.clone(), engine.clone(), primary, groups);
    tokio::spawn(watch.run());
    tokio::spawn(vpc_cidrs::watch(
        started.metadata,
        started.vpc_cidrs,
        config.snat.excluded().to_vec(),
        plan,
    ));
    let repairs = Repairs::default();
    if let Some(hands) = hands {
        let reconciler = Reconciler {
            hands,
            engine: engine.clone(),
            repairs: repairs.clone(),
        };
        tokio::spawn(reconciler.run());
    }

    let listener = claim.listen()?;
    tracing::info!(socket = %config.socket.display(), "listening");
    let closing = CancellationToken::new();
    let service = grpc::Service {
        engine: engine.clone(),
        spool,
        pod_mtu: config.pod_mtu(),
        repairs,
    };
    let mut server = tokio::spawn(grpc::serve(listener, service, closing.clone()));

    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        served = &mut server => served.unwrap_or(Ok(())).map_err(Failure::from),
        _ = &mut pool => Err(Failure::PoolEnded),
        // Restarted, ipamd tries again; going on would leave a node that is never ready, and a log to say why.
        Err(error) = make_node_ready(&config.conflist, started.egress, &engine) => Err(error.into()),
    };
    tracing::info!("shutting down: waiters are refused, the books are flushed");
    closing.cancel();
    engine.stop();
    // Clients that keep their connection open (a health watch) do not hold ipamd up.
    let last_words = async {
        if !pool.is_finished() {
            drop(pool.await);
        }
        if !server.is_finished() {
            drop(server.await);
        }
    };
    if tokio::time::timeout(LAST_WORDS, last_words).await.is_err() {
        tracing::warn!("the last answers took longer than {LAST_WORDS:?}");
    }
    claim.withdraw();
    ended
}

/// Writes the conflist once the pool has started; a runtime that finds it sends pods.
async fn make_node_ready(
    conflist: &ConflistArgs,
    egress: Option<EgressPlan>,
    engine: &Engine,
) -> Result<(), InstallError> {
    // A pool that is gone is told elsewhere.
    if engine.started().await.is_ok()
        && let Some(path) = conflist.write(egress.map(EgressPlan::egress))?
    {
        tracing::info!(conflist = %path.display(), "wrote the conflist: the node is ready");
    }
    Ok(())
}

fn stop_on_signals() -> Result<CancellationToken, Failure> {
    let failed = |source| Failure::System {
        step: "listening for signals",
        source,
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM"),
            _ = interrupt.recv() => tracing::info!("SIGINT"),
        }
        told.cancel();
    });
    Ok(stop)
}

async fn node_of(facts: &NodeFacts, ec2: &Ec2) -> Result<Node, Failure> {
    let limits = match cloud::limits_of(&facts.instance_type) {
        Some(limits) => limits,
        None => ec2
            .instance_limits(&facts.instance_type)
            .await
            .map_err(|source| Failure::Limits {
                instance_type: facts.instance_type.clone(),
                source,
            })?,
    };
    Ok(Node {
        instance_id: facts.instance_id.clone(),
        instance_type: facts.instance_type.clone(),
        availability_zone: facts.availability_zone.clone(),
        vpc_id: facts.vpc_id.clone(),
        primary_eni: facts.primary_eni.clone(),
        primary_mac: facts.primary_mac,
        subnet_id: facts.subnet_id.clone(),
        subnet_cidr: facts.subnet_cidr,
        security_groups: facts.security_groups.clone(),
        limits,
    })
}

fn open_books(
    config: &Config,
    node: &Node,
    boot_id: String,
) -> Result<(Books, Option<Ledger>, bool), Failure> {
    let identity = Identity {
        instance_id: node.instance_id.clone(),
        boot_id,
    };
    let (books, loaded) = Books::open(&config.books, identity)?;
    let path = config.books.display();
    let (ledger, lost) = match loaded {
        Loaded::Fresh => {
            tracing::info!(books = %path, "no books yet: the first start since the boot");
            (None, books.were_set_aside())
        }
        Loaded::Found(ledger) => {
            let grants = ledger.grants.len();
            tracing::info!(books = %path, grants, "found the books of this boot");
            (Some(ledger), false)
        }
        Loaded::SetAside { reason, moved_to } => {
            tracing::warn!(
                books = %path,
                "the books are not trusted: {reason}. They are {} now, for people to look at",
                moved_to.display()
            );
            (None, !matches!(reason, Distrust::OtherInstance { .. }))
        }
    };
    Ok((books, ledger, lost))
}

/// What all pods share. The addresses are the pool's to say.
fn plan(config: &Config, facts: &NodeFacts, ipv6: bool) -> NodePlan {
    NodePlan {
        primary_mac: datapath::Mac(facts.primary_mac.0),
        primary_address: facts.primary_address,
        primary_mtu: config.eni_mtu,
        vpc_cidrs: vpc_cidrs::untranslated(&facts.vpc_cidrs, config.snat.excluded()),
        snat: config.snat.snat(),
        external_services: config.snat.external_services().to_vec(),
        tcp_early_demux: config.tcp_early_demux(),
        ipv6,
        held: Vec::new(),
    }
}

fn start_log(level: LogLevel, format: LogFormat) {
    let level = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    // The libraries' own chatter says nothing at these levels that our lines do not.
    let filter = EnvFilter::new(format!(
        "{level},aws_config=warn,aws_runtime=warn,aws_sdk_ec2=warn,aws_smithy_http_client=warn,\
         aws_smithy_runtime=warn,aws_smithy_runtime_api=warn,h2=warn,hyper=warn,hyper_util=warn,\
         netlink_proto=warn,rustls=warn,tonic=warn,tower=warn"
    ));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false);
    match format {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}

/// An error and its causes in one line.
fn sentence(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}

fn complain(error: &dyn Error) -> ExitCode {
    // Nothing can be said where standard error is closed.
    drop(writeln!(io::stderr(), "ipamd: {}", sentence(error)));
    ExitCode::FAILURE
}
