//! The front door for people: `cargo xtask`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command for people: printing is its work"
)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod codegen;
mod demo;
#[cfg(test)]
mod deploy;
mod dist;
mod image;
mod layers;
mod lint;
mod setup;
mod test;
mod torture;
mod workspace;

/// Build, try, test and ship Weir.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "New here? `cargo xtask demo` shows pods on a simulated VPC; `cargo xtask test` proves it.\n\
                  Everything is built in cargo's target folder (CARGO_TARGET_DIR moves it)."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what this machine lacks for the other commands
    Setup(setup::Args),
    /// Raise two nodes in one simulated VPC, run pods on them, and show each path with real packets
    Demo(demo::DemoArgs),
    /// Run the tests: all of them, or the suites named
    Test(test::Args),
    /// Check format, lints, documentation, generated code, and who may use whom
    Lint(lint::Args),
    /// Play whole fleets on virtual time, where everything goes wrong
    Torture(torture::Args),
    /// Play a node on which everything happens at once, and see that nothing is left over
    HostTorture(demo::HostTortureArgs),
    /// Play fleets on virtual time, and count what they ask of EC2
    Fleet(torture::FleetArgs),
    /// Count what a node asks of EC2 and IMDS, beside aws-node's figures
    Budget(demo::BudgetArgs),
    /// Measure ADD, DEL and packets, beside the kernel's floor or a peer
    Bench(demo::BenchArgs),
    /// Use the simulated VPC by hand
    Lab(demo::LabArgs),
    /// Build the binaries that ship: ipamd and weir-cni, static
    Dist(dist::Args),
    /// Write the container image as an OCI archive, without a container engine
    Image(image::Args),
    /// Generate the Rust types of proto/ from its .proto files
    Codegen(codegen::Args),
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Setup(args) => setup::run(&args),
        Command::Demo(args) => demo::run_demo(&args),
        Command::Test(args) => test::run(&args),
        Command::Lint(args) => lint::run(&args),
        Command::Torture(args) => torture::run(&args),
        Command::HostTorture(args) => demo::run_host_torture(&args),
        Command::Fleet(args) => torture::run_fleet(&args),
        Command::Budget(args) => demo::run_budget(&args),
        Command::Bench(args) => demo::run_bench(&args),
        Command::Lab(args) => demo::run_lab(&args),
        Command::Dist(args) => dist::run(&args),
        Command::Image(args) => image::run(&args),
        Command::Codegen(args) => codegen::run(&args).map(|()| ExitCode::SUCCESS),
    }
}
