//! A secondary ENI.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use datapath::{Host, HostError};

use crate::Test;
use crate::world::{PATIENCE, World, eni_plan};

pub(crate) const TESTS: &[Test] = &[
    ("a secondary ENI gets its address, table and rules", set_up),
    (
        "addresses that others gave an ENI go, and its connected route",
        others_addresses_go,
    ),
    ("an ENI that appears late is waited for", late),
    (
        "an ENI whose link is up already under another name is found by its MAC",
        renamed,
    ),
    (
        "an ENI that never appears is an error once the deadline is over",
        never,
    ),
];

fn set_up() -> Result<()> {
    let world = World::new()?;
    world.node.ip("link set eth1 mtu 1500")?;
    world.set_up_eni(&eni_plan())?;
    is_set_up(&world)
}

fn is_set_up(world: &World) -> Result<()> {
    let link = world.node.ip("link show eth1")?;
    ensure!(link.contains("mtu 9001") && link.contains(",UP"), "{link}");
    ensure!(world.node.read_sysctl("ipv4/conf/eth1/rp_filter")? == "2");
    let addresses = world.node.ip("-o -4 addr show dev eth1")?;
    ensure!(
        addresses.lines().count() == 1 && addresses.contains("10.0.1.10/24"),
        "{addresses}"
    );
    let routes = world.node.ip("route show table 2")?;
    let expected = "default via 10.0.1.1 dev eth1 proto 87 onlink \n\
                    10.0.1.1 dev eth1 proto 87 scope link \n";
    ensure!(routes == expected, "{routes}");
    let main = world.node.ip("route show table main")?;
    ensure!(!main.contains("eth1"), "{main}");
    let rules = world.node.ip("rule")?;
    for rule in [
        "1536:\tfrom all fwmark 0x1/0x7f lookup 2 proto 87",
        "32765:\tfrom 10.0.1.10 lookup 2 proto 87",
    ] {
        ensure!(
            rules.lines().any(|line| line.trim() == rule),
            "{rule} is not in:\n{rules}"
        );
    }
    Ok(())
}

fn others_addresses_go() -> Result<()> {
    let world = World::new()?;
    world.node.ip("link set eth1 up")?;
    // A pod's address first, so that the ENI's own is secondary to it; and a foreign prefix length.
    world.node.ip("addr add 10.0.1.50/24 dev eth1")?;
    world.node.ip("addr add 10.0.1.10/24 dev eth1")?;
    world.node.ip("addr add 10.0.1.10/32 dev eth1")?;
    world.set_up_eni(&eni_plan())?;
    is_set_up(&world)
}

/// amazon-vpc-cni-k8s#360.
fn late() -> Result<()> {
    let world = World::new()?;
    world.node.ip("link set eth1 address 02:00:00:00:00:99")?;
    world.node.block_on(|| async {
        let host = Host::open()?;
        let plan = eni_plan();
        let attach = async {
            // The first look finds nothing: the future below is polled first.
            tokio::task::yield_now().await;
            world
                .node
                .ip("link set eth1 address 02:00:00:00:00:11")
                .map(drop)
        };
        let (set_up, attached) = tokio::join!(host.set_up_eni(&plan, PATIENCE), attach);
        attached?;
        Ok(set_up?)
    })?;
    is_set_up(&world)
}

/// amazon-vpc-cni-k8s#582: the distribution had renamed the link, and brought it up.
fn renamed() -> Result<()> {
    let world = World::new()?;
    world.node.ip("link set eth1 name enp0s6")?;
    world.node.ip("link set enp0s6 up")?;
    world.set_up_eni(&eni_plan())?;
    let routes = world.node.ip("route show table 2")?;
    ensure!(
        routes.contains("default via 10.0.1.1 dev enp0s6"),
        "{routes}"
    );
    let link = world.node.ip("link show enp0s6")?;
    ensure!(link.contains("mtu 9001"), "{link}");
    Ok(())
}

fn never() -> Result<()> {
    let world = World::new()?;
    world.node.ip("link set eth1 address 02:00:00:00:00:99")?;
    let begin = std::time::Instant::now();
    let error = world.node.block_on(|| async {
        let wait = Duration::from_millis(300);
        Ok(Host::open()?.set_up_eni(&eni_plan(), wait).await.err())
    })?;
    let error = error.context("there is no such link")?;
    ensure!(matches!(error, HostError::LinkMissing { .. }), "{error}");
    let waited = begin.elapsed();
    ensure!(
        waited >= Duration::from_millis(300) && waited < PATIENCE,
        "waited {waited:?}"
    );
    Ok(())
}
