//! The runner of a suite: in namespaces of its own, one test after another, skips told by name.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use libtest_mimic::{Arguments, Trial};
use vpc_lab::sandbox;

/// How long anything may take that takes well under a second as a rule.
pub const SOON: Duration = Duration::from_secs(20);

/// Runs a suite. To be called first in `main`, before any thread: it enters the sandbox.
///
/// Where the machine can't give a sandbox, each test is told as `SKIPPED <suite>::<test>: <why>`.
#[must_use]
pub fn run(suite: &str, tests: Vec<Trial>) -> ExitCode {
    run_with(suite, tests, Vec::new(), || Ok(()))
}

/// The same with tests that need more than a sandbox: `works` looks from within it whether that is there, else says
/// why they are skipped.
#[must_use]
pub fn run_with(
    suite: &str,
    mut tests: Vec<Trial>,
    more: Vec<Trial>,
    works: impl FnOnce() -> anyhow::Result<()>,
) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // The tests share the names of namespaces, and two cores.
    arguments.test_threads = Some(1);
    if arguments.list {
        tests.extend(more);
        return libtest_mimic::run(&arguments, tests).exit_code();
    }
    if let Err(error) = sandbox::enter() {
        arguments.ignored = false;
        tests.extend(more);
        return libtest_mimic::run(&arguments, skipped(suite, tests, &error)).exit_code();
    }
    let works = if more.is_empty() { Ok(()) } else { works() };
    tests.extend(match works {
        Ok(()) => more,
        Err(why) => skipped(suite, more, &why),
    });
    libtest_mimic::run(&arguments, tests).exit_code()
}

/// Tells each test as skipped.
#[must_use]
pub fn skipped(suite: &str, tests: Vec<Trial>, why: &anyhow::Error) -> Vec<Trial> {
    let tests = tests.into_iter();
    tests
        .map(|test| {
            println!("SKIPPED {suite}::{}: {why:#}", test.name());
            test.with_ignored_flag(true)
        })
        .collect()
}

/// A test of a suite, which fails by panicking or by answering an error.
pub fn test(name: &str, body: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> Trial {
    Trial::test(name, move || {
        body().map_err(|error| format!("{error:#}").into())
    })
}

/// The same for a test that awaits: it gets a runtime of its own.
pub fn async_test<F>(name: &str, body: impl FnOnce() -> F + Send + 'static) -> Trial
where
    F: Future<Output = anyhow::Result<()>>,
{
    test(name, move || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?
            .block_on(body())
    })
}

/// Asks again and again until there is an answer.
///
/// # Errors
/// When asking fails, or there is no answer within [`SOON`].
pub async fn eventually<T, F>(what: &str, mut ask: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<Option<T>>>,
{
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            bail!("{what}: not within {SOON:?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
