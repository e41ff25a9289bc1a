//! `aws-sim replay` and `aws-sim world`: files without a server.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use aws_sim::WorldConfig;
use aws_sim::scenario::{self, Played};
use serde_json::json;

use crate::serve::read;
use crate::{Output, complain, write_out};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The stories.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How to print the logs.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(crate) struct WorldOptions {
    /// World files to check.
    #[arg(required_unless_present = "example", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print a world file that has everything, with comments.
    #[arg(long, conflicts_with = "files")]
    example: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let mut failed = 0_usize;
    for path in &options.files {
        let (name, text) = read(path)?;
        let scenario = scenario::load(&[(&name, &text)], &WorldConfig::default())?;
        if scenario.steps() == 0 {
            bail!(
                "{name} has no [[step]]: it is a world, not a story. `aws-sim --world {name}` serves it"
            );
        }
        let played = scenario::play(scenario);
        write_out(&match options.output {
            Output::Text => played.text(),
            Output::Json => as_json(&name, &played).to_string() + "\n",
        })?;
        if let Some(failure) = &played.failure {
            complain(&failure.to_string());
            failed += 1;
        }
    }
    if failed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let all = options.files.len();
    complain(&format!("{failed} of {all} stories did not go as they say"));
    Ok(ExitCode::FAILURE)
}

fn as_json(name: &str, played: &Played) -> serde_json::Value {
    let log = &played.world.log;
    json!({
        "file": name,
        "title": played.title,
        "log": played.lines,
        "outcomes": log.outcomes(),
        "metadata": log.imds_counts(),
        "tokens": log.tokens(),
        "failure": played.failure.as_ref().map(ToString::to_string),
    })
}

pub(crate) fn check_worlds(options: &WorldOptions) -> anyhow::Result<ExitCode> {
    if options.example {
        write_out(scenario::EXAMPLE)?;
        return Ok(ExitCode::SUCCESS);
    }
    for path in &options.files {
        let (name, text) = read(path)?;
        let made = scenario::load(&[(&name, &text)], &WorldConfig::default())?;
        let (instances, enis) = (made.world.instances().count(), made.world.enis().count());
        write_out(&format!(
            "{name}: good: {instances} instances, {enis} ENIs\n"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
