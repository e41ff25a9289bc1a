//! What a node asks of EC2 and of IMDS, counted: `cargo xtask budget`.

#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "it is a program for people"
)]

mod hours;
mod real;
mod table;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use vpc_lab::sandbox;

use crate::table::Budget;

/// Count what a node asks of EC2 and IMDS, beside aws-node's figures
///
/// A real ipamd on a node of the lab, over HTTP against the simulated EC2, which counts; hours pass on virtual time, with
/// the pool alone. The exit status is 1 when a figure is above the budget.
#[derive(Debug, Parser)]
#[command(name = "budget", bin_name = "cargo xtask budget")]
struct Cli {
    /// A table for people, or one JSON object
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    sandbox::enter().context("a node of the lab needs namespaces of its own")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    eprintln!("counting on new nodes");
    let mut rows = runtime.block_on(real::rows())?;
    let look = rows
        .iter()
        .find(|row| row.id == "look")
        .map_or(0, |row| row.imds);
    rows.extend(hours::rows(look)?);
    let budget = Budget::checked_in()?;
    match cli.output {
        Output::Text => print!("{}", table::text(&rows, &budget)?),
        Output::Json => println!("{}", table::json(&rows, &budget)?),
    }
    let over = budget.exceeded(&rows);
    for what in &over {
        eprintln!("over the budget: {what}");
    }
    Ok(ExitCode::from(u8::from(!over.is_empty())))
}
