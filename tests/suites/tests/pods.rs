//! Pods on nodes, end to end: the real plugin asks the real ipamd, which asks the simulated EC2, and the
//! kernel's state and real packets tell whether it was right.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests fail by panicking; without libtest's harness clippy does not see that these are tests"
)]

use std::process::ExitCode;

use suites::harness;

#[path = "pods/cases.rs"]
mod cases;
#[path = "pods/egress.rs"]
mod egress;
#[path = "pods/failures.rs"]
mod failures;
#[path = "pods/giving_back.rs"]
mod giving_back;
#[path = "pods/ipv6.rs"]
mod ipv6;
#[path = "pods/paths.rs"]
mod paths;
#[path = "pods/prefixes.rs"]
mod prefixes;
#[path = "pods/protocols.rs"]
mod protocols;
#[path = "pods/repairs.rs"]
mod repairs;
#[path = "pods/restarts.rs"]
mod restarts;
#[path = "pods/reuse.rs"]
mod reuse;
#[path = "pods/snat.rs"]
mod snat;
#[path = "pods/under_traffic.rs"]
mod under_traffic;
#[path = "pods/wiring.rs"]
mod wiring;
#[path = "pods/world.rs"]
mod world;

fn main() -> ExitCode {
    harness::run(
        "pods",
        [
            wiring::tests(),
            paths::tests(),
            protocols::tests(),
            prefixes::tests(),
            ipv6::tests(),
            egress::tests(),
            restarts::tests(),
            repairs::tests(),
            snat::tests(),
            reuse::tests(),
            failures::tests(),
            cases::tests(),
            under_traffic::tests(),
            giving_back::tests(),
        ]
        .into_iter()
        .flatten()
        .collect(),
    )
}
