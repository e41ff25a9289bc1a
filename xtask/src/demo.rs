//! `cargo xtask demo`, `budget`, `host-torture`, `bench` and `lab`: build what they need, then become it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::Context;

use crate::workspace;

/// Raise two nodes in one simulated VPC, run pods on them, and show each path with real packets.
///
/// Builds ipamd, the CNI plugin and the demo (the first build takes minutes: the EC2 SDK is large), then
/// runs the demo in network namespaces of its own. All other arguments are the demo's.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask demo                                     # explain and check, exit 1 if a check fails\n  \
    cargo xtask demo --keep                              # leave the lab up and say how to look around\n  \
    cargo xtask demo --release --output json --adds 100  # measure")]
pub(crate) struct DemoArgs {
    /// Build with optimisation, and the plugin as it ships, for measuring
    #[arg(long)]
    release: bool,
    /// The demo's own arguments: --keep, --output json, --adds N, --help
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Use the simulated VPC by hand.
///
/// Builds the lab and passes all arguments on to it.
#[derive(Debug, clap::Args)]
// Asked for help, it is the lab that answers.
#[command(
    disable_help_flag = true,
    after_help = "Examples:\n  cargo xtask lab up       # raise a lab of two nodes, until Ctrl-C\n  cargo xtask lab enter a  # in another terminal: a shell on node a"
)]
pub(crate) struct LabArgs {
    /// The lab's own arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Count what a node asks of EC2 and IMDS, beside aws-node's figures.
///
/// Builds ipamd and the simulations, runs ipamd on a node of the lab, and counts. Exits with 1 when a figure is above the
/// budget in tests/suites/src/bin/budget/budget.toml.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask budget                # a table\n  cargo xtask budget --output json"
)]
pub(crate) struct BudgetArgs {
    /// The command's own arguments: --output json
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Play a node on which everything happens at once, and see that nothing is left over.
///
/// Builds ipamd, the CNI plugin and the torture, and runs them on a node of the lab: pods come and go, plugin and ipamd are
/// killed, and others delete links, rules and routes. Exits with 1 if a promise was broken.
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    after_help = "Examples:\n  cargo xtask host-torture                                # a minute, as CI does\n  cargo xtask host-torture --seconds 600 --seed 7         # longer\n  cargo xtask host-torture --damage pod --output json     # only what one pod has is damaged"
)]
pub(crate) struct HostTortureArgs {
    /// The torture's own arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Measure what ships, beside the kernel's floor or a peer.
///
/// Builds with optimisation (the first time takes many minutes), and the plugin as it ships. `adds`: ADD and DEL of the
/// plugin, by how many pods the node has. `packets`: packets through the host, beside two rules for each pod.
/// `cargo bench -p bench` measures the parts.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask bench adds\n  cargo xtask bench adds --pods 1,737 --serial 300 --output json\n  cargo xtask bench packets --turns 50"
)]
pub(crate) struct BenchArgs {
    /// What to measure
    #[arg(value_enum)]
    what: Bench,
    /// The benchmark's own arguments: --output json, --help
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Bench {
    /// ADD and DEL
    Adds,
    /// Packets through the host
    Packets,
}

/// What the demo runs. Out of the whole workspace, as all that xtask builds: cargo then gives every build the
/// same features, so that the EC2 SDK is built once for all of them.
pub(crate) const DEMO_BUILD: &[&str] = &[
    "--workspace",
    "--bin",
    "ipamd",
    "--bin",
    "weir-cni",
    "--bin",
    "demo",
];

pub(crate) fn run_demo(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    crate::setup::ensure()?;
    // Wherever it stands among the demo's own arguments, this one is ours.
    let (ours, arguments): (Vec<_>, Vec<_>) = args
        .arguments
        .iter()
        .cloned()
        .partition(|argument| argument == "--release");
    eprintln!("building ipamd, weir-cni and the demo");
    let mut build = DEMO_BUILD.to_vec();
    let release = args.release || !ours.is_empty();
    if release {
        build.push("--release");
    }
    let artifacts = workspace::build(&build, &[])?;
    let mut demo = Command::new(workspace::binary(&artifacts, "demo")?);
    if release {
        // The other build is of the whole workspace, whose features would make it larger.
        demo.env("WEIR_CNI", crate::dist::build_plugin()?);
    }
    become_program(demo.args(&arguments))
}

pub(crate) fn run_budget(args: &BudgetArgs) -> anyhow::Result<ExitCode> {
    const BUILD: &[&str] = &[
        "--workspace",
        "--bin",
        "ipamd",
        "--bin",
        "fleet",
        "--bin",
        "budget",
    ];
    crate::setup::ensure()?;
    eprintln!("building ipamd and the simulations");
    let artifacts = workspace::build(BUILD, &[])?;
    become_program(Command::new(workspace::binary(&artifacts, "budget")?).args(&args.arguments))
}

pub(crate) fn run_bench(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    const BUILD: &[&str] = &["--workspace", "--release", "--bin"];
    crate::setup::ensure()?;
    let (name, with): (_, &[&str]) = match args.what {
        Bench::Adds => ("adds", &["adds", "--bin", "ipamd"]),
        Bench::Packets => ("packets", &["packets"]),
    };
    eprintln!("building {name} with optimisation");
    let artifacts = workspace::build(&[BUILD, with].concat(), &[])?;
    let mut bench = Command::new(workspace::binary(&artifacts, name)?);
    if matches!(args.what, Bench::Adds) {
        bench.env("WEIR_CNI", crate::dist::build_plugin()?);
    }
    become_program(bench.args(&args.arguments))
}

pub(crate) fn run_host_torture(args: &HostTortureArgs) -> anyhow::Result<ExitCode> {
    const BUILD: &[&str] = &[
        "--workspace",
        "--bin",
        "ipamd",
        "--bin",
        "weir-cni",
        "--bin",
        "host-torture",
    ];
    crate::setup::ensure()?;
    eprintln!("building ipamd, weir-cni and the torture");
    let artifacts = workspace::build(BUILD, &[])?;
    let torture = workspace::binary(&artifacts, "host-torture")?;
    become_program(Command::new(torture).args(&args.arguments))
}

pub(crate) fn run_lab(args: &LabArgs) -> anyhow::Result<ExitCode> {
    crate::setup::ensure()?;
    eprintln!("building the lab");
    let artifacts = workspace::build(&["--workspace", "--bin", "vpc-lab"], &[])?;
    become_program(Command::new(workspace::binary(&artifacts, "vpc-lab")?).args(&args.arguments))
}

/// Replaces this process, so that signals and the exit status are the program's own.
fn become_program(program: &mut Command) -> anyhow::Result<ExitCode> {
    let error = program.exec();
    Err(error).with_context(|| format!("starting {}", program.get_program().display()))
}
