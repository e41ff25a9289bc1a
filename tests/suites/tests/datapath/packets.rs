//! Packets, and the source address that the receiver sees.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Result, ensure};
use datapath::{Snat, SourcePorts};

use crate::Test;
use crate::world::{
    Echo, INTERNET, NODE, Ns, Pod, SECOND, VPC_HOST, World, ask_tcp, ask_udp, ask_udp_with, refused,
};

pub(crate) const TESTS: &[Test] = &[
    (
        "pods on one node reach each other without translation, across ENIs",
        pod_to_pod,
    ),
    ("pod and node reach each other", pod_and_node),
    (
        "pods and the VPC reach each other by the pod's own ENI, without translation",
        pod_and_vpc,
    ),
    (
        "what leaves the VPC bears the node's address, from pods of any ENI",
        to_the_internet,
    ),
    (
        "what the node sends by itself keeps its address",
        node_to_the_internet,
    ),
    (
        "a NodePort connection to a pod on a secondary ENI goes back by the primary",
        node_port,
    ),
    (
        "a service address that leads into the VPC keeps the pod's address",
        service_into_the_vpc,
    ),
    (
        "an address without a pod is unreachable at once",
        held_is_unreachable,
    ),
    ("a frame of 9001 bytes goes from pod to VPC and back", jumbo),
    ("marks of other software stay as they are", foreign_marks),
    (
        "connections go on while the table is replaced",
        replaced_under_traffic,
    ),
    ("the ENI's own address answers by its ENI", eni_address),
];

const P0: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 50);
const P1: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 51);
const S0: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 50);

/// A ready node with a pod on each ENI.
fn two_pods() -> Result<(World, Pod, Pod)> {
    let world = World::ready()?;
    let (primary, secondary) = (world.pod(0, P0)?, world.pod(1, S0)?);
    Ok((world, primary, secondary))
}

pub(crate) fn sees(from: &Ns, to: SocketAddr, source: impl Into<IpAddr>) -> Result<()> {
    let (seen, source) = (ask_udp(from, to)?, source.into());
    ensure!(seen == source, "{to} sees {seen} instead of {source}");
    Ok(())
}

fn pod_to_pod() -> Result<()> {
    let (world, primary, secondary) = two_pods()?;
    let other = world.pod(0, P1)?;
    for (pod, address) in [(&primary, P0), (&secondary, S0), (&other, P1)] {
        let server = Echo::udp(&pod.ns, address)?;
        for (client, source) in [(&primary, P0), (&secondary, S0), (&other, P1)] {
            sees(&client.ns, server.address, source)?;
        }
    }
    Ok(())
}

fn pod_and_node() -> Result<()> {
    let (world, primary, secondary) = two_pods()?;
    let node = Echo::udp(&world.node, NODE)?;
    for (pod, address) in [(&primary, P0), (&secondary, S0)] {
        sees(&pod.ns, node.address, address)?;
        let server = Echo::udp(&pod.ns, address)?;
        sees(&world.node, server.address, NODE)?;
    }
    Ok(())
}

fn pod_and_vpc() -> Result<()> {
    let (world, primary, secondary) = two_pods()?;
    let host = Echo::udp(&world.vpc_host, VPC_HOST)?;
    for (pod, address) in [(&primary, P0), (&secondary, S0)] {
        sees(&pod.ns, host.address, address)?;
        let server = Echo::udp(&pod.ns, address)?;
        sees(&world.vpc_host, server.address, VPC_HOST)?;
        let server = Echo::tcp(&pod.ns, address)?;
        ensure!(ask_tcp(&world.vpc_host, server.address)? == IpAddr::V4(VPC_HOST));
    }
    Ok(())
}

fn to_the_internet() -> Result<()> {
    let (world, primary, secondary) = two_pods()?;
    let udp = Echo::udp(&world.internet, INTERNET)?;
    let tcp = Echo::tcp(&world.internet, INTERNET)?;
    for pod in [&primary, &secondary] {
        sees(&pod.ns, udp.address, NODE)?;
        let seen = ask_tcp(&pod.ns, tcp.address)?;
        ensure!(seen == IpAddr::V4(NODE), "the internet sees {seen}");
    }
    Ok(())
}

fn node_to_the_internet() -> Result<()> {
    let world = World::ready()?;
    let server = Echo::udp(&world.internet, INTERNET)?;
    sees(&world.node, server.address, NODE)
}

/// amazon-vpc-cni-k8s#75, #263, #1392: the reply left by the pod's own ENI, and nobody got it.
fn node_port() -> Result<()> {
    let (world, primary, secondary) = two_pods()?;
    for (pod, address, port) in [(&primary, P0, 30080), (&secondary, S0, 30081)] {
        let server = Echo::tcp(&pod.ns, address)?;
        world.node.nft(&[&format!(
            "add table ip proxy; \
             add chain ip proxy pre {{ type nat hook prerouting priority dstnat; }}; \
             add rule ip proxy pre ip daddr {NODE} tcp dport {port} dnat to {}",
            server.address
        )])?;
        let node_port = SocketAddr::from((NODE, port));
        for (client, source) in [(&world.vpc_host, VPC_HOST), (&world.internet, INTERNET)] {
            let seen = ask_tcp(client, node_port)?;
            ensure!(seen == IpAddr::V4(source), "the pod {address} sees {seen}");
        }
    }
    Ok(())
}

fn service_into_the_vpc() -> Result<()> {
    let (world, primary, secondary) = two_pods()?;
    let server = Echo::udp(&world.vpc_host, VPC_HOST)?;
    world.node.nft(&[&format!(
        "add table ip proxy; \
         add chain ip proxy pre {{ type nat hook prerouting priority dstnat; }}; \
         add rule ip proxy pre ip daddr 172.20.0.10 udp dport 53 dnat to {}",
        server.address
    )])?;
    let service = SocketAddr::from(([172, 20, 0, 10], 53));
    sees(&primary.ns, service, P0)?;
    sees(&secondary.ns, service, S0)
}

fn held_is_unreachable() -> Result<()> {
    let (world, primary, _secondary) = two_pods()?;
    world.deliver(0, P1)?;
    world.hold(0, &[P1])?;
    let nobody = SocketAddr::from((P1, 9));
    for client in [&primary.ns, &world.vpc_host] {
        let error = refused(client, nobody)?;
        ensure!(error == ErrorKind::HostUnreachable, "{error}");
    }
    // With a pod it answers, and without it is unreachable again.
    let pod = world.pod(0, P1)?;
    let server = Echo::udp(&pod.ns, P1)?;
    sees(&world.vpc_host, server.address, VPC_HOST)?;
    world.disconnect(&pod.link)?;
    ensure!(refused(&world.vpc_host, nobody)? == ErrorKind::HostUnreachable);
    Ok(())
}

fn jumbo() -> Result<()> {
    let (world, primary, secondary) = two_pods()?;
    // 20 bytes of IP and 8 of UDP before it. Fragments would not show, so they are dropped on the way.
    let payload = vec![7; 9001 - 28];
    world.vpc.nft(&[
        "add table ip whole; add chain ip whole in { type filter hook prerouting priority -450; }; \
         add rule ip whole in ip frag-off & 0x3fff != 0 drop",
    ])?;
    let host = Echo::udp(&world.vpc_host, VPC_HOST)?;
    for (pod, address) in [(&primary, P0), (&secondary, S0)] {
        ask_udp_with(&pod.ns, host.address, &payload)?;
        let server = Echo::udp(&pod.ns, address)?;
        ask_udp_with(&world.vpc_host, server.address, &payload)?;
    }
    let too_long = vec![7; 9002 - 28];
    ensure!(
        ask_udp_with(&primary.ns, host.address, &too_long).is_err(),
        "nothing limits frames"
    );
    Ok(())
}

fn foreign_marks() -> Result<()> {
    let (world, _primary, secondary) = two_pods()?;
    // As kube-proxy, Calico and Cilium set them; counted after ours.
    world.node.nft(&["add table ip other; \
         add chain ip other pre { type filter hook prerouting priority raw; }; \
         add rule ip other pre iifgroup 5120 meta mark set 0xabcd4f00; \
         add chain ip other conn { type filter hook prerouting priority -190; }; \
         add rule ip other conn iifgroup 5120 ct mark set ct mark or 0xabcd4f00; \
         add chain ip other forward { type filter hook forward priority filter; }; \
         add rule ip other forward ip daddr 10.0.2.20 meta mark 0xabcd4f01 counter accept; \
         add rule ip other forward ip daddr 198.51.100.7 meta mark 0xabcd4f81 ct mark 0xabcd4f80 \
         counter accept; \
         add rule ip other forward iifgroup 5120 drop"])?;
    let host = Echo::udp(&world.vpc_host, VPC_HOST)?;
    sees(&secondary.ns, host.address, S0)?;
    let internet = Echo::udp(&world.internet, INTERNET)?;
    sees(&secondary.ns, internet.address, NODE)
}

fn replaced_under_traffic() -> Result<()> {
    let (world, _primary, secondary) = two_pods()?;
    let server = Echo::udp(&world.internet, INTERNET)?;
    let mut plan = world.plan();
    plan.held = vec![crate::world::held(0, &[P0]), crate::world::held(1, &[S0])];
    // One socket throughout, so one connection, whose port the translation must keep.
    let mut ports = std::collections::BTreeSet::new();
    let socket = secondary.ns.inside(|| {
        let socket = std::net::UdpSocket::bind((S0, 0))?;
        socket.connect(server.address)?;
        socket.set_read_timeout(Some(crate::world::PATIENCE))?;
        Ok(socket)
    })?;
    for round in 0..20_u8 {
        plan.snat = Snat::Node(match round % 2 {
            0 => SourcePorts::Random,
            _ => SourcePorts::FullyRandom,
        });
        world.prepare(&plan)?;
        let mut buffer = [0; 100];
        socket.send(b"hello")?;
        let size = socket.recv(&mut buffer)?;
        ports.insert(String::from_utf8_lossy(&buffer[..size]).into_owned());
    }
    ensure!(ports.len() == 1, "the connection changed: {ports:?}");
    Ok(())
}

fn eni_address() -> Result<()> {
    let world = World::ready()?;
    world.deliver(1, SECOND)?;
    let server = Echo::udp(&world.node, SECOND)?;
    sees(&world.vpc_host, server.address, VPC_HOST)
}
