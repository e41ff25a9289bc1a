//! Pods with IPv6 addresses, alone and beside IPv4.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use datapath::layout::PODS_TABLE;
use datapath::pod::{PodError, PodLink};
use datapath::{EniPlan, Host, NetNs, NodePlan};

use crate::Test;
use crate::packets::sees;
use crate::world::{
    Echo, NODE_6, Ns, PREFIX_6, Pod, VPC_HOST_6, World, ask_tcp, ask_udp_with, eni_plan,
    eventually, link, refused,
};

pub(crate) const TESTS: &[Test] = &[
    (
        "an IPv6 pod's link is made as it is to be, on both sides, also where IPv6 was off",
        made,
    ),
    (
        "the node forwards IPv6, and keeps the way out that routers advertise",
        forwards,
    ),
    (
        "a secondary ENI has its way out by IPv6 at once, and nothing that others gave it",
        eni_set_up,
    ),
    (
        "IPv6 pods reach each other, the node and the VPC, from primary and secondary ENIs",
        packets,
    ),
    (
        "a NodePort connection of IPv6 to a pod on a secondary ENI goes back by the primary",
        node_port,
    ),
    (
        "a pod with both families has both from its first packet on",
        both_families,
    ),
    (
        "an IPv6 address without a pod is unreachable at once",
        unreachable,
    ),
    (
        "a frame of 9001 bytes of IPv6 goes to the VPC and back",
        jumbo,
    ),
    (
        "the pods that have a link are told in both families",
        pods_told,
    ),
    (
        "a dual-stack link is found while it stands whole, and only then",
        found,
    ),
    (
        "an IPv6 address that no pod can have is refused, and a link too narrow for IPv6",
        refusals,
    ),
    (
        "nothing is left of an IPv6 pod whose namespace goes without a DEL",
        nothing_left,
    ),
];

/// On the primary ENI, the first two addresses of its prefix.
const P0: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0xa, 0, 0, 0);
const P1: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0xa, 0, 0, 1);
/// On the secondary ENI.
const S0: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0xb, 0, 0, 5);
const V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 50);

fn pod(world: &World, address: Ipv6Addr) -> Result<Pod> {
    world.bare_pod(link(&format!("container-{address}"), address))
}

fn dual(world: &World, v4: Ipv4Addr, v6: Ipv6Addr) -> Result<Pod> {
    world.deliver(0, v4)?;
    world.hold(0, &[v4])?;
    world.bare_pod(dual_link(v4, v6))
}

fn dual_link(v4: Ipv4Addr, v6: Ipv6Addr) -> PodLink {
    let mut link = link(&format!("container-{v4}"), v4);
    link.addresses.push(v6.into());
    link
}

/// amazon-vpc-cni-k8s#897, #1631: a pod was told of its address before it could use it, and took routes from router advertisements.
fn made() -> Result<()> {
    let world = World::dual()?;
    let ns = Ns::new("pod")?;
    for link in ["all", "default", "lo"] {
        ns.sysctl(&format!("ipv6/conf/{link}/disable_ipv6"), "1")?;
    }
    let wiring = world.connect(&ns, &link("c1", P0))?;
    let address = ns.ip("-o -6 addr show dev eth0")?;
    ensure!(
        address.lines().count() == 1
            && address.contains(&format!("{P0}/128 scope global nodad noprefixroute")),
        "{address}"
    );
    ensure!(ns.ip("-4 addr show dev eth0")?.is_empty());
    let routes = ns.ip("-6 route show default")?;
    ensure!(
        routes.starts_with("default via fe80::1 dev eth0 proto 87"),
        "{routes}"
    );
    ensure!(ns.ip("-4 route")?.is_empty(), "there is no way for IPv4");
    let neighbours = ns.ip("-6 neigh show dev eth0")?;
    let gateway = format!("fe80::1 lladdr {} PERMANENT", wiring.host_mac);
    ensure!(neighbours.trim() == gateway, "{neighbours}");
    ensure!(ns.ip("-6 addr show dev lo")?.contains("::1/128"));
    for (ns, name) in [(&world.node, wiring.host_veth.as_str()), (&ns, "eth0")] {
        for (setting, value) in [
            ("disable_ipv6", "0"),
            ("accept_ra", "0"),
            ("accept_redirects", "0"),
        ] {
            let set = ns.read_sysctl(&format!("ipv6/conf/{name}/{setting}"))?;
            ensure!(set == value, "{setting} of {name} is {set}");
        }
    }
    let route = world
        .node
        .ip(&format!("-6 route show table {PODS_TABLE} {P0}"))?;
    let expected = format!("{P0} dev {} proto 87 ", wiring.host_veth);
    ensure!(route.starts_with(&expected), "{route}");
    let neighbours = world
        .node
        .ip(&format!("-6 neigh show dev {}", wiring.host_veth))?;
    let pod_mac = format!("{P0} lladdr {} PERMANENT", wiring.pod_mac);
    ensure!(neighbours.trim() == pod_mac, "{neighbours}");
    Ok(())
}

fn forwards() -> Result<()> {
    let world = World::new()?;
    world.node.sysctl("ipv6/conf/all/disable_ipv6", "1")?;
    world.prepare(&world.plan())?;
    let read = |setting: &str| world.node.read_sysctl(&format!("ipv6/conf/{setting}"));
    ensure!(
        (read("all/disable_ipv6")?, read("all/forwarding")?) == ("1".into(), "0".into()),
        "IPv6 is not touched where pods have none"
    );
    world.prepare(&NodePlan {
        ipv6: true,
        ..world.plan()
    })?;
    for (setting, value) in [
        ("all/disable_ipv6", "0"),
        ("all/forwarding", "1"),
        ("eth0/accept_ra", "2"),
    ] {
        ensure!(read(setting)? == value, "{setting} is {}", read(setting)?);
    }
    Ok(())
}

fn eni_set_up() -> Result<()> {
    let world = World::new()?;
    let plan = EniPlan {
        ipv6: true,
        ..eni_plan()
    };
    world.set_up_eni(&plan)?;
    let routes = world.node.ip("-6 route show table 2")?;
    ensure!(
        routes.starts_with("default via fe80:ec2::1 dev eth1 proto 87 ")
            && routes.lines().count() == 1,
        "{routes}"
    );
    for (setting, value) in [("accept_ra", "0"), ("disable_ipv6", "0")] {
        ensure!(
            world
                .node
                .read_sysctl(&format!("ipv6/conf/eth1/{setting}"))?
                == value
        );
    }
    let own = world.node.ip("-o -6 addr show dev eth1")?;
    ensure!(
        own.contains("fe80::") && !own.contains("tentative") && own.lines().count() == 1,
        "the link-local address asks for the router: {own}"
    );
    world
        .node
        .ip("addr add 2001:db8:0:1::99/64 dev eth1 nodad")?;
    world.set_up_eni(&plan)?;
    ensure!(world.node.ip("-o -6 addr show dev eth1")? == own);
    let main = world.node.ip("-6 route show table main dev eth1")?;
    ensure!(!main.contains("2001:db8"), "{main}");
    Ok(())
}

fn packets() -> Result<()> {
    let world = World::dual()?;
    let pods = [
        (pod(&world, P0)?, P0),
        (pod(&world, P1)?, P1),
        (pod(&world, S0)?, S0),
    ];
    let node = Echo::udp(&world.node, NODE_6)?;
    let vpc = Echo::udp(&world.vpc_host, VPC_HOST_6)?;
    for (pod, address) in &pods {
        let server = Echo::udp(&pod.ns, *address)?;
        for (client, source) in &pods {
            sees(&client.ns, server.address, *source)?;
        }
        sees(&pod.ns, node.address, *address)?;
        sees(&world.node, server.address, NODE_6)?;
        sees(&pod.ns, vpc.address, *address)?;
        sees(&world.vpc_host, server.address, VPC_HOST_6)?;
        let server = Echo::tcp(&pod.ns, *address)?;
        ensure!(ask_tcp(&world.vpc_host, server.address)? == IpAddr::V6(VPC_HOST_6));
    }
    Ok(())
}

fn node_port() -> Result<()> {
    let world = World::dual()?;
    for (address, port) in [(P0, 30080), (S0, 30081)] {
        let pod = pod(&world, address)?;
        let (tcp, udp) = (Echo::tcp(&pod.ns, address)?, Echo::udp(&pod.ns, address)?);
        // As kube-proxy writes it for externalTrafficPolicy Local.
        world.node.nft(&[&format!(
            "add table ip6 proxy; \
             add chain ip6 proxy pre {{ type nat hook prerouting priority dstnat; }}; \
             add rule ip6 proxy pre ip6 daddr {NODE_6} tcp dport {port} dnat to [{address}]:{}; \
             add rule ip6 proxy pre ip6 daddr {NODE_6} udp dport {port} dnat to [{address}]:{}",
            tcp.address.port(),
            udp.address.port()
        )])?;
        let node_port = SocketAddr::from((NODE_6, port));
        let seen = ask_tcp(&world.vpc_host, node_port)?;
        ensure!(
            seen == IpAddr::V6(VPC_HOST_6),
            "the pod {address} sees {seen}"
        );
        sees(&world.vpc_host, node_port, VPC_HOST_6)?;
        // What the pod begins itself leaves by its own ENI as before.
        let vpc = Echo::udp(&world.vpc_host, VPC_HOST_6)?;
        sees(&pod.ns, vpc.address, address)?;
    }
    Ok(())
}

fn both_families() -> Result<()> {
    let world = World::dual()?;
    // The VPC's own links send what they are given once their carrier is noted, as by the question (Linux 6.8).
    for (place, links) in [
        (&world.node, ["eth0", "eth1"].as_slice()),
        (&world.vpc, &["r0", "r1", "r2"]),
        (&world.vpc_host, &["eth0"]),
    ] {
        for link in links {
            place.ip(&format!("link show {link}"))?;
        }
    }
    let host = (
        Echo::udp(&world.vpc_host, crate::world::VPC_HOST)?,
        Echo::udp(&world.vpc_host, VPC_HOST_6)?,
    );
    for (v6, n) in [(P0, 60), (S0, 61)] {
        let v4 = Ipv4Addr::new(10, 0, 0, n);
        let pod = dual(&world, v4, v6)?;
        // One datagram, no second try: nothing is detected or asked for first.
        for (server, source) in [(&host.0, IpAddr::from(v4)), (&host.1, IpAddr::from(v6))] {
            let answer = pod.ns.inside(|| {
                let socket = std::net::UdpSocket::bind((source, 0))?;
                socket.set_read_timeout(Some(crate::world::PATIENCE))?;
                socket.send_to(b"hello", server.address)?;
                let mut buffer = [0; 100];
                let size = socket.recv(&mut buffer)?;
                Ok(String::from_utf8(buffer[..size].to_vec())?)
            });
            let answer = answer.with_context(|| format!("from {source} to {}", server.address))?;
            ensure!(answer.parse::<SocketAddr>()?.ip() == source, "{answer}");
        }
    }
    Ok(())
}

fn unreachable() -> Result<()> {
    let world = World::dual()?;
    let client = pod(&world, P1)?;
    let nobody = SocketAddr::from((P0, 9));
    for from in [&client.ns, &world.vpc_host] {
        let error = refused(from, nobody)?;
        let told = [ErrorKind::HostUnreachable, ErrorKind::NetworkUnreachable];
        ensure!(told.contains(&error), "{error}");
    }
    let pod = pod(&world, P0)?;
    ensure!(refused(&client.ns, nobody)? == ErrorKind::ConnectionRefused);
    world.disconnect(&pod.link)?;
    ensure!(refused(&client.ns, nobody)? != ErrorKind::ConnectionRefused);
    Ok(())
}

fn jumbo() -> Result<()> {
    let world = World::dual()?;
    // 40 bytes of IPv6 and 8 of UDP before it.
    let payload = vec![7; 9001 - 48];
    world.vpc.nft(&[
        "add table ip6 whole; add chain ip6 whole in { type filter hook prerouting priority -450; }; \
         add rule ip6 whole in exthdr frag exists drop",
    ])?;
    let host = Echo::udp(&world.vpc_host, VPC_HOST_6)?;
    for address in [P0, S0] {
        let pod = pod(&world, address)?;
        ask_udp_with(&pod.ns, host.address, &payload)?;
        let server = Echo::udp(&pod.ns, address)?;
        ask_udp_with(&world.vpc_host, server.address, &payload)?;
    }
    Ok(())
}

fn pods_told() -> Result<()> {
    let world = World::dual()?;
    let _pod = dual(&world, V4, S0)?;
    let told = world
        .node
        .block_on(|| async { Ok(Host::open()?.pods().await?) })?;
    ensure!(told == [IpAddr::from(V4), S0.into()], "{told:?}");
    Ok(())
}

fn found() -> Result<()> {
    let world = World::dual()?;
    let pod = dual(&world, V4, P0)?;
    let find = |link: &PodLink| {
        world.node.block_on(|| async {
            Ok(datapath::pod::find(&NetNs::open(pod.ns.path())?, link).await?)
        })
    };
    ensure!(find(&pod.link)?.as_ref() == Some(&pod.wiring));
    for addresses in [vec![V4.into()], vec![P0.into()], vec![V4.into(), P1.into()]] {
        let different = PodLink {
            addresses,
            ..pod.link.clone()
        };
        ensure!(
            find(&different)?.is_none(),
            "{different:?} is not this link"
        );
    }
    world
        .node
        .ip(&format!("-6 route del {P0} table {PODS_TABLE}"))?;
    ensure!(
        find(&pod.link)?.is_none(),
        "nothing leads to the pod by IPv6"
    );
    Ok(())
}

fn refusals() -> Result<()> {
    let world = World::new()?;
    let ns = Ns::new("pod")?;
    let before = world.node.state()?;
    for address in ["::", "::1", "fe80::2", "ff02::1", "::ffff:10.0.0.50"] {
        let error = refusal(&world, &ns, &link("c1", address.parse::<IpAddr>()?))?;
        ensure!(matches!(error, PodError::BadAddress(_)), "{error}");
        ensure!(error.to_string().contains(address), "{error}");
    }
    let mut narrow = dual_link(V4, P0);
    narrow.mtu = 1279;
    let error = refusal(&world, &ns, &narrow)?;
    ensure!(error.to_string().contains("1279"), "{error}");
    world.node.state()?.ensure_same(&before, "left on the node")
}

fn refusal(world: &World, ns: &Ns, link: &PodLink) -> Result<PodError> {
    let error = world.connect(ns, link).err().context("it was made")?;
    error.downcast().context("not a PodError")
}

fn nothing_left() -> Result<()> {
    let world = World::dual()?;
    world.deliver(0, V4)?;
    world.hold(0, &[V4])?;
    let before = world.node.state()?;
    ensure!(
        world
            .node
            .ip("-6 route show table 5120")?
            .contains(PREFIX_6),
        "the prefix is held"
    );
    let pod = world.bare_pod(dual_link(V4, P0))?;
    ensure!(world.node.state()? != before);
    drop(pod);
    eventually(
        "the node is as before",
        || Ok(world.node.state()? == before),
    )
}
