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
#[path = "ipamd/cut_short.rs"]
mod cut_short;
#[path = "ipamd/eni_tags.rs"]
mod eni_tags;
#[path = "ipamd/frugal.rs"]
mod frugal;
#[path = "ipamd/groups.rs"]
mod groups;
#[path = "ipamd/growth.rs"]
mod growth;
#[path = "ipamd/install.rs"]
mod install;
#[path = "ipamd/ipv6.rs"]
mod ipv6;
#[path = "ipamd/orphans.rs"]
mod orphans;
#[path = "ipamd/others.rs"]
mod others;
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
#[path = "ipamd/survival.rs"]
mod survival;
#[path = "ipamd/tracking.rs"]
mod tracking;

fn main() -> ExitCode {
    let tests = [
        start::tests(),
        install::tests(),
        growth::tests(),
        pods::tests(),
        restart::tests(),
        access::tests(),
        outward::tests(),
        ipv6::tests(),
        cut_short::tests(),
        eni_tags::tests(),
        tracking::tests(),
        orphans::tests(),
        frugal::tests(),
        subnets::tests(),
        others::tests(),
    ];
    let tests = tests.into_iter().flatten().collect();
    let waiting = [survival::tests(), groups::tests()];
    let waiting = waiting.into_iter().flatten().collect();
    suites::harness::run_beside("ipamd", waiting, tests)
}
