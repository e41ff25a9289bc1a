//! The lab behaves as a VPC: each property that the other suites rely on, shown with real packets.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking; without libtest's harness clippy does not see that these are tests"
)]

use std::process::ExitCode;

use suites::harness;

#[path = "lab/borders.rs"]
mod borders;
#[path = "lab/ec2.rs"]
mod ec2;
#[path = "lab/endpoints.rs"]
mod endpoints;
#[path = "lab/fixture.rs"]
mod fixture;
#[path = "lab/holding.rs"]
mod holding;
#[path = "lab/links.rs"]
mod links;

fn main() -> ExitCode {
    let tests = [
        links::tests(),
        holding::tests(),
        borders::tests(),
        endpoints::tests(),
    ];
    harness::run("lab", tests.into_iter().flatten().collect())
}
