//! `cargo xtask torture` and `cargo xtask fleet`: build the simulation of fleets with optimisation, then become it.

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

/// Play fleets on virtual time, and count what they ask of EC2.
///
/// Builds the simulation with optimisation and passes all arguments on to it. Exits with 1 if a figure misses its aim.
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    after_help = "Examples:\n  cargo xtask fleet                              # all scenarios at their sizes\n  cargo xtask fleet join --nodes 200             # one, with so many nodes\n  cargo xtask fleet --picture docs/fleet.svg     # draw them too"
)]
pub(crate) struct FleetArgs {
    /// The simulation's own arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// What they run, out of the whole workspace as all that xtask builds.
const BUILD: &[&str] = &["--workspace", "--profile", "torture", "--bin"];

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    become_simulation("torture", &args.arguments)
}

pub(crate) fn run_fleet(args: &FleetArgs) -> anyhow::Result<ExitCode> {
    become_simulation("fleet", &args.arguments)
}

fn become_simulation(name: &str, arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    eprintln!("building the simulation");
    let artifacts = workspace::build(&[BUILD, &[name]].concat(), &[])?;
    let mut simulation = Command::new(workspace::binary(&artifacts, name)?);
    let error = simulation.args(arguments).exec();
    Err(error).with_context(|| format!("starting {}", simulation.get_program().display()))
}
