//! `cargo xtask torture`: builds the deterministic simulation with optimisation, then becomes it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::Context;

use crate::workspace;

/// Play whole fleets on virtual time: real pools around a simulated EC2, where everything goes wrong.
///
/// Builds the simulation with optimisation and passes all arguments on to it. Exits with 1 if a promise was broken,
/// or if a long run has not met all that it should.
#[derive(Debug, clap::Args)]
// Asked for help, it is the simulation that answers.
#[command(
    disable_help_flag = true,
    after_help = "Examples:\n  cargo xtask torture --seed 7 --steps 1000000     # the same seed, the same trace\n  cargo xtask torture --steps 20000000 --jobs 2    # as CI does"
)]
pub(crate) struct Args {
    /// The simulation's own arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// What it runs, out of the whole workspace as all that xtask builds.
const BUILD: &[&str] = &["--workspace", "--profile", "torture", "--bin", "torture"];

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    eprintln!("building the simulation");
    let artifacts = workspace::build(BUILD, &[])?;
    let mut torture = Command::new(workspace::binary(&artifacts, "torture")?);
    let error = torture.args(&args.arguments).exec();
    Err(error).with_context(|| format!("starting {}", torture.get_program().display()))
}
