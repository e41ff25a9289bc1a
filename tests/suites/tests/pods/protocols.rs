//! Beside TCP's handshakes: datagrams, pings, and data over a path that is narrower than its ends.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use aws_sim::fabric::FabricEni;
use libtest_mimic::Trial;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, recv, sendto, socket};
use suites::harness::async_test;
use suites::node::{Node, json_of, text_of};
use vpc_lab::probe::{PATIENCE, UDP_OVERHEAD};
use vpc_lab::{Lab, LabConfig, Netns, places, probe};

use crate::paths::assert_no_wrong_way;

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        async_test("udp_and_icmp_take_every_path_too", udp_and_icmp),
        async_test(
            "tcp_of_pods_on_each_eni_goes_on_where_the_path_is_narrow",
            || narrow(1),
        ),
        async_test(
            "tcp_of_ipv6_pods_on_a_secondary_eni_goes_on_where_the_path_is_narrow",
            || narrow(FULL),
        ),
        async_test(
            "the_answer_to_a_node_port_goes_on_where_the_path_is_narrow",
            narrow_node_port,
        ),
    ]
}

/// So many of the node's own that no IPv6 slot of its primary ENI is left.
const FULL: usize = 10;

/// Two m5.large nodes with dual-stack pods.
fn lab(ipv6_addresses: usize) -> anyhow::Result<Lab> {
    Lab::start(LabConfig {
        link_lag: Duration::from_millis(50),
        ipv6_addresses,
        ..LabConfig::default()
    })
}

struct Pod {
    netns: Netns,
    addresses: [IpAddr; 2],
}

/// A dual-stack pod.
fn pod(lab: &Lab, node: &Node<'_>, name: &str) -> anyhow::Result<Pod> {
    let netns = lab.pod_netns(&format!("pod-{name}"))?;
    let sandbox = node.sandbox(&format!("sandbox-{name}"), name, netns.path());
    let result = sandbox.add()?.result()?;
    let address = |index: usize| -> anyhow::Result<IpAddr> {
        let text = result["ips"][index]["address"].as_str();
        let text = text.and_then(|text| text.split('/').next());
        Ok(text.context("a family is missing")?.parse()?)
    };
    let addresses = [address(0)?, address(1)?];
    lab.settle()?;
    Ok(Pod { netns, addresses })
}

async fn node<'lab>(lab: &'lab Lab, name: &str) -> anyhow::Result<Node<'lab>> {
    let mut node = Node::new(lab, name)
        .with("ENABLE_IPv4", true)
        .with("ENABLE_IPv6", true);
    node.start_ipamd().await?;
    Ok(node)
}

/// A pod on the primary ENI, and one on the second one.
fn on_both_enis(lab: &Lab, node: &Node<'_>) -> anyhow::Result<[Pod; 2]> {
    let mut pods = (0..10)
        .map(|number| pod(lab, node, &format!("{}-{number}", node.name())))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let (last, first) = (pods.pop(), pods.into_iter().next());
    let both = [first.context("no pods")?, last.context("no pods")?];
    for (pod, eni) in both.iter().zip(0..) {
        let IpAddr::V4(address) = pod.addresses[0] else {
            bail!("{} is not IPv4", pod.addresses[0])
        };
        let index = crate::world::device_index_in_ec2(lab, address);
        assert_eq!(index, Some(eni), "{address}");
    }
    Ok(both)
}

/// ICMP asks, and the kernel behind the address answers.
fn ping(from: &Netns, to: IpAddr) -> anyhow::Result<()> {
    const WORD: &[u8] = b"weir asks";
    let (family, protocol, request, reply) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8, 0),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128, 129),
    };
    let asking = from.run(|| socket(family, SocketType::RAW, Some(protocol)))?;
    set_socket_timeout(&asking, Timeout::Recv, Some(PATIENCE))?;
    let mut packet = [&[request, 0, 0, 0, 0x57, 0x45, 0, 1], WORD].concat();
    if to.is_ipv4() {
        // The kernel does it for IPv6.
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    sendto(
        &asking,
        &packet,
        SendFlags::empty(),
        &SocketAddr::new(to, 0),
    )?;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let mut buffer = [0; 256];
        let (length, _) = recv(&asking, &mut buffer[..], RecvFlags::empty())
            .with_context(|| format!("{} to {to}: no answer", from.name()))?;
        // IPv4 has its header before it.
        let header = if to.is_ipv4() { 20 } else { 0 };
        let answer = buffer.get(header..length).unwrap_or_default();
        if answer.first() == Some(&reply) && answer.ends_with(WORD) {
            return Ok(());
        }
    }
    bail!("{} to {to}: no answer", from.name())
}

fn checksum(packet: &[u8]) -> u16 {
    let words = packet.chunks(2).map(|word| match word {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

async fn udp_and_icmp() -> anyhow::Result<()> {
    let lab = lab(1)?;
    let (a, b) = (node(&lab, "a").await?, node(&lab, "b").await?);
    let near = on_both_enis(&lab, &a)?;
    let far = pod(&lab, &b, "far")?;
    for family in [0, 1] {
        let of_pod = |pod: &'_ Pod| pod.addresses[family];
        let of_node = |node: &Node<'_>| -> anyhow::Result<IpAddr> {
            Ok(if family == 0 {
                node.lab().primary_address().into()
            } else {
                node.lab().ipv6_address().context("no IPv6")?.into()
            })
        };
        let places = [
            (&near[0].netns, of_pod(&near[0])),
            (&near[1].netns, of_pod(&near[1])),
            (&far.netns, of_pod(&far)),
            (a.lab().netns(), of_node(&a)?),
            (b.lab().netns(), of_node(&b)?),
        ];
        let headers = UDP_OVERHEAD + if family == 0 { 0 } else { 20 };
        let whole = places::MTU as usize - headers;
        for (from, source) in places {
            for (to, address) in places {
                ping(from, address)?;
                let size = if source == address { 100 } else { whole };
                let seen = probe::udp(from, to, address, size)?;
                let told = format!("{} to {address}: {seen:?}", from.name());
                assert_eq!(seen.answered_from(), Some(source), "{told}");
            }
        }
    }
    let public = a.lab().public_address().context("no public address")?;
    let (internet, peer) = (lab.internet(), lab.peer());
    for pod in &near {
        for (host, source) in [(internet, public), (peer, a.lab().primary_address())] {
            ping(&pod.netns, host.address().into())?;
            let seen = probe::udp(&pod.netns, host.netns(), host.address(), 1400)?;
            assert_eq!(seen.answered_from(), Some(source.into()), "{seen:?}");
        }
        ping(peer.netns(), pod.addresses[0])?;
    }
    assert_no_wrong_way(&lab)
}

/// What the hop in the way carries, in bytes.
const NARROW: u32 = 1400;

/// Makes the VPC's way to an address narrower than both ends think; what is too big for it is told by ICMP.
fn narrow_way(lab: &Lab, to: IpAddr) -> anyhow::Result<()> {
    let route = json_of(lab.vpc(), "ip", &["-j", "route", "get", &to.to_string()])?;
    let link = route[0]["dev"].as_str().context("no way there")?;
    let mtu = NARROW.to_string();
    text_of(lab.vpc(), "ip", &["link", "set", link, "mtu", &mtu])?;
    Ok(())
}

/// Who sends.
#[derive(Debug, Clone, Copy)]
enum Sender {
    Client,
    Server,
}

/// Far more than what is in flight before the first ICMP comes.
const BYTES: usize = 2_000_000;

/// A connection over which one side sends much, and the other gets it all.
fn transfer(
    client: &Netns,
    to: SocketAddr,
    server: &Netns,
    listen: SocketAddr,
    sender: Sender,
) -> anyhow::Result<()> {
    const ENOUGH: Duration = Duration::from_secs(10);
    let listener = server.run(|| TcpListener::bind(listen))?;
    let connected = client
        .run(|| TcpStream::connect_timeout(&to, PATIENCE))
        .with_context(|| format!("connecting to {to}"))?;
    let (accepted, _) = listener.accept()?;
    let (mut from, mut into) = match sender {
        Sender::Client => (connected, accepted),
        Sender::Server => (accepted, connected),
    };
    from.set_write_timeout(Some(ENOUGH))?;
    into.set_read_timeout(Some(ENOUGH))?;
    thread::scope(|scope| {
        let receiver = scope.spawn(move || -> anyhow::Result<()> {
            let mut data = vec![0; BYTES];
            into.read_exact(&mut data).context("data got lost")?;
            ensure!(data.iter().all(|byte| *byte == 7), "other data");
            Ok(())
        });
        from.write_all(&vec![7; BYTES])?;
        receiver.join().expect("the receiver does not panic")
    })
    .with_context(|| format!("{} to {to} in {}", client.name(), server.name()))
}

/// The MTU that the kernel there has learned for the way to an address.
fn learned(netns: &Netns, to: IpAddr) -> anyhow::Result<Option<u32>> {
    let route = text_of(netns, "ip", &["route", "get", &to.to_string()])?;
    let mut words = route.split_whitespace();
    let mtu = words.find(|word| *word == "mtu").and_then(|_| words.next());
    Ok(mtu.map(str::parse).transpose()?)
}

/// From pods on the primary ENI and on another: to a pod of another node, and for IPv4 out of the VPC, where ICMP comes
/// to the node's own address, and is the pod's.
async fn narrow(ipv6_addresses: usize) -> anyhow::Result<()> {
    let lab = lab(ipv6_addresses)?;
    let (a, b) = (node(&lab, "a").await?, node(&lab, "b").await?);
    let near = on_both_enis(&lab, &a)?;
    let far = pod(&lab, &b, "far")?;
    let IpAddr::V6(ipv6) = near[0].addresses[1] else {
        bail!("{} is not IPv6", near[0].addresses[1])
    };
    let enis = lab.sim().fabric().enis;
    let holds = |eni: &&FabricEni| eni.ipv6_prefixes.iter().any(|net| net.contains(&ipv6));
    let holder = enis.iter().find(holds).map(|eni| eni.device_index);
    let index = u32::from(ipv6_addresses == FULL);
    assert_eq!(holder, Some(index), "{ipv6}");
    // Routers have global addresses; from a link-local one no node would pass ICMP on.
    let router = ["-6", "addr", "add", "2001:db8:ffff::1/128", "dev", "lo"];
    text_of(lab.vpc(), "ip", &router)?;
    let mut ways = far.addresses.map(|address| (&far.netns, address)).to_vec();
    ways.push((lab.peer().netns(), lab.peer().address().into()));
    for (_, address) in &ways {
        narrow_way(&lab, *address)?;
    }
    for pod in &near {
        for (server, address) in &ways {
            let to = SocketAddr::new(*address, 8080);
            transfer(&pod.netns, to, server, to, Sender::Client)?;
            let mtu = learned(&pod.netns, *address)?;
            assert_eq!(mtu, Some(NARROW), "{} to {address}", pod.netns.name());
        }
    }
    assert_no_wrong_way(&lab)
}

async fn narrow_node_port() -> anyhow::Result<()> {
    let lab = lab(1)?;
    let a = node(&lab, "a").await?;
    let near = on_both_enis(&lab, &a)?;
    let (node, peer) = (a.lab().primary_address(), lab.peer());
    narrow_way(&lab, peer.address().into())?;
    for (pod, port) in near.iter().zip([30080, 30081]) {
        let address = pod.addresses[0];
        let rules = format!(
            "table ip node-port-{port} {{ chain prerouting {{ type nat hook prerouting priority dstnat; \
             tcp dport {port} fib daddr type local dnat to {address}:8080; }}; }}",
        );
        text_of(a.lab().netns(), "nft", &[&rules])?;
        let to = SocketAddr::new(node.into(), port);
        let listen = SocketAddr::new(address, 8080);
        transfer(peer.netns(), to, &pod.netns, listen, Sender::Server)?;
        let mtu = learned(&pod.netns, peer.address().into())?;
        assert_eq!(mtu, Some(NARROW), "{}", pod.netns.name());
    }
    assert_no_wrong_way(&lab)
}
