//! `cargo xtask test`: builds once, runs each suite, and counts.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Context;
use cargo_metadata::Artifact;
use clap::ValueEnum;

use crate::workspace;
use report::{Outcome, Report};

mod report;

/// Run the tests: all of them, or the suites named.
///
/// Builds what the suites need, runs one after another, and ends with a table, whatever was skipped and why,
/// and one line of totals. Exits with 1 if anything failed. Neither root nor internet is needed, but where
/// they lack, what needs them is skipped, and said.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask test                      # everything\n  \
    cargo xtask test unit datapath        # two suites\n  \
    cargo xtask test plugin -- version    # the tests of one suite whose names hold a word")]
pub(crate) struct Args {
    /// Suites to run; all if none is named
    #[arg(value_enum)]
    suites: Vec<Suite>,
    /// What to pass on to the test programs: part of a name, --nocapture, --list
    #[arg(last = true)]
    passed_on: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Suite {
    /// Each crate's own tests: no privileges, no processes
    Unit,
    /// The kernel side, in namespaces
    Datapath,
    /// The CNI binary against a stand-in for ipamd
    Plugin,
    /// The simulated VPC itself
    Lab,
    /// ipamd against the simulated EC2
    Ipamd,
    /// Plugin, ipamd and VPC together, with packets
    Pods,
    /// A minute of everything at once on a node: verbs, kills, and others that delete links, rules and routes
    Host,
    /// Services beside kube-proxy, with packets (as kube-proxy wrote its rules; the real one needs Go and its module proxy)
    KubeProxy,
    /// cnitool and two releases of containerd drive the plugin (needs Go and its module proxy; root, containerd and runc)
    Runtimes,
    /// ipamd against LocalStack's EC2, moto's and the simulated one (the first two need Python and its package index)
    Localstack,
    /// boto3, botocore and the AWS CLI against the simulated EC2 (needs Python and its package index)
    Botocore,
    /// The simulated EC2 and IMDS against what EC2 does; where LocalStack and moto differ (needs Python and its
    /// package index)
    Conformance,
    /// The demo: all of its checks
    Demo,
    /// The suite plugin once more, against the CNI binary as it ships: another C library, another allocator, optimised
    Shipped,
}

impl Suite {
    fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    /// What to build for this suite alone, out of the whole workspace.
    fn targets(self) -> &'static [&'static str] {
        match self {
            Self::Unit => &["--all-targets"],
            Self::Datapath => &["--test", "datapath"],
            Self::Lab => &["--test", "lab"],
            Self::Plugin => &["--test", "plugin", "--bin", "weir-cni"],
            Self::Shipped => &["--test", "plugin"],
            Self::Ipamd => &["--test", "ipamd", "--bin", "ipamd"],
            Self::Localstack => &["--test", "localstack", "--bin", "ipamd"],
            Self::Botocore => &["--test", "botocore", "--bin", "aws-sim"],
            Self::Conformance => &["--test", "conformance"],
            Self::Pods => &["--test", "pods", "--bin", "ipamd", "--bin", "weir-cni"],
            Self::Host => &[
                "--test",
                "host",
                "--bin",
                "host-torture",
                "--bin",
                "ipamd",
                "--bin",
                "weir-cni",
            ],
            Self::KubeProxy => &[
                "--test",
                "kube-proxy",
                "--bin",
                "ipamd",
                "--bin",
                "weir-cni",
            ],
            Self::Runtimes => &["--test", "runtimes", "--bin", "ipamd", "--bin", "weir-cni"],
            Self::Demo => &[
                "--test", "demo", "--bin", "demo", "--bin", "ipamd", "--bin", "weir-cni", "--bin",
                "vpc-lab",
            ],
        }
    }

    /// How long one program of the suite may take before it counts as hung.
    fn patience(self) -> Duration {
        match self {
            // Their first starts install Python packages, or Go programs.
            Self::Localstack | Self::Botocore | Self::Conformance => Duration::from_secs(600),
            // Hundreds of pods and minutes of the pool's own waiting; and a first build that takes minutes.
            Self::Pods | Self::KubeProxy | Self::Runtimes => Duration::from_secs(900),
            _ => Duration::from_secs(480),
        }
    }
}

/// One program to run, or one call to cargo.
struct Step {
    suite: Suite,
    label: String,
    command: Command,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    crate::setup::ensure()?;
    let mut suites = args.suites.clone();
    suites.sort_unstable();
    suites.dedup();
    if suites.is_empty() {
        suites = Suite::value_variants().to_vec();
    }

    let started = Instant::now();
    let artifacts = build(&suites)?;
    eprintln!("test: built in {:.0?}", started.elapsed());

    let mut report = Report::default();
    for step in steps(&suites, &artifacts, &args.passed_on)? {
        eprintln!("\ntest: {} ({})", step.suite.name(), step.label);
        let (suite, label) = (step.suite.name(), step.label.clone());
        let start = Instant::now();
        let outcome = run_step(step)?;
        report.add(&suite, &label, &outcome, start.elapsed());
    }
    print!("\n{report}");
    Ok(ExitCode::from(u8::from(report.failed() > 0)))
}

/// One build for all of the suites. It is always one of the whole workspace, narrowed to some of its targets:
/// cargo then gives every build the same features, so that the EC2 SDK is built once for all of them.
fn build(suites: &[Suite]) -> anyhow::Result<Vec<Artifact>> {
    let mut arguments = vec!["--workspace"];
    if suites.contains(&Suite::Unit) {
        arguments.extend(Suite::Unit.targets());
    } else {
        for target in suites.iter().flat_map(|suite| suite.targets().chunks(2)) {
            if !arguments.windows(2).any(|known| known == target) {
                arguments.extend(target);
            }
        }
    }
    eprintln!(
        "test: cargo build {} (cold, the EC2 SDK alone takes minutes)",
        arguments.join(" ")
    );
    workspace::build(&arguments, &[])
}

fn steps(suites: &[Suite], built: &[Artifact], passed_on: &[String]) -> anyhow::Result<Vec<Step>> {
    let mut steps = Vec::new();
    for suite in suites {
        match suite {
            Suite::Unit => {
                for artifact in built.iter().filter(|artifact| is_unit_test(artifact)) {
                    steps.push(test_program(*suite, artifact, passed_on)?);
                }
                let mut doc = workspace::cargo();
                doc.args(["test", "--workspace", "--doc", "--quiet", "--"]);
                doc.args(passed_on);
                steps.push(Step {
                    suite: *suite,
                    label: "examples in the documentation".to_owned(),
                    command: doc,
                });
            }
            Suite::Shipped => {
                let mut step = suite_program(*suite, &Suite::Plugin.name(), built, passed_on)?;
                step.command.env("WEIR_CNI", crate::dist::build_plugin()?);
                steps.push(step);
            }
            kernel => steps.push(suite_program(*suite, &kernel.name(), built, passed_on)?),
        }
    }
    Ok(steps)
}

fn suite_program(
    suite: Suite,
    name: &str,
    built: &[Artifact],
    passed_on: &[String],
) -> anyhow::Result<Step> {
    let artifact = built
        .iter()
        .find(|artifact| artifact.target.is_test() && artifact.target.name == name)
        .with_context(|| format!("cargo built no test `{name}`"))?;
    test_program(suite, artifact, passed_on)
}

fn is_unit_test(artifact: &Artifact) -> bool {
    let of_suites = artifact
        .manifest_path
        .parent()
        .is_some_and(|folder| folder.ends_with("tests/suites"));
    let of_another_suite = of_suites && artifact.target.is_test();
    let ours = artifact.profile.test && !artifact.target.is_bench();
    ours && artifact.executable.is_some() && !of_another_suite
}

/// A test program, started as `cargo test` would: in its package's folder.
fn test_program(suite: Suite, artifact: &Artifact, passed_on: &[String]) -> anyhow::Result<Step> {
    let path: PathBuf = artifact
        .executable
        .clone()
        .context("a test without a program")?
        .into();
    let folder = artifact
        .manifest_path
        .parent()
        .context("a manifest without a folder")?;
    let mut command = Command::new(path);
    command
        .args(passed_on)
        .current_dir(folder)
        .env("CARGO_MANIFEST_DIR", folder);
    Ok(Step {
        suite,
        label: artifact.target.name.clone(),
        command,
    })
}

/// Runs one program, passing on what it prints as it comes, and reads the counts from it.
fn run_step(mut step: Step) -> anyhow::Result<Outcome> {
    let patience = step.suite.patience();
    let mut child = step
        .command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {:?}", step.command))?;
    let stdout = child.stdout.take().context("the program's stdout")?;
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stdout);
        let mut line = Vec::new();
        while reader
            .read_until(b'\n', &mut line)
            .is_ok_and(|read| read > 0)
        {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if sender.send(text).is_err() {
                break;
            }
        }
    });

    let mut outcome = Outcome::default();
    let deadline = Instant::now() + patience;
    let hung = loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                println!("{line}");
                outcome.read(&line);
            }
            Err(RecvTimeoutError::Disconnected) => break false,
            Err(RecvTimeoutError::Timeout) => break true,
        }
    };
    if hung {
        child.kill().context("killing the program that hangs")?;
    }
    let status = child.wait().context("waiting for the program")?;
    if hung {
        outcome.fail(format!("hung: killed after {} s", patience.as_secs()));
    } else {
        outcome.settle(status.success(), &status.to_string());
    }
    Ok(outcome)
}
