//! The real `weir-cni` against a small ipamd of the test's own: what a container runtime sees, and what the
//! kernel holds afterwards.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests fail by panicking; without libtest's harness clippy does not see that these are tests"
)]

use std::process::ExitCode;

use suites::harness;

#[path = "plugin/add.rs"]
mod add;
#[path = "plugin/bad_input.rs"]
mod bad_input;
#[path = "plugin/check.rs"]
mod check;
#[path = "plugin/del.rs"]
mod del;
#[path = "plugin/fake_ipamd.rs"]
mod fake_ipamd;
#[path = "plugin/gc.rs"]
mod gc;
#[path = "plugin/runtime.rs"]
mod runtime;
#[path = "plugin/status.rs"]
mod status;
#[path = "plugin/trouble.rs"]
mod trouble;

type Test = (&'static str, fn());

fn main() -> ExitCode {
    let tests = [
        bad_input::TESTS,
        add::TESTS,
        check::TESTS,
        del::TESTS,
        gc::TESTS,
        status::TESTS,
        trouble::TESTS,
    ]
    .concat();
    let trials = tests.into_iter().map(|(name, test)| {
        harness::test(name, move || {
            runtime::assert_host_is_clean("before the test");
            test();
            runtime::assert_host_is_clean("after the test");
            Ok(())
        })
    });
    harness::run("plugin", trials.collect())
}
