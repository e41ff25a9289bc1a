//! Who translates what leaves the VPC, to which ports, and for where not.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use anyhow::{Result, ensure};
use datapath::{NodePlan, Snat, SourcePorts};

use crate::Test;
use crate::packets::sees;
use crate::world::{Echo, INTERNET, NODE, PATIENCE, Pod, VPC_HOST, World, ask_tcp, held};

pub(crate) const TESTS: &[Test] = &[
    (
        "where something else translates, pods leave by their own ENI with their own address",
        external,
    ),
    (
        "a NodePort connection goes back by the primary ENI also where something else translates",
        node_port_and_external,
    ),
    (
        "source ports are fully random, random, or the connection's own",
        source_ports,
    ),
    (
        "a CIDR that is excluded while connections run spares new ones and keeps the old",
        excluded_at_run_time,
    ),
    (
        "what goes to an external service leaves by the primary ENI, from pods of any",
        external_service,
    ),
    (
        "who translates can change without cutting connections off",
        changed_at_a_restart,
    ),
];

const P0: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 50);
const S0: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 50);

/// A node with a pod on each ENI, in a VPC that lets pods' own addresses out, as one with a NAT gateway does.
fn open_world() -> Result<(World, NodePlan, Pod, Pod)> {
    let world = World::ready()?;
    let (primary, secondary) = (world.pod(0, P0)?, world.pod(1, S0)?);
    world.vpc.nft(&["flush chain ip vpc forward; \
         add rule ip vpc forward iifname r0 ip saddr != 10.0.0.0/24 drop; \
         add rule ip vpc forward iifname r1 ip saddr != 10.0.1.0/24 drop"])?;
    let plan = NodePlan {
        held: vec![held(0, &[P0]), held(1, &[S0])],
        ..world.plan()
    };
    Ok((world, plan, primary, secondary))
}

fn external() -> Result<()> {
    let (world, mut plan, primary, secondary) = open_world()?;
    let server = Echo::udp(&world.internet, INTERNET)?;
    sees(&secondary.ns, server.address, NODE)?;
    plan.snat = Snat::External;
    world.prepare(&plan)?;
    // Other sockets, so other connections.
    sees(&primary.ns, server.address, P0)?;
    sees(&secondary.ns, server.address, S0)?;
    sees(&world.node, server.address, NODE)?;
    let table = world.node.nft(&["list", "table", "ip", "weir"])?;
    ensure!(
        !(table.contains("snat") || table.contains("@vpc")),
        "{table}"
    );
    Ok(())
}

fn node_port_and_external() -> Result<()> {
    let (world, mut plan, _primary, secondary) = open_world()?;
    plan.snat = Snat::External;
    world.prepare(&plan)?;
    let server = Echo::tcp(&secondary.ns, S0)?;
    world.node.nft(&[&format!(
        "add table ip proxy; \
         add chain ip proxy pre {{ type nat hook prerouting priority dstnat; }}; \
         add rule ip proxy pre ip daddr {NODE} tcp dport 30080 dnat to {}",
        server.address
    )])?;
    let node_port = SocketAddr::from((NODE, 30080));
    for (client, source) in [(&world.vpc_host, VPC_HOST), (&world.internet, INTERNET)] {
        let seen = ask_tcp(client, node_port)?;
        ensure!(seen == IpAddr::V4(source), "the pod sees {seen}");
    }
    Ok(())
}

fn source_ports() -> Result<()> {
    let (world, mut plan, _primary, secondary) = open_world()?;
    let server = Echo::udp(&world.internet, INTERNET)?;
    // Ports differ, so that no connection of a round answers for the next.
    for (ports, first, rule) in [
        (
            SourcePorts::FullyRandom,
            20_000,
            "snat to 10.0.0.10 fully-random\n",
        ),
        (SourcePorts::Random, 20_100, "snat to 10.0.0.10 random\n"),
        (SourcePorts::Kept, 20_200, "snat to 10.0.0.10\n"),
    ] {
        plan.snat = Snat::Node(ports);
        world.prepare(&plan)?;
        let table = world.node.nft(&["list", "table", "ip", "weir"])?;
        ensure!(table.contains(rule), "{rule:?} is not in {table}");
        let kept = (first..first + 8)
            .map(|port| {
                let client = client(&secondary, server.address, port)?;
                Ok(ask(&client)? == SocketAddr::from((NODE, port)))
            })
            .collect::<Result<BTreeSet<bool>>>()?;
        let expected = BTreeSet::from([ports == SourcePorts::Kept]);
        ensure!(kept == expected, "{ports:?}: ports are kept: {kept:?}");
    }
    Ok(())
}

fn excluded_at_run_time() -> Result<()> {
    let (world, mut plan, _primary, secondary) = open_world()?;
    let server = Echo::udp(&world.internet, INTERNET)?;
    let old = client(&secondary, server.address, 0)?;
    let before = ask(&old)?;
    ensure!(before.ip() == NODE, "{before}");
    plan.vpc_cidrs.push("198.51.100.0/24".parse()?);
    world.prepare(&plan)?;
    sees(&secondary.ns, server.address, S0)?;
    let now = ask(&old)?;
    ensure!(
        now == before,
        "the old connection was {before}, and is {now}"
    );
    plan.vpc_cidrs.pop();
    world.prepare(&plan)?;
    sees(&secondary.ns, server.address, NODE)
}

fn external_service() -> Result<()> {
    let (world, mut plan, primary, secondary) = open_world()?;
    // Counts what comes by each ENI; the secondary's pod may send by the primary here.
    world.vpc.nft(&["flush chain ip vpc forward; \
         add rule ip vpc forward iifname r0 ip daddr 198.51.100.7 counter accept; \
         add rule ip vpc forward iifname r1 ip daddr 198.51.100.7 counter drop"])?;
    plan.snat = Snat::External;
    plan.external_services = vec!["198.51.100.7/24".parse()?];
    world.prepare(&plan)?;
    let rule = "1535:\tfrom all to 198.51.100.0/24 lookup main proto 87";
    let rules = world.node.ip("rule")?;
    ensure!(rules.lines().any(|line| line.trim() == rule), "{rules}");
    let server = Echo::udp(&world.internet, INTERNET)?;
    sees(&primary.ns, server.address, P0)?;
    sees(&secondary.ns, server.address, S0)?;
    plan.external_services.clear();
    world.prepare(&plan)?;
    let rules = world.node.ip("rule")?;
    ensure!(!rules.contains("1535:"), "{rules}");
    Ok(())
}

fn changed_at_a_restart() -> Result<()> {
    let (world, mut plan, _primary, secondary) = open_world()?;
    let server = Echo::udp(&world.internet, INTERNET)?;
    let old = client(&secondary, server.address, 0)?;
    let translated = ask(&old)?;
    plan.snat = Snat::External;
    world.prepare(&plan)?;
    let new = client(&secondary, server.address, 0)?;
    let own = ask(&new)?;
    ensure!(own.ip() == S0, "{own}");
    ensure!(ask(&old)? == translated);
    plan.snat = Snat::Node(SourcePorts::FullyRandom);
    world.prepare(&plan)?;
    ensure!(ask(&old)? == translated);
    ensure!(ask(&new)? == own);
    sees(&secondary.ns, server.address, NODE)
}

/// A socket of a pod; port 0 is any.
fn client(pod: &Pod, server: SocketAddr, port: u16) -> Result<UdpSocket> {
    pod.ns.inside(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    })
}

/// Who the server says that it was asked by.
fn ask(client: &UdpSocket) -> Result<SocketAddr> {
    let mut buffer = [0; 100];
    client.send(b"hello")?;
    let size = client.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..size]).parse()?)
}
