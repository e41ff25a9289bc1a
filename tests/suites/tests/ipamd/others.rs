//! ENIs on the node that are not the pool's: they are left alone, and counted.
//!
//! `#N` is an issue or pull request of aws/amazon-vpc-cni-k8s.

use std::time::Duration;

use anyhow::Context;
use aws_sim::Event;
use libtest_mimic::Trial;
use proto::v1::{Eni, EniState, GetPoolResponse};
use suites::harness::async_test;
use suites::node::Node;
use vpc_lab::{Lab, LabConfig};

use crate::frugal::{ask, at_rest, text};
use crate::rig::{Plugin, imds_shows_all, lab_of};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        async_test(
            "trunk_branch_and_no_manage_interfaces_are_left_alone_and_counted",
            trunk_and_no_manage,
        ),
        async_test(
            "efa_interfaces_and_those_on_further_network_cards_are_left_alone_and_counted",
            efa_and_cards,
        ),
        async_test(
            "an_eni_of_others_without_an_address_of_the_pods_family_keeps_no_node_from_starting",
            other_family,
        ),
    ]
}

fn lab(instance_type: &str, ipv6_addresses: usize) -> anyhow::Result<Lab> {
    let mut config = LabConfig {
        ipv6_addresses,
        ..LabConfig::default()
    };
    config.nodes.truncate(1);
    for node in &mut config.nodes {
        node.instance_type = instance_type.to_owned();
    }
    lab_of(config)
}

/// An ENI of somebody else's, in the node's subnet.
fn foreign(lab: &Lab, more: &[(&str, &str)]) -> anyhow::Result<String> {
    let instance = lab.node("a").instance_id().into();
    let subnet = lab.sim().look(|world, _| {
        let eni = world.primary_eni(&instance);
        eni.map(|eni| eni.subnet.as_str().to_owned())
    });
    let subnet = subnet.context("the node has a primary ENI")?;
    let what = [&[("SubnetId", subnet.as_str())], more].concat();
    text(
        &ask(lab, "CreateNetworkInterface", &what)?,
        "networkInterfaceId",
    )
}

/// The same, on the node.
fn attached(
    lab: &Lab,
    (card, device_index): (&str, &str),
    more: &[(&str, &str)],
) -> anyhow::Result<String> {
    let eni = foreign(lab, more)?;
    let attach = [
        ("NetworkInterfaceId", eni.as_str()),
        ("InstanceId", lab.node("a").instance_id()),
        ("NetworkCardIndex", card),
        ("DeviceIndex", device_index),
    ];
    ask(lab, "AttachNetworkInterface", &attach)?;
    Ok(eni)
}

fn tag<'a>(key: &'a str, value: &'a str) -> [(&'a str, &'a str); 3] {
    [
        ("TagSpecification.1.ResourceType", "network-interface"),
        ("TagSpecification.1.Tag.1.Key", key),
        ("TagSpecification.1.Tag.1.Value", value),
    ]
}

/// The tag of what was made for this node's pods: it does not make an ENI one for pods that is of another kind.
fn made_for(lab: &Lab) -> [(&str, &str); 3] {
    let instance = lab.node("a").instance_id();
    tag("node.k8s.amazonaws.com/instance_id", instance)
}

fn of_type<'a>(kind: &'a str, tags: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&[("InterfaceType", kind)], tags].concat()
}

/// EFAs can't come to an instance that runs.
fn while_stopped<T>(lab: &Lab, change: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    const LONG: Duration = Duration::from_mins(5);
    let instance = || lab.node("a").instance_id().to_owned();
    lab.sim().happen(&Event::StopInstance {
        instance: instance(),
    })?;
    lab.sim().skip(LONG);
    let changed = change()?;
    lab.sim().happen(&Event::StartInstance {
        instance: instance(),
    })?;
    lab.sim().skip(LONG);
    lab.settle()?;
    Ok(changed)
}

/// What EC2 knows of ENIs, as text to compare.
fn known(lab: &Lab, enis: &[String]) -> Vec<String> {
    lab.sim().look(|world, _| {
        let found = enis.iter().map(|id| world.eni(&id.as_str().into()));
        found.map(|eni| format!("{eni:?}")).collect()
    })
}

fn shown<'p>(pool: &'p GetPoolResponse, eni: &str) -> anyhow::Result<&'p Eni> {
    let found = pool.enis.iter().find(|it| it.eni_id == eni);
    found.with_context(|| format!("{eni} is not shown: {pool:#?}"))
}

/// Starts with more wanted than there is room for, and sees that nothing is asked about these ENIs, nothing is refused, and
/// nothing of them changes.
async fn grows_beside(
    lab: &Lab,
    node: &mut Node<'_>,
    enis: &[String],
    free: u32,
) -> anyhow::Result<GetPoolResponse> {
    imds_shows_all(lab);
    let (before, asked) = (known(lab, enis), lab.sim().calls().len());
    node.start_ipamd().await?;
    node.wait_for_pool("what there is room for", |pool| {
        pool.totals.is_some_and(|totals| totals.free == free) && pool.pending_calls.is_empty()
    })
    .await?;
    at_rest(lab).await;
    let calls = lab.sim().calls().split_off(asked);
    for call in &calls {
        assert_eq!(call.error, None, "{calls:#?}");
        let of = call.params.get("NetworkInterfaceId");
        assert!(of.is_none_or(|of| !enis.contains(of)), "{call:#?}");
    }
    let made = calls
        .iter()
        .filter(|it| it.action == "CreateNetworkInterface");
    assert_eq!(made.count(), 1, "{calls:#?}");
    assert_eq!(known(lab, enis), before);
    node.pool().await
}

/// #2801, #1210: addresses were put on a trunk. #726, #1607, #3660: others' ENIs were counted wrong, or taken off the node.
async fn trunk_and_no_manage() -> anyhow::Result<()> {
    // Four ENIs of fourteen addresses for pods.
    let lab = lab("m5.xlarge", 0)?;
    let trunk = of_type("trunk", &made_for(&lab));
    let trunk = attached(&lab, ("0", "1"), &trunk)?;
    let branch = foreign(&lab, &[("InterfaceType", "branch")])?;
    let associate = [
        ("TrunkInterfaceId", trunk.as_str()),
        ("BranchInterfaceId", branch.as_str()),
        ("VlanId", "7"),
    ];
    ask(&lab, "AssociateTrunkInterface", &associate)?;
    let kept = tag("node.k8s.amazonaws.com/no_manage", "true");
    let kept = attached(&lab, ("0", "2"), &kept)?;

    let mut node = Node::new(&lab, "a").with("MINIMUM_IP_TARGET", 40);
    let enis = [trunk, branch, kept];
    let pool = grows_beside(&lab, &mut node, &enis, 28).await?;
    let [trunk, _, kept] = &enis;
    for eni in [trunk, kept] {
        let shown = shown(&pool, eni)?;
        assert_eq!(shown.state(), EniState::Unmanaged, "{shown:#?}");
        assert!(shown.addresses.is_empty(), "{shown:#?}");
    }
    let own = pool.enis.last().context("no ENI")?;
    assert_eq!((own.device_index, own.route_table), (3, 4), "{pool:#?}");
    // One too many.
    let mut plugin = Plugin::connect(&node.socket()).await?;
    for pod in 0..28 {
        plugin.add(&format!("pod-{pod}")).await?;
    }
    let refused = plugin.add("one more").await.expect_err("it is full");
    assert!(refused.message().contains("28"), "{refused:?}");
    node.stop_ipamd().await
}

/// #1237: an EFA was detached. #2784: it was counted wrong.
async fn efa_and_cards() -> anyhow::Result<()> {
    // Four cards of fifteen ENIs of 49 addresses for pods.
    let lab = lab("p4d.24xlarge", 0)?;
    let tags = made_for(&lab);
    let enis = while_stopped(&lab, || {
        Ok([
            attached(&lab, ("0", "2"), &of_type("efa", &tags))?,
            attached(&lab, ("2", "1"), &of_type("efa-only", &tags))?,
            attached(&lab, ("3", "1"), &tags)?,
        ])
    })?;
    let mut node = Node::new(&lab, "a")
        .with("MINIMUM_IP_TARGET", 120)
        .with("MAX_ENI", 3);
    let pool = grows_beside(&lab, &mut node, &enis, 98).await?;
    for (eni, table) in enis.iter().zip([3, 10_201, 10_301]) {
        let shown = shown(&pool, eni)?;
        assert_eq!(shown.state(), EniState::Unmanaged, "{shown:#?}");
        assert_eq!(shown.route_table, table, "{shown:#?}");
    }
    let own = |eni: &&Eni| eni.state() == EniState::Ready && eni.device_index == 1;
    let own = pool.enis.iter().find(own).context("no ENI of ours")?;
    assert_eq!(own.route_table, 2, "{own:#?}");
    node.stop_ipamd().await
}

/// #3122, #3489, #3681: a node of one family did not start beside an ENI that had addresses of the other alone, or none.
async fn other_family() -> anyhow::Result<()> {
    // Without any address, where pods get IPv4.
    let lab_v4 = lab("c5n.18xlarge", 0)?;
    while_stopped(&lab_v4, || {
        attached(&lab_v4, ("0", "1"), &[("InterfaceType", "efa-only")])
    })?;
    imds_shows_all(&lab_v4);
    let mut node = Node::new(&lab_v4, "a");
    node.start_ipamd().await?;
    let mut plugin = Plugin::connect(&node.socket()).await?;
    assert!(plugin.address("pod").await?.contains('.'));
    node.stop_ipamd().await?;
    drop(plugin);
    drop(node);
    drop(lab_v4);

    // With IPv4 alone, where pods get IPv6 alone.
    let lab_v6 = lab("m5.large", 1)?;
    let eni = attached(&lab_v6, ("0", "1"), &[])?;
    imds_shows_all(&lab_v6);
    let mut node = Node::new(&lab_v6, "a")
        .with("ENABLE_IPv4", false)
        .with("ENABLE_IPv6", true);
    node.start_ipamd().await?;
    let mut plugin = Plugin::connect(&node.socket()).await?;
    assert!(plugin.address("pod").await?.contains(':'));
    let pool = node.pool().await?;
    assert_eq!(shown(&pool, &eni)?.state(), EniState::Unmanaged);
    node.stop_ipamd().await
}
