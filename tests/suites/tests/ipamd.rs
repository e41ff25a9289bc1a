//! The real ipamd on a node of the lab, over HTTP against the simulated EC2 and IMDS: what it asks, what it
//! serves, and what it does when things go wrong.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "tests fail by panicking; without libtest's harness clippy does not see that these are tests"
)]

use std::process::ExitCode;

#[path = "ipamd/access.rs"]
mod access;
#[path = "ipamd/growth.rs"]
mod growth;
#[path = "ipamd/install.rs"]
mod install;
#[path = "ipamd/outward.rs"]
mod outward;
#[path = "ipamd/pods.rs"]
mod pods;
#[path = "ipamd/restart.rs"]
mod restart;
#[path = "ipamd/rig.rs"]
mod rig;
#[path = "ipamd/start.rs"]
mod start;
#[path = "ipamd/subnets.rs"]
mod subnets;

fn main() -> ExitCode {
    let tests = [
        start::tests(),
        install::tests(),
        growth::tests(),
        pods::tests(),
        restart::tests(),
        access::tests(),
        outward::tests(),
        subnets::tests(),
    ];
    suites::harness::run("ipamd", tests.into_iter().flatten().collect())
}
