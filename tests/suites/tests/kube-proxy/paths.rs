//! Every path to a Service: who connects, to what, and whom the backend sees.

use std::net::IpAddr;

use anyhow::Context;
use vpc_lab::probe::Tcp;
use vpc_lab::{Lab, Netns};

use crate::cluster::Pods;
use crate::services::{Backend, Family, PORT, SERVICES, Service, TARGET_PORT};

/// Someone who connects.
struct Client<'a> {
    what: &'static str,
    netns: &'a Netns,
    address: IpAddr,
    /// The pod that it is, if it is one.
    pod: Option<Backend>,
}

/// All Services from all sides, in both families; and nothing may have left by an ENI that does not hold its source.
pub(crate) fn assert_all_reach_all(lab: &Lab, pods: &Pods) -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    for family in [Family::V4, Family::V6] {
        for service in &SERVICES {
            wrong.extend(inside(lab, pods, family, service)?);
            wrong.extend(outside(lab, pods, family, service)?);
        }
    }
    assert!(wrong.is_empty(), "{:#?}\n{wrong:#?}", lab.drops()?);
    let drops = lab.drops()?;
    assert_eq!(
        (drops.spoofed_source, drops.nobody_holds_it),
        (0, 0),
        "{drops:?}"
    );
    Ok(())
}

/// From the node and its pods: to the ClusterIP, as themselves, and to the NodePort.
fn inside(
    lab: &Lab,
    pods: &Pods,
    family: Family,
    service: &Service,
) -> anyhow::Result<Vec<String>> {
    let node = node_address(lab, "a", family)?;
    let pod = |what, backend| Client {
        what,
        netns: &pods.of(backend).netns,
        address: pods.of(backend).address(family),
        pod: Some(backend),
    };
    let clients = [
        pod("a pod on the primary ENI", Backend::Primary),
        pod("a pod on the second ENI", Backend::Secondary),
        Client {
            what: "the node",
            netns: lab.node("a").netns(),
            address: node,
            pod: None,
        },
    ];
    let mut wrong = Vec::new();
    for client in clients {
        // Its own answer would go from the pod to itself, past who translated the request.
        let hairpin = client.pod == Some(service.backend);
        let own = if hairpin { node } else { client.address };
        wrong.extend(connect(pods, family, service, &client, None, &[own])?);
        // Whether a pod of the cluster keeps its address here, kube-proxy's modes see differently; else it leaves as
        // the node, by its own ENI.
        let mut any = own_addresses(lab, "a", family)?;
        any.push(client.address);
        wrong.extend(connect(pods, family, service, &client, Some(node), &any)?);
    }
    Ok(wrong)
}

/// From outside the node, to the NodePort: as themselves where the policy is Local, else as the node.
fn outside(
    lab: &Lab,
    pods: &Pods,
    family: Family,
    service: &Service,
) -> anyhow::Result<Vec<String>> {
    let (a, b) = (lab.node("a"), lab.node("b"));
    let node = node_address(lab, "a", family)?;
    let client = |what, netns, address| Client {
        what,
        netns,
        address,
        pod: None,
    };
    let mut clients = vec![(
        client("another node", b.netns(), node_address(lab, "b", family)?),
        node,
    )];
    if family == Family::V4 {
        let public = a.public_address().context("no public address")?;
        let (internet, peer) = (lab.internet(), lab.peer());
        clients.push((
            client("the internet", internet.netns(), internet.address().into()),
            public.into(),
        ));
        clients.push((
            client("a peered network", peer.netns(), peer.address().into()),
            node,
        ));
    }
    let mut wrong = Vec::new();
    for (client, to) in clients {
        let source = if service.local { client.address } else { node };
        wrong.extend(connect(
            pods,
            family,
            service,
            &client,
            Some(to),
            &[source],
        )?);
    }
    Ok(wrong)
}

/// One connection, by the node's address or by the ClusterIP; what was wrong with it, if anything.
fn connect(
    pods: &Pods,
    family: Family,
    service: &Service,
    client: &Client<'_>,
    node: Option<IpAddr>,
    sources: &[IpAddr],
) -> anyhow::Result<Option<String>> {
    let (to, port) = match node {
        Some(node) => (node, service.node_port()),
        None => (service.cluster_ip(family), PORT),
    };
    let probe = Tcp {
        port: Some(port),
        listen_port: Some(TARGET_PORT),
        ..Tcp::to(to)
    };
    let seen = probe.send(client.netns, &pods.of(service.backend).netns)?;
    let right = seen
        .answered_from()
        .is_some_and(|source| sources.contains(&source));
    Ok((!right).then(|| {
        format!(
            "{} to {} at {to}:{port}: seen from {:?}, not from {sources:?}: {}",
            client.what, service.name, seen.source, seen.why
        )
    }))
}

/// All addresses that are the node's own.
fn own_addresses(lab: &Lab, name: &str, family: Family) -> anyhow::Result<Vec<IpAddr>> {
    let mut own = vec![node_address(lab, name, family)?];
    if family == Family::V4 {
        let instance = lab.node(name).instance_id();
        let enis = lab.sim().fabric().enis;
        let enis = enis
            .iter()
            .filter(|eni| eni.instance_id.as_deref() == Some(instance));
        own.extend(enis.map(|eni| IpAddr::V4(eni.primary_address)));
    }
    Ok(own)
}

pub(crate) fn node_address(lab: &Lab, name: &str, family: Family) -> anyhow::Result<IpAddr> {
    let node = lab.node(name);
    match family {
        Family::V4 => Ok(node.primary_address().into()),
        Family::V6 => Ok(node.ipv6_address().context("a node without IPv6")?.into()),
    }
}
