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
    let mut of_containerd = Release::ALL.map(|release| (release, pods::tests(release)));
    // Go's module proxy is not to be reached from within the sandbox.
    if !std::env::args().any(|argument| argument == "--list") {
        if let Err(why) = programs::install() {
            let of_containerd = of_containerd.iter_mut();
            tests.extend(of_containerd.flat_map(|(_, tests)| std::mem::take(tests)));
            tests = skipped(SUITE, tests, &why);
        }
        for (release, of_release) in &mut of_containerd {
            if !of_release.is_empty()
                && let Err(why) = release.install()
            {
                tests.extend(skipped(SUITE, std::mem::take(of_release), &why));
            }
        }
    }
    let of_containerd = of_containerd.into_iter();
    let of_containerd = of_containerd.filter(|(_, tests)| !tests.is_empty());
    let more = of_containerd.map(|(release, tests)| {
        let works: Works = Box::new(move || containerd::works_here(release));
        (tests, works)
    });
    let outcome = run_with(SUITE, tests, more.collect());
    match containerd::remove_cgroups() {
        Ok(()) => outcome,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
