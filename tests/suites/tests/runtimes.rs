//! Runtimes that are not ours drive the plugin: cnitool, with the reference plugins chained after it, and containerd,
//! asked over CRI as the kubelet asks it.
//!
//! They find what a node has: the plugin where `ipamd install` puts it, the conflist that ipamd writes, ipamd at
//! its default socket. Behind it is the simulated VPC, so that real packets tell whether it works.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "tests fail by panicking; without libtest's harness clippy does \
              not see that these are tests"
)]

use std::process::ExitCode;

use libtest_mimic::Trial;
use suites::harness::{Works, run_with, skipped};

#[path = "runtimes/chained.rs"]
mod chained;
#[path = "runtimes/cnitool.rs"]
mod cnitool;
#[path = "runtimes/containerd.rs"]
mod containerd;
#[path = "runtimes/cri.rs"]
mod cri;
#[path = "runtimes/image.rs"]
mod image;
#[path = "runtimes/pods.rs"]
mod pods;
#[path = "runtimes/programs.rs"]
mod programs;
#[path = "runtimes/verbs.rs"]
mod verbs;
#[path = "runtimes/world.rs"]
mod world;

use containerd::Release;

const SUITE: &str = "runtimes";

fn main() -> ExitCode {
    let mut tests: Vec<Trial> = [verbs::tests(), chained::tests()]
        .into_iter()
        .flatten()
        .collect();
    let mut of_containerd: Vec<(Vec<Trial>, Works)> = Vec::new();
    // Go's module proxy is not to be reached from within the sandbox.
    let installs = !std::env::args().any(|argument| argument == "--list");
    if installs && let Err(why) = programs::install() {
        tests.extend(Release::ALL.into_iter().flat_map(pods::tests));
        tests = skipped(SUITE, tests, &why);
    } else {
        for release in Release::ALL {
            let of_release = pods::tests(release);
            if installs && let Err(why) = release.install() {
                tests.extend(skipped(SUITE, of_release, &why));
            } else {
                let works = move || containerd::works_here(release);
                of_containerd.push((of_release, Box::new(works)));
            }
        }
    }
    let outcome = run_with(SUITE, tests, of_containerd);
    match containerd::remove_cgroups() {
        Ok(()) => outcome,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
