//! The simulated EC2 and IMDS as clients see them that are not ours: boto3, botocore and the AWS CLI, from PyPI.
//!
//! Each check is a function in `botocore/*.py` of the same name as its test here, and runs in a process of its own
//! against an `aws-sim` of its own, with the environment that `aws-sim` prints for clients and nothing else. Every
//! answer is compared with botocore's model of EC2 on the way (`botocore/strict.py`).

#![expect(clippy::print_stdout, reason = "skips are told on standard output")]

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use libtest_mimic::{Arguments, Trial};
use suites::harness;
use suites::venv::Venv;

use simulator::Simulator;

#[path = "botocore/simulator.rs"]
mod simulator;

/// The checks, by the file they are in.
const CHECKS: &[(&str, &[&str])] = &[
    (
        "eni.py",
        &[
            "an_eni_lives_from_create_to_delete",
            "a_client_token_makes_one_eni_of_two_requests",
            "ipv6_addresses_and_prefixes_come_and_go",
        ],
    ),
    (
        "pages.py",
        &[
            "every_paginator_walks_to_the_end",
            "a_walk_shows_each_eni_once",
        ],
    ),
    (
        "waiters.py",
        &[
            "the_waiter_for_an_eni_finishes",
            "the_waiters_for_a_vpc_and_what_is_in_it_finish",
            "the_waiters_for_an_instance_finish",
            "the_waiters_for_an_image_finish",
            "no_waiter_is_forgotten",
        ],
    ),
    (
        "answers.py",
        &[
            "each_describe_answers_in_the_words_of_the_model",
            "each_attribute_is_named_as_in_the_model",
        ],
    ),
    (
        "errors.py",
        &[
            "error_codes_arrive_as_exceptions",
            "a_dry_run_tells_what_would_happen_and_changes_nothing",
            "retries_outlast_throttling",
        ],
    ),
    (
        "faults.py",
        &[
            "a_reset_after_the_effect_leaves_one_eni",
            "a_truncated_answer_is_an_error_and_not_a_short_list",
            "a_waiter_outlasts_a_describe_that_lags",
            "what_iam_denies_is_unauthorized",
        ],
    ),
    (
        "metadata.py",
        &[
            "the_credentials_of_the_role_are_fetched",
            "the_region_is_found",
            "a_session_without_keys_asks_ec2_with_those_of_its_instance",
        ],
    ),
    (
        "cli.py",
        &[
            "the_aws_cli_makes_tags_finds_and_deletes_an_eni",
            "the_aws_cli_pages",
        ],
    ),
];

/// A check makes tens of calls; waiters wait for states that take seconds.
const CHECK: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let tests = CHECKS
        .iter()
        .flat_map(|(file, names)| names.iter().map(move |name| (*file, *name)))
        .map(|(file, name)| harness::test(name, move || check(file, name)))
        .collect();
    if !arguments.list
        && let Err(error) = venv().install()
    {
        println!("SKIPPED botocore::all: {error:#}");
        let all = Trial::test("all", || Ok(())).with_ignored_flag(true);
        return libtest_mimic::run(&Arguments::default(), vec![all]).exit_code();
    }
    libtest_mimic::run(&arguments, tests).exit_code()
}

fn venv() -> Venv {
    Venv {
        what: "boto3 and the AWS CLI (230 MB)",
        packages: &["boto3==1.44.5", "awscli==1.46.2"],
        constraints: include_str!("botocore/constraints.txt"),
        folder: Path::new(env!("CARGO_TARGET_TMPDIR")).join("botocore"),
    }
}

/// Runs one function of one file, in the environment that a simulator of its own gives to clients.
fn check(file: &str, name: &str) -> anyhow::Result<()> {
    let simulator = Simulator::start()?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/botocore");
    let home = tempfile::tempdir()?;
    let log = home.path().join("log");
    let output = std::fs::File::create(&log)?;
    let mut child = Command::new(venv().python())
        .arg("-B")
        .arg(folder.join(file))
        .arg(name)
        .env_clear()
        .env("HOME", home.path())
        .env("PATH", "/usr/bin:/bin")
        .env("LANG", "C.UTF-8")
        .envs(simulator.environment())
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .context("starting Python")?;
    let deadline = Instant::now() + CHECK;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    if status.is_some_and(|status| status.success()) {
        return Ok(());
    }
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    let ended = status.map_or_else(
        || format!("not done after {} s", CHECK.as_secs()),
        |status| status.to_string(),
    );
    bail!("{file} {name}: {ended}\n{said}\n{}", simulator.log())
}
