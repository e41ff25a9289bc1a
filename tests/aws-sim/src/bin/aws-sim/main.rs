//! `aws-sim`: the simulated EC2 and IMDS as a command.

mod help;
mod replay;
mod serve;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// EC2's network and IMDSv2, simulated, as strict as EC2: for software that manages ENIs, and its tests.
///
/// Without a command it serves. Everything is in memory and gone at the end.
#[derive(Debug, Parser)]
#[command(name = "aws-sim", args_conflicts_with_subcommands = true, after_help = help::AFTER)]
struct AwsSim {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve EC2, each instance's metadata, and a control port.
    #[command(after_help = help::AFTER)]
    Serve(Box<serve::Options>),
    /// Play stories in virtual time, and print the log that each leaves. Ends with 1 when one is not as expected.
    #[command(after_help = help::AFTER_REPLAY)]
    Replay(replay::Options),
    /// Check world files, or print one that has everything.
    World(replay::WorldOptions),
    /// Print the actions of EC2 that are there.
    Actions,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs: one line of JSON for each result.
    Json,
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let options = AwsSim::parse();
    let done = match options.command {
        None => serve::run(&options.serve),
        Some(Command::Serve(options)) => serve::run(&options),
        Some(Command::Replay(options)) => replay::run(&options),
        Some(Command::World(options)) => replay::check_worlds(&options),
        Some(Command::Actions) => write_out(&actions()).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        complain(&format!("aws-sim: {error:#}"));
        ExitCode::FAILURE
    })
}

fn actions() -> String {
    aws_sim::actions::names()
        .map(|name| format!("{name}\n"))
        .collect()
}

/// Writes results. That nobody reads them any more is no error: `aws-sim actions | head`.
fn write_out(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Tells people what is wrong.
fn complain(text: &str) {
    // With no standard error there is nobody to tell.
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}
