//! `vpc-lab`: a VPC in a box, for people.

use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use vpc_lab::hold::{self, Held, Registration, Side};
use vpc_lab::{Lab, LabConfig, NodeConfig, sandbox};

/// Raises a VPC on this machine: nodes, subnets, security groups, an internet and a peered network, as
/// network namespaces, with a simulated EC2 and IMDS that decide who holds which address.
///
/// Nothing of it is seen outside, nothing is left when it goes, and it needs no root where unprivileged user
/// namespaces are allowed. Needs the programs `ip` and `nft`.
#[derive(Debug, Parser)]
#[command(name = "vpc-lab", version, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

const AFTER_HELP: &str = "\
A first look:
  vpc-lab up                                    # terminal 1: two nodes, until Ctrl-C
  vpc-lab enter a                               # terminal 2: a shell on node a
    ip address; ip route                        #   what EC2 and DHCP gave it
    ping -c1 203.0.113.10                       #   the internet; it sees the public address
    curl -X PUT http://169.254.169.254/latest/api/token -H 'X-aws-ec2-metadata-token-ttl-seconds: 60'
  vpc-lab enter vpc -- ip route                 # who holds what, as the VPC sees it
  vpc-lab enter vpc -- nft list ruleset         # source check, security groups, public addresses, drops
  vpc-lab enter internet -- tcpdump -ni eth0    # what gets out";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Raise a lab and stay with it until Ctrl-C.
    Up(Up),
    /// Enter a running lab: a shell, or one command, in a node, a pod, `vpc`, `internet` or `peer`.
    Enter {
        /// Where: a name from `vpc-lab list`.
        place: String,
        #[command(flatten)]
        which: Which,
        /// What to run there; your shell, if nothing.
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// List the running labs and their namespaces.
    List,
    /// Take a running lab down.
    Down(Which),
}

#[derive(Debug, Args)]
struct Which {
    /// The lab's name or its holder's pid, where several are up.
    #[arg(long)]
    lab: Option<String>,
}

#[derive(Debug, Args)]
struct Up {
    /// What to call the lab.
    #[arg(long, default_value = "lab")]
    name: String,
    /// How many nodes: a, b, c, ..., by turns in two subnets.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=26))]
    nodes: u8,
    /// The nodes' instance type.
    #[arg(long = "type", default_value = "m5.large")]
    instance_type: String,
    /// How long after EC2 began attaching an ENI its link appears in the node, but not before EC2 has attached it.
    #[arg(long, default_value = "500ms", value_parser = duration)]
    link_lag: Duration,
    /// The seed of all ids, MAC addresses and choices in the simulated EC2.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Give the terminal back, and leave the lab up until `vpc-lab down`.
    #[arg(long)]
    detach: bool,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Up(up) => raise(&up),
        Verb::Enter {
            place,
            which,
            command,
        } => enter(&place, &which, &command),
        Verb::List => list(),
        Verb::Down(which) => down(&which),
    };
    outcome.unwrap_or_else(|error| {
        say_error(&format!("vpc-lab: {error:#}"));
        ExitCode::FAILURE
    })
}

fn raise(up: &Up) -> anyhow::Result<ExitCode> {
    let holder = if up.detach {
        match hold::begin()? {
            Side::Front(code) => return Ok(code),
            Side::Holder(holder) => Some(holder),
        }
    } else {
        sandbox::enter()?;
        None
    };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let began = Instant::now();
    let lab = Lab::start(config(up))?;
    let Up { name, .. } = up;
    say(&format!(
        "Lab {name:?} is up after {} ms:\n",
        began.elapsed().as_millis()
    ));
    say(&lab.describe());
    say("From another terminal: vpc-lab enter a; vpc-lab enter vpc -- ip route; vpc-lab --help");
    match holder {
        Some(holder) => {
            say("It stays until `vpc-lab down`.");
            holder.keep(name, &lab, 0)?;
        }
        None => {
            let _registration = Registration::new(name, &lab)?;
            say("Ctrl-C takes it down.");
            hold::wait_for_the_end()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn config(up: &Up) -> LabConfig {
    let mut config = LabConfig {
        link_lag: up.link_lag,
        seed: up.seed,
        ..LabConfig::default()
    };
    let subnets: Vec<String> = config
        .subnets
        .iter()
        .map(|subnet| subnet.name.clone())
        .collect();
    config.nodes = (0..up.nodes)
        .zip(subnets.iter().cycle())
        .map(|(index, subnet)| NodeConfig {
            name: char::from(b'a' + index).to_string(),
            instance_type: up.instance_type.clone(),
            subnet: subnet.clone(),
            public_address: Some([198, 51, 100, 101 + index].into()),
        })
        .collect();
    config
}

fn enter(place: &str, which: &Which, command: &[String]) -> anyhow::Result<ExitCode> {
    let lab = hold::find(which.lab.as_deref())?;
    let place = hold::join(&lab, place)?;
    let shell = [std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned())];
    let (program, arguments) = match command.split_first() {
        Some((program, arguments)) => (program, arguments),
        None => {
            say_error(&format!(
                "In {} of lab {:?}. Ctrl-D leaves.",
                place.netns, lab.name
            ));
            (&shell[0], [].as_slice())
        }
    };
    let failed = Command::new(program).args(arguments).envs(place.env).exec();
    Err(failed).with_context(|| format!("running {program}"))
}

fn list() -> anyhow::Result<ExitCode> {
    let labs = hold::list()?;
    if labs.is_empty() {
        say("No lab is up. `vpc-lab up` raises one.");
    }
    for lab in labs {
        let Held { name, pid, .. } = &lab;
        say(&format!(
            "Lab {name:?}, held by process {pid}:\n{}",
            lab.description
        ));
        say(&format!("  to enter: {}\n", lab.namespaces()?.join(", ")));
    }
    Ok(ExitCode::SUCCESS)
}

fn down(which: &Which) -> anyhow::Result<ExitCode> {
    let lab = hold::find(which.lab.as_deref())?;
    hold::take_down(&lab)?;
    say(&format!("Lab {:?} is gone.", lab.name));
    Ok(ExitCode::SUCCESS)
}

/// A number with `ms` or `s`.
fn duration(text: &str) -> anyhow::Result<Duration> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number
        .parse()
        .with_context(|| format!("{text:?} has no number"))?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        _ => bail!("{text:?} is no duration: write 500ms or 2s"),
    }
}

/// To who reads; `| head` may have stopped.
fn say(text: &str) {
    writeln!(std::io::stdout(), "{text}").ok();
}

fn say_error(text: &str) {
    writeln!(std::io::stderr(), "{text}").ok();
}
