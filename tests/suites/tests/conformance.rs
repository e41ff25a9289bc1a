//! Whether a simulated EC2 does what EC2 does: one list of checks, run on `aws-sim`, LocalStack and moto through the
//! real SDK.
//!
//! On `aws-sim` every check must pass, each in a world of its own. On the other two, the rows that differ must be those
//! in `conformance/differences.tsv`: an independent look at the same wire format, and a list of what to know before
//! one trusts a test on them. A second list of checks looks at what only `aws-sim` has: clocks, faults, metadata.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests fail by panicking; without libtest's harness clippy does not see that these are tests"
)]

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use tokio::runtime::Runtime;

use check::Check;

#[path = "conformance/assign.rs"]
mod assign;
#[path = "conformance/attach.rs"]
mod attach;
#[path = "conformance/check.rs"]
mod check;
#[path = "conformance/create.rs"]
mod create;
#[path = "conformance/describe.rs"]
mod describe;
#[path = "conformance/ec2.rs"]
mod ec2;
#[path = "conformance/end.rs"]
mod end;
#[path = "conformance/http.rs"]
mod http;
#[path = "conformance/instances.rs"]
mod instances;
#[path = "conformance/ipv6.rs"]
mod ipv6;
#[path = "conformance/metadata.rs"]
mod metadata;
#[path = "conformance/modify.rs"]
mod modify;
#[path = "conformance/networks.rs"]
mod networks;
#[path = "conformance/reservations.rs"]
mod reservations;
#[path = "conformance/tags.rs"]
mod tags;
#[path = "conformance/types.rs"]
mod types;
#[path = "conformance/wire.rs"]
mod wire;
#[path = "conformance/world.rs"]
mod world;

/// All checks that run on any target.
fn checks() -> Vec<Check> {
    [
        networks::table(),
        types::table(),
        instances::table(),
        create::table(),
        attach::table(),
        modify::table(),
        describe::table(),
        assign::table(),
        ipv6::table(),
        reservations::table(),
        tags::table(),
        end::table(),
        wire::table(),
        metadata::table(),
        instances::statements(),
        create::statements(),
        attach::statements(),
        modify::statements(),
        describe::statements(),
        assign::statements(),
        ipv6::statements(),
        reservations::statements(),
        tags::statements(),
        end::statements(),
        wire::statements(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They wait for states more than they work.
    arguments.test_threads.get_or_insert(8);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = Arc::new(runtime.expect("a runtime"));
    if let Ok(address) = std::env::var("CONFORMANCE_AT") {
        probe(&runtime, &address);
        return ExitCode::SUCCESS;
    }
    let trials = checks()
        .into_iter()
        .map(|check| on_aws_sim(&runtime, check));
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// TEMPORARY: all checks on a target that runs.
fn probe(runtime: &Runtime, address: &str) {
    let only = std::env::args().nth(1).unwrap_or_default();
    runtime.block_on(async {
        for check in checks()
            .into_iter()
            .filter(|check| check.row.contains(&only))
        {
            let ec2 = ec2::Ec2 {
                sdk: ec2::client(address.parse().expect("address"), "AKIAIOSFODNN7EXAMPLE"),
                address: address.parse().expect("address"),
                image: "ami-12c6146b",
                patience: std::time::Duration::from_secs(2),
                insides: None,
            };
            let started = std::time::Instant::now();
            match (check.run)(&ec2).await {
                Ok(()) => println!("ok\t{}\t{:?}", check.row, started.elapsed()),
                Err(difference) => {
                    println!("DIFF\t{}\t{difference}\t{:?}", check.row, started.elapsed())
                }
            }
        }
    });
}

/// A trial of a check, in a world of its own.
fn on_aws_sim(runtime: &Arc<Runtime>, check: Check) -> Trial {
    let runtime = Arc::clone(runtime);
    Trial::test(check.row.replace(' ', "_"), move || {
        let outcome = runtime.block_on(async {
            let ec2 = world::serve(world::config())?;
            (check.run)(&ec2).await
        });
        outcome.map_err(|difference| {
            format!("{}\nEC2: {} ({})", difference, check.says, check.source).into()
        })
    })
}
