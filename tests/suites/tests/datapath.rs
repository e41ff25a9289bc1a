//! What `datapath` does to a real kernel: links, routes, rules and nftables as `ip` and `nft` show them, and
//! packets between sockets in network namespaces.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests fail by panicking; without libtest's harness clippy does not see that these are tests"
)]

#[path = "datapath/eni.rs"]
mod eni;
#[path = "datapath/ipv6.rs"]
mod ipv6;
#[path = "datapath/node.rs"]
mod node;
#[path = "datapath/packets.rs"]
mod packets;
#[path = "datapath/pod.rs"]
mod pod;
#[path = "datapath/snat.rs"]
mod snat;
#[path = "datapath/world.rs"]
mod world;

use std::process::ExitCode;

use suites::harness;

fn main() -> ExitCode {
    let tests = [
        pod::TESTS,
        node::TESTS,
        eni::TESTS,
        packets::TESTS,
        snat::TESTS,
        ipv6::TESTS,
    ]
    .concat();
    harness::run(
        "datapath",
        tests
            .into_iter()
            .map(|(name, test)| harness::test(name, test))
            .collect(),
    )
}

/// A test: its name is a sentence.
type Test = (&'static str, fn() -> anyhow::Result<()>);
