//! What `datapath` does to a real kernel: links, routes, rules and nftables as `ip` and `nft` show them, and
//! packets between sockets in network namespaces.

#[path = "datapath/eni.rs"]
mod eni;
#[path = "datapath/node.rs"]
mod node;
#[path = "datapath/packets.rs"]
mod packets;
#[path = "datapath/pod.rs"]
mod pod;
#[path = "datapath/world.rs"]
mod world;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let tests: Vec<_> = [pod::TESTS, node::TESTS, eni::TESTS, packets::TESTS].concat();
    if let Err(error) = vpc_lab::sandbox::enter() {
        eprintln!(
            "SKIPPED: {} datapath tests need namespaces: {error:#}",
            tests.len()
        );
        return ExitCode::SUCCESS;
    }
    let trials = tests.into_iter().map(|(name, test)| {
        Trial::test(name, move || {
            test().map_err(|error| Failed::from(format!("{error:#}")))
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// A test: its name is a sentence.
type Test = (&'static str, fn() -> anyhow::Result<()>);
