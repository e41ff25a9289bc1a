//! `cargo xtask lint`: all that can be said without running anything.

use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, bail};

use crate::{codegen, layers, workspace};

/// Check format, lints, documentation, generated code, and who may use whom.
///
/// Runs all checks, also after one that fails, cheap ones first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask lint\n  cargo fmt   # what mends the first check")]
pub(crate) struct Args {}

type Check = (&'static str, fn() -> anyhow::Result<()>);

const CHECKS: &[Check] = &[
    ("format", format),
    ("who may use whom", who_may_use_whom),
    ("generated code", codegen::check),
    ("clippy", clippy),
    ("documentation", documentation),
];

pub(crate) fn run(_: &Args) -> anyhow::Result<ExitCode> {
    crate::setup::ensure()?;
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        eprintln!("lint: {name}");
        let start = Instant::now();
        match check() {
            Ok(()) => eprintln!("lint: {name}: ok in {:.1?}", start.elapsed()),
            Err(error) => {
                eprintln!("lint: {name}: FAILED: {error:#}");
                failed.push(*name);
            }
        }
    }
    if failed.is_empty() {
        println!("lint: all {} checks passed", CHECKS.len());
        return Ok(ExitCode::SUCCESS);
    }
    println!("lint: failed: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

fn format() -> anyhow::Result<()> {
    succeed(workspace::cargo().args(["fmt", "--all", "--check"]))
}

fn who_may_use_whom() -> anyhow::Result<()> {
    let found = layers::violations(&workspace::metadata()?)?;
    if !found.is_empty() {
        bail!("{}", found.join("\n"));
    }
    Ok(())
}

fn clippy() -> anyhow::Result<()> {
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    succeed(workspace::cargo().args(clippy))
}

fn documentation() -> anyhow::Result<()> {
    let mut doc = workspace::cargo();
    doc.args(["doc", "--workspace", "--no-deps"]);
    succeed(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("running {command:?}"))?;
    if !status.success() {
        bail!("{status}; its words are above");
    }
    Ok(())
}
