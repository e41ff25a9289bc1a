//! What EC2 is asked and what it is not: by the public thread of those who had it otherwise.
//!
//! `#N` is an issue or pull request of aws/amazon-vpc-cni-k8s; others have their repository's name.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use aws_sim::{Ec2Error, Effect, Fault, ImdsEffect, ImdsFault, Request, WorldConfig};
use libtest_mimic::Trial;
use suites::harness::{async_test, eventually};
use suites::node::Node;
use vpc_lab::{Lab, LabConfig, SubnetConfig};

use crate::rig::{Plugin, actions, calls, lab, lab_of};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        async_test(
            "a_node_that_was_launched_with_addresses_or_prefixes_serves_without_changing_anything",
            launched,
        ),
        async_test(
            "pods_that_come_and_go_make_ipamd_describe_nothing",
            describes_nothing,
        ),
        async_test("enis_on_later_pages_are_seen_too", pages),
        async_test(
            "an_eni_has_its_tags_from_its_first_moment_also_where_tagging_fails",
            tags,
        ),
        async_test(
            "a_subnet_of_another_account_that_cannot_be_described_keeps_no_node_from_starting",
            shared_subnet,
        ),
    ]
}

/// EC2, asked by a person.
pub(crate) fn ask(lab: &Lab, action: &str, parameters: &[(&str, &str)]) -> anyhow::Result<String> {
    let answer = lab
        .sim()
        .call(&Request::new(action, parameters.iter().copied()));
    ensure!(answer.error.is_none(), "{}", answer.body);
    Ok(answer.body)
}

/// The text of the first element of this name.
pub(crate) fn text(xml: &str, name: &str) -> anyhow::Result<String> {
    let (_, rest) = xml
        .split_once(&format!("<{name}>"))
        .with_context(|| format!("no {name} in {xml}"))?;
    let (text, _) = rest.split_once('<').context("half an element")?;
    Ok(text.to_owned())
}

fn primary_eni(lab: &Lab) -> anyhow::Result<String> {
    let instance = lab.node("a").instance_id().into();
    let eni = lab.sim().look(|world, _| {
        let eni = world.primary_eni(&instance);
        eni.map(|eni| eni.id.as_str().to_owned())
    });
    eni.context("the node has a primary ENI")
}

/// So long after the last call a node has come to rest: longer than the pool gathers what nobody waits for.
pub(crate) async fn at_rest(lab: &Lab) {
    const REST: Duration = Duration::from_secs(4);
    let (mut asked, mut since) = (lab.sim().calls().len(), Instant::now());
    while since.elapsed() < REST {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = lab.sim().calls().len();
        if now != asked {
            (asked, since) = (now, Instant::now());
        }
    }
}

/// #405, #420: new nodes that all had to ask for addresses first waited for minutes.
async fn launched() -> anyhow::Result<()> {
    for (parameter, count, delegation) in [
        ("SecondaryPrivateIpAddressCount", "9", "false"),
        ("Ipv4PrefixCount", "1", "true"),
    ] {
        let lab = lab()?;
        let eni = primary_eni(&lab)?;
        let launch = [("NetworkInterfaceId", eni.as_str()), (parameter, count)];
        ask(&lab, "AssignPrivateIpAddresses", &launch)?;
        let before = actions(&lab).len();
        let mut node = Node::new(&lab, "a").with("ENABLE_PREFIX_DELEGATION", delegation);
        node.start_ipamd().await?;
        let mut plugin = Plugin::connect(&node.socket()).await?;
        plugin.address("first").await?;
        at_rest(&lab).await;
        assert_eq!(actions(&lab)[before..], ["DescribeNetworkInterfaces"]);
        node.stop_ipamd().await?;
    }
    Ok(())
}

/// #3719, lyft/cni-ipvlan-vpc-k8s#13: what a feature described for each pod, or every few seconds, throttled accounts.
async fn describes_nothing() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut node = Node::new(&lab, "a").with("IP_COOLDOWN_PERIOD", 1);
    node.start_ipamd().await?;
    let mut plugin = Plugin::connect(&node.socket()).await?;
    let describes = || {
        let actions = actions(&lab).into_iter();
        actions
            .filter(|action| *action == "DescribeNetworkInterfaces")
            .collect::<Vec<_>>()
    };
    plugin.add("first").await?;
    let with_one_pod = describes();
    for _ in 0..3 {
        for pod in 0..20 {
            plugin.add(&format!("pod-{pod}")).await?;
        }
        for pod in 0..20 {
            plugin.del(&format!("pod-{pod}")).await?;
        }
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    assert!(!calls(&lab, "CreateNetworkInterface").is_empty());
    assert_eq!(describes(), with_one_pod);
    node.stop_ipamd().await
}

/// #1333: ENIs beyond the first page were not seen.
async fn pages() -> anyhow::Result<()> {
    let mut config = LabConfig {
        // With it, the ids are such that the first page is empty: EC2 says that pages may be.
        seed: 3,
        world: WorldConfig {
            short_pages: true,
            ..WorldConfig::default()
        },
        ..LabConfig::default()
    };
    config.nodes.truncate(1);
    let lab = lab_of(config)?;
    let mut node = Node::new(&lab, "a").with("MINIMUM_IP_TARGET", 27);
    let full = |pool: &proto::v1::GetPoolResponse| {
        pool.enis.len() == 3 && pool.totals.is_some_and(|totals| totals.free == 27)
    };
    node.start_ipamd().await?;
    node.wait_for_pool("three full ENIs", full).await?;
    node.stop_ipamd().await?;
    // Without its books it has EC2's word alone.
    fs::remove_file(node.books())?;
    let before = actions(&lab).len();
    node.start_ipamd().await?;
    node.wait_for_pool("three full ENIs again", full).await?;
    let asked = &lab.sim().calls()[before..];
    assert!(
        asked.len() >= 2,
        "all were on one page: another seed is needed: {asked:#?}"
    );
    assert!(
        asked
            .iter()
            .all(|call| call.action == "DescribeNetworkInterfaces"),
        "{asked:#?}"
    );
    assert!(asked[1].params.contains_key("NextToken"), "{asked:#?}");
    node.stop_ipamd().await
}

/// #1482, #626, #1447: an ENI that was made and then not tagged was nobody's, for ever.
async fn tags() -> anyhow::Result<()> {
    let lab = lab()?;
    let refusal = Ec2Error::request_limit_exceeded();
    lab.sim()
        .inject(Fault::on("CreateTags", Effect::Error(refusal)));
    // Whatever would come after the making never happens.
    lab.sim()
        .inject(Fault::on("AttachNetworkInterface", Effect::HangBefore));
    let mut node = Node::new(&lab, "a")
        .with("MINIMUM_IP_TARGET", 12)
        .with("CLUSTER_NAME", "demo");
    node.start_ipamd().await?;
    let tags = eventually("a second ENI", async || {
        Ok(lab.sim().look(|world, _| {
            let mut others = world.enis().filter(|eni| eni.attachment.is_none());
            others.next().map(|eni| eni.tags.clone())
        }))
    })
    .await?;
    node.kill_ipamd();
    for (key, value) in [
        (
            "node.k8s.amazonaws.com/instance_id",
            lab.node("a").instance_id(),
        ),
        ("cluster.k8s.amazonaws.com/name", "demo"),
    ] {
        assert_eq!(tags.get(key).map(String::as_str), Some(value), "{tags:?}");
    }
    assert!(calls(&lab, "CreateTags").is_empty());
    Ok(())
}

/// #3489 and its kin: ENIs that a service has put on the node from a subnet of its own account (HyperPod).
async fn shared_subnet() -> anyhow::Result<()> {
    let mut config = LabConfig::default();
    config.nodes.truncate(1);
    config.subnets.push(SubnetConfig {
        name: "theirs".to_owned(),
        cidr: "10.0.9.0/24".parse()?,
        ..config.subnets[0].clone()
    });
    let lab = lab_of(config)?;
    let by_cidr = [
        ("Filter.1.Name", "cidr-block"),
        ("Filter.1.Value.1", "10.0.9.0/24"),
    ];
    let subnet = text(&ask(&lab, "DescribeSubnets", &by_cidr)?, "subnetId")?;
    let made = ask(&lab, "CreateNetworkInterface", &[("SubnetId", &subnet)])?;
    let eni = text(&made, "networkInterfaceId")?;
    let mac = text(&made, "macAddress")?;
    let attach = [
        ("NetworkInterfaceId", eni.as_str()),
        ("InstanceId", lab.node("a").instance_id()),
        ("DeviceIndex", "1"),
    ];
    ask(&lab, "AttachNetworkInterface", &attach)?;
    crate::rig::imds_shows_all(&lab);
    let missing = Ec2Error {
        code: "InvalidSubnetID.NotFound".to_owned(),
        message: format!("The subnet ID '{subnet}' does not exist"),
        status: 400,
    };
    lab.sim()
        .inject(Fault::on("DescribeSubnets", Effect::Error(missing)));
    let cidr = format!("meta-data/network/interfaces/macs/{mac}/subnet-ipv4-cidr-block");
    lab.sim()
        .inject_imds(ImdsFault::new(ImdsEffect::Status(404)).at(&cidr));

    let mut node = Node::new(&lab, "a").with("MINIMUM_IP_TARGET", 12);
    node.start_ipamd().await?;
    let pool = node
        .wait_for_pool("an ENI of ours beside theirs", |pool| {
            pool.totals.is_some_and(|totals| totals.free >= 12)
        })
        .await?;
    assert!(
        pool.enis
            .iter()
            .all(|ours| ours.eni_id != eni || ours.addresses.is_empty()),
        "{pool:#?}"
    );
    Plugin::connect(&node.socket()).await?.add("pod").await?;
    node.stop_ipamd().await
}
