//! Services beside Weir: kube-proxy's rules in its modes, whichever of the two comes first, with packets to ClusterIPs
//! and NodePorts from everywhere.
//!
//! The rules are there twice: as data, as kube-proxy wrote them ([`written`]), which needs nothing but `nft`; and by
//! the real kube-proxy ([`real`]), built from its Go module and fed by a few lines of an API server.

#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests fail by panicking; without libtest's harness clippy does not see that these are tests"
)]

use std::process::ExitCode;

use suites::harness::{run, skipped};

#[path = "kube-proxy/api.rs"]
mod api;
#[path = "kube-proxy/cluster.rs"]
mod cluster;
#[path = "kube-proxy/paths.rs"]
mod paths;
#[path = "kube-proxy/program.rs"]
mod program;
#[path = "kube-proxy/real.rs"]
mod real;
#[path = "kube-proxy/services.rs"]
mod services;
#[path = "kube-proxy/written.rs"]
mod written;

const SUITE: &str = "kube-proxy";

fn main() -> ExitCode {
    let mut tests = written::tests();
    let lists = std::env::args().any(|argument| argument == "--list");
    // Go's module proxy is not to be reached from within the sandbox.
    let installed = if lists { Ok(()) } else { program::install() };
    tests.extend(match installed {
        Ok(()) => real::tests(),
        Err(why) => skipped(SUITE, real::all(), &why),
    });
    run(SUITE, tests)
}
