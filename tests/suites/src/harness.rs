//! The runner of a suite: in namespaces of its own, one test after another, skips told by name.

use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::bail;
use libtest_mimic::{Arguments, Trial};
use vpc_lab::sandbox;

/// How long anything may take that takes well under a second as a rule.
pub const SOON: Duration = Duration::from_secs(20);

/// Whose turn it is, of tests that take turns.
static TURN: Mutex<()> = Mutex::new(());

/// Runs a suite. To be called first in `main`, before any thread: it enters the sandbox.
///
/// Where the machine can't give a sandbox, each test is told as `SKIPPED <suite>::<test>: <why>`.
#[must_use]
pub fn run(suite: &str, tests: Vec<Trial>) -> ExitCode {
    run_with(suite, tests, Vec::new())
}

/// The same for a suite with some tests that wait most of the time ([`waiting_test`]): they run beside the others.
#[must_use]
pub fn run_beside(suite: &str, waiting: Vec<Trial>, tests: Vec<Trial>) -> ExitCode {
    let at_once = waiting.len() + 1;
    let tests = waiting.into_iter().chain(tests).collect();
    run_at_once(at_once, suite, tests, Vec::new())
}

/// Looks from within the sandbox whether what tests need besides is there, else says why they are skipped.
pub type Works = Box<dyn FnOnce() -> anyhow::Result<()>>;

/// The same with tests that need more than a sandbox.
#[must_use]
pub fn run_with(suite: &str, tests: Vec<Trial>, more: Vec<(Vec<Trial>, Works)>) -> ExitCode {
    run_at_once(1, suite, tests, more)
}

fn run_at_once(
    at_once: usize,
    suite: &str,
    mut tests: Vec<Trial>,
    more: Vec<(Vec<Trial>, Works)>,
) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Those that do not wait take turns: they share the names of namespaces, and two cores.
    arguments.test_threads = Some(at_once);
    if arguments.list {
        tests.extend(more.into_iter().flat_map(|(tests, _)| tests));
        return libtest_mimic::run(&arguments, tests).exit_code();
    }
    if let Err(error) = sandbox::enter() {
        arguments.ignored = false;
        tests.extend(more.into_iter().flat_map(|(tests, _)| tests));
        return libtest_mimic::run(&arguments, skipped(suite, tests, &error)).exit_code();
    }
    for (more, works) in more {
        tests.extend(match works() {
            Ok(()) => more,
            Err(why) => skipped(suite, more, &why),
        });
    }
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
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        body().map_err(|error| format!("{error:#}").into())
    })
}

/// The same for a test that awaits: it gets a runtime of its own.
pub fn async_test<F>(name: &str, body: impl FnOnce() -> F + Send + 'static) -> Trial
where
    F: Future<Output = anyhow::Result<()>>,
{
    test(name, move || awaited(body))
}

/// A test that waits most of the time, and has a lab of its own: it runs beside the others.
pub fn waiting_test<F>(name: &str, body: impl FnOnce() -> F + Send + 'static) -> Trial
where
    F: Future<Output = anyhow::Result<()>>,
{
    Trial::test(name, move || {
        awaited(body).map_err(|error| format!("{error:#}").into())
    })
}

fn awaited<F>(body: impl FnOnce() -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(body())
}

/// Asks again and again until there is an answer.
///
/// # Errors
/// When asking fails, or there is no answer within [`SOON`].
pub async fn eventually<T, F>(what: &str, ask: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<Option<T>>>,
{
    eventually_within(SOON, what, ask).await
}

/// The same, with more patience.
///
/// # Errors
/// When asking fails, or there is no answer in time.
pub async fn eventually_within<T, F>(
    patience: Duration,
    what: &str,
    mut ask: impl FnMut() -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<Option<T>>>,
{
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            bail!("{what}: not within {patience:?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
