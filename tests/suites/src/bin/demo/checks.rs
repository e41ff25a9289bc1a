//! The packets that the demo sends, and what their receivers must see.

use std::net::Ipv4Addr;

use anyhow::{Context, bail};
use suites::node::{Node, json_of, text_of};
use vpc_lab::probe::{self, Seen, Tcp};
use vpc_lab::{Lab, Netns};

use crate::pods::{Pod, Pods};
use crate::report::Check;

/// One end of a check.
#[derive(Clone, Copy)]
struct End<'a> {
    label: &'a str,
    netns: &'a Netns,
    address: Ipv4Addr,
}

impl<'a> From<(&'a Pod, &'a Netns)> for End<'a> {
    fn from((pod, netns): (&'a Pod, &'a Netns)) -> Self {
        Self {
            label: &pod.name,
            netns,
            address: pod.address,
        }
    }
}

/// A UDP payload that fills a frame of the VPC's MTU, 9001 bytes, less the IPv4 and UDP headers.
const JUMBO: usize = 9001 - 20 - 8;

const NODE_PORT: u16 = 30080;
const POD_PORT: u16 = 8080;

/// Sends every packet, and tells each check as it is done.
pub(crate) fn packets(
    lab: &Lab,
    a: &Node<'_>,
    b: &Node<'_>,
    pods: &Pods<'_>,
    mut tell: impl FnMut(Check),
) -> anyhow::Result<()> {
    let first = End::from(pods.on("a", true, 0)?);
    let neighbour = End::from(pods.on("a", true, 1)?);
    let second_eni = End::from(pods.on("a", false, 0)?);
    let far = End::from(pods.on("b", true, 0)?);
    let node_a = End {
        label: "node a",
        netns: a.lab().netns(),
        address: a.lab().primary_address(),
    };
    let node_b = End {
        label: "node b",
        netns: b.lab().netns(),
        address: b.lab().primary_address(),
    };
    let internet = End {
        label: "internet",
        netns: lab.internet().netns(),
        address: lab.internet().address(),
    };
    let peer = End {
        label: "peered network",
        netns: lab.peer().netns(),
        address: lab.peer().address(),
    };
    let public = a
        .lab()
        .public_address()
        .context("node a has no public address")?;

    // What the receiver must see: the pod itself wherever the VPC routes pods' addresses.
    for (name, from, to) in [
        ("pod to pod on one node", first, neighbour),
        (
            "pod to pod, from the primary to a secondary ENI",
            first,
            second_eni,
        ),
        ("pod to pod across nodes, from a primary ENI", first, far),
        ("pod to pod across nodes, back to it", far, first),
        (
            "pod to pod across nodes, from a secondary ENI",
            second_eni,
            far,
        ),
        (
            "pod to pod across nodes, to a secondary ENI",
            far,
            second_eni,
        ),
        ("node to its pod", node_a, first),
        ("node to its pod on a secondary ENI", node_a, second_eni),
        ("node to a pod of another node", node_b, second_eni),
        ("pod to its node", first, node_a),
        ("pod on a secondary ENI to its node", second_eni, node_a),
        ("pod to another node", second_eni, node_b),
    ] {
        tell(tcp(name, from, to, from.address, "")?);
    }

    let localhost = End {
        address: Ipv4Addr::LOCALHOST,
        ..first
    };
    let name = "two containers of one pod by localhost";
    tell(tcp(name, localhost, localhost, Ipv4Addr::LOCALHOST, "")?);

    let note = "SNAT to the node's own address, which the internet gateway knows by its public one";
    tell(tcp("pod to the internet", first, internet, public, note)?);
    tell(tcp(
        "pod on a secondary ENI to the internet",
        second_eni,
        internet,
        public,
        note,
    )?);
    let note = "outside the VPC's CIDRs, so by SNAT to the node's own address";
    tell(tcp(
        "pod to the peered network",
        second_eni,
        peer,
        node_a.address,
        note,
    )?);

    for (from, to) in [(first, far), (second_eni, far)] {
        let seen = probe::udp(from.netns, to.netns, to.address, JUMBO)?;
        let note = "9001 bytes in one packet, don't-fragment set";
        tell(check(
            "a jumbo frame end to end",
            from,
            to,
            &seen,
            from.address,
            note,
        ));
    }

    let to = End {
        label: "node a's port 30080",
        address: node_a.address,
        ..second_eni
    };
    node_port(a, second_eni.address)?;
    let note = "in by the primary ENI to a pod on a secondary one, and the reply back that way";
    tell(connect(
        "NodePort, from another node",
        node_b,
        to,
        node_b.address,
        note,
    )?);
    let to = End {
        address: public,
        ..to
    };
    tell(connect(
        "NodePort, from the internet",
        internet,
        to,
        internet.address,
        note,
    )?);
    Ok(())
}

fn tcp(
    name: &str,
    from: End<'_>,
    to: End<'_>,
    expected: Ipv4Addr,
    note: &str,
) -> anyhow::Result<Check> {
    let seen = probe::tcp(from.netns, to.netns, to.address)?;
    Ok(check(name, from, to, &seen, expected, note))
}

/// A TCP connection to the NodePort; the listener is in the pod.
fn connect(
    name: &str,
    from: End<'_>,
    to: End<'_>,
    expected: Ipv4Addr,
    note: &str,
) -> anyhow::Result<Check> {
    let probe = Tcp {
        port: Some(NODE_PORT),
        listen_port: Some(POD_PORT),
        ..Tcp::to(to.address)
    };
    let seen = probe.send(from.netns, to.netns)?;
    Ok(check(name, from, to, &seen, expected, note))
}

fn check(
    name: &str,
    from: End<'_>,
    to: End<'_>,
    seen: &Seen,
    expected: Ipv4Addr,
    note: &str,
) -> Check {
    let source_seen = seen
        .source
        .map(|source| source.ip())
        .and_then(|source| match source {
            std::net::IpAddr::V4(source) => Some(source),
            std::net::IpAddr::V6(_) => None,
        });
    let ok = seen.reply_ok && source_seen == Some(expected);
    Check {
        name: name.to_owned(),
        from: format!("{} {}", from.label, from.address),
        to: format!("{} {}", to.label, to.address),
        source_seen,
        ok,
        note: match (ok, seen.reply_ok) {
            (true, _) => note.to_owned(),
            (false, true) => format!("the receiver should have seen {expected}"),
            (false, false) => format!("no reply: {}", seen.why),
        },
    }
}

/// What kube-proxy would write for a NodePort Service with externalTrafficPolicy Local.
fn node_port(node: &Node<'_>, pod: Ipv4Addr) -> anyhow::Result<()> {
    let rules = format!(
        "table ip node-port {{ chain prerouting {{ \
           type nat hook prerouting priority dstnat; \
           tcp dport {NODE_PORT} fib daddr type local dnat to {pod}:{POD_PORT}; \
         }}; }}"
    );
    text_of(node.lab().netns(), "nft", &[&rules])?;
    Ok(())
}

/// After the last DEL: no link, neighbour or pod route of ours, and nothing owned.
pub(crate) async fn nothing_left(node: &Node<'_>) -> anyhow::Result<Check> {
    let netns = node.lab().netns();
    let mut left = Vec::new();
    let links = node.pod_links()?;
    if links > 0 {
        left.push(format!("{links} links"));
    }
    let table = datapath::layout::PODS_TABLE.to_string();
    let routes = json_of(netns, "ip", &["-j", "route", "show", "table", &table])?;
    let Some(routes) = routes.as_array() else {
        bail!("`ip -j route` gave no list")
    };
    // A route to a pod has a device; the `unreachable` ones of held addresses have none.
    let to_pods = routes
        .iter()
        .filter(|route| route["type"] != "unreachable")
        .count();
    if to_pods > 0 {
        left.push(format!("{to_pods} routes"));
    }
    let neighbours = text_of(netns, "ip", &["neigh", "show", "nud", "permanent"])?;
    if !neighbours.trim().is_empty() {
        left.push(format!("neighbours: {}", neighbours.trim()));
    }
    let owned = node
        .pool()
        .await?
        .totals
        .context("a pool without totals")?
        .owned;
    if owned > 0 {
        left.push(format!("{owned} owned addresses"));
    }
    Ok(Check {
        name: "nothing is left after DEL".to_owned(),
        from: format!("node {}", node.name()),
        to: "its links, routes, neighbours and pool".to_owned(),
        source_seen: None,
        ok: left.is_empty(),
        note: left.join(", "),
    })
}
