//! Runtimes that are not ours drive the plugin: cnitool, with the reference plugins chained after it.
//!
//! They find what a node has: the plugin where `ipamd install` puts it, the conflist that ipamd writes, ipamd at
//! its default socket. Behind it is the simulated VPC, so that real packets tell whether it works.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests fail by panicking, and tell skips on standard output; without libtest's harness clippy does \
              not see that these are tests"
)]

use std::process::ExitCode;

use libtest_mimic::Trial;
use suites::harness;

#[path = "runtimes/chained.rs"]
mod chained;
#[path = "runtimes/cnitool.rs"]
mod cnitool;
#[path = "runtimes/verbs.rs"]
mod verbs;
#[path = "runtimes/world.rs"]
mod world;

fn main() -> ExitCode {
    let mut tests: Vec<Trial> = [verbs::tests(), chained::tests()]
        .into_iter()
        .flatten()
        .collect();
    // Go's module proxy is not to be reached from within the sandbox.
    if !std::env::args().any(|argument| argument == "--list")
        && let Err(why) = cnitool::install()
    {
        tests = skipped(tests, &why);
    }
    harness::run("runtimes", tests)
}

/// Tells each test as skipped.
fn skipped(tests: Vec<Trial>, why: &anyhow::Error) -> Vec<Trial> {
    let tests = tests.into_iter();
    tests
        .map(|test| {
            println!("SKIPPED runtimes::{}: {why:#}", test.name());
            test.with_ignored_flag(true)
        })
        .collect()
}
