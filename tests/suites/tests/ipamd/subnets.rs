//! Where new ENIs are made: by the subnets' tags, and by custom networking.

use std::fs;
use std::time::Duration;

use anyhow::{Context, ensure};
use aws_sim::{CallRecord, Deny, Ec2Error, Effect, Fault, Request, When};
use libtest_mimic::Trial;
use suites::harness::{async_test, eventually};
use suites::node::Node;
use vpc_lab::{Lab, LabConfig, SubnetConfig};

use crate::rig::{Plugin, actions, calls, error_info, log_says};

/// aws-node's tag.
const ROLE: &str = "kubernetes.io/role/cni";

/// Subnets of the node's zone beside its own 10.0.1.0/24; the last one has the most addresses.
const MORE: [&str; 2] = ["10.0.8.0/24", "10.0.16.0/20"];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        async_test(
            "a_new_eni_is_made_in_the_tagged_subnet_with_the_most_room_and_tags_are_read_once",
            most_room,
        ),
        async_test(
            "a_tagged_subnet_without_room_gives_way_to_the_next",
            spill_over,
        ),
        async_test(
            "pods_go_to_a_tagged_subnet_when_the_nodes_own_is_exhausted",
            own_is_exhausted,
        ),
        async_test(
            "without_the_right_to_read_tags_enis_are_made_in_the_nodes_own_subnet",
            not_allowed,
        ),
        async_test("with_discovery_off_no_tag_is_read", discovery_off),
        async_test(
            "no_pod_gets_an_address_of_the_nodes_own_subnet_once_it_is_known_as_not_for_pods",
            own_is_excluded,
        ),
        async_test(
            "with_custom_networking_the_first_pod_waits_for_an_eni_of_the_configured_subnet_and_groups",
            custom,
        ),
        async_test(
            "after_a_restart_no_subnet_is_asked_for_in_which_the_node_has_an_eni",
            remembered,
        ),
        async_test(
            "an_eni_config_that_can_not_be_read_ends_ipamd_with_its_field_and_the_rule",
            wrong_eni_config,
        ),
        async_test(
            "a_node_whose_resources_others_provide_asks_ec2_for_no_change",
            not_provisioning,
        ),
    ]
}

/// A lab with one m5.large, in a zone with more subnets than its own.
fn lab(own: &str) -> anyhow::Result<Lab> {
    let mut config = LabConfig::default();
    config.nodes.truncate(1);
    let first = config.subnets.first_mut().context("the lab has subnets")?;
    first.cidr = own.parse()?;
    let zone = first.availability_zone.clone();
    for cidr in MORE {
        config.subnets.push(SubnetConfig {
            name: format!("pods-{cidr}"),
            cidr: cidr.parse()?,
            availability_zone: zone.clone(),
        });
    }
    let lab = Lab::start(config)?;
    let folder = lab.node("a").run_dir();
    fs::remove_dir_all(folder)?;
    fs::create_dir_all(folder)?;
    Ok(lab)
}

/// The id of the subnet with this CIDR.
fn subnet(lab: &Lab, cidr: &str) -> anyhow::Result<String> {
    let subnets = lab.sim().fabric().subnets;
    let found = subnets.iter().find(|it| it.cidr.to_string() == cidr);
    Ok(found
        .with_context(|| format!("no subnet {cidr}"))?
        .id
        .clone())
}

fn tag(lab: &Lab, cidr: &str, value: &str) -> anyhow::Result<String> {
    let id = subnet(lab, cidr)?;
    let tagged = lab.sim().call(&Request::new(
        "CreateTags",
        [
            ("ResourceId.1", id.as_str()),
            ("Tag.1.Key", ROLE),
            ("Tag.1.Value", value),
        ],
    ));
    ensure!(tagged.error.is_none(), "{}", tagged.body);
    Ok(id)
}

fn subnet_of(create: &CallRecord) -> &str {
    create.params.get("SubnetId").map_or("", String::as_str)
}

/// Nodes with more on them than the primary ENI holds.
async fn started<'lab>(lab: &'lab Lab, least: u32) -> anyhow::Result<Node<'lab>> {
    let mut node = Node::new(lab, "a").with("MINIMUM_IP_TARGET", least);
    node.start_ipamd().await?;
    node.wait_for_pool("all that is wanted", |pool| {
        pool.totals.is_some_and(|totals| totals.free >= least)
    })
    .await?;
    Ok(node)
}

async fn most_room() -> anyhow::Result<()> {
    let lab = lab("10.0.1.0/24")?;
    tag(&lab, MORE[0], "1")?;
    let most = tag(&lab, MORE[1], "1")?;
    let mut node = started(&lab, 12).await?;
    let creates = calls(&lab, "CreateNetworkInterface");
    assert_eq!(creates.iter().map(subnet_of).collect::<Vec<_>>(), [&most]);
    let looks = calls(&lab, "DescribeSubnets");
    assert_eq!(looks.len(), 1, "{:?}", actions(&lab));
    let asked: Vec<_> = looks[0].params.values().map(String::as_str).collect();
    assert!(
        asked.contains(&"vpc-id") && asked.contains(&"availability-zone"),
        "{asked:?}"
    );
    // A pod there has the way that its ENI has.
    let pool = node.pool().await?;
    assert!(
        pool.enis[1].primary_address.starts_with("10.0."),
        "{pool:?}"
    );

    // After a restart one more ENI is wanted: the tags are known.
    node.stop_ipamd().await?;
    let mut node = started(&lab, 20).await?;
    let creates = calls(&lab, "CreateNetworkInterface");
    assert_eq!(
        creates.iter().map(subnet_of).collect::<Vec<_>>(),
        [&most, &most]
    );
    let mut looks = calls(&lab, "DescribeSubnets");
    // What is asked by id is the CIDR of an ENI's subnet.
    looks.retain(|look| look.params.values().any(|it| it == "vpc-id"));
    assert_eq!(looks.len(), 1);
    node.stop_ipamd().await
}

async fn spill_over() -> anyhow::Result<()> {
    let lab = lab("10.0.1.0/24")?;
    let next = tag(&lab, MORE[0], "1")?;
    let first = tag(&lab, MORE[1], "1")?;
    let error = Ec2Error {
        code: "InsufficientFreeAddressesInSubnet".to_owned(),
        message: "The specified subnet does not have enough free addresses to satisfy the request."
            .to_owned(),
        status: 400,
    };
    let fault = Fault::on("CreateNetworkInterface", Effect::Error(error));
    // As many as are asked for, half as many, and one.
    lab.sim().inject(fault.when(When::First(3)));
    let mut node = started(&lab, 12).await?;
    let creates = calls(&lab, "CreateNetworkInterface");
    let mut subnets: Vec<_> = creates.iter().map(subnet_of).collect();
    subnets.dedup();
    assert_eq!(subnets, [&first, &next], "{creates:#?}");
    assert_eq!(calls(&lab, "DescribeSubnets").len(), 1);
    node.stop_ipamd().await
}

async fn own_is_exhausted() -> anyhow::Result<()> {
    // Eleven addresses that can be used.
    let lab = lab("10.0.1.0/28")?;
    let tagged = tag(&lab, MORE[0], "1")?;
    let mut node = started(&lab, 14).await?;
    let creates = calls(&lab, "CreateNetworkInterface");
    assert_eq!(creates.iter().map(subnet_of).collect::<Vec<_>>(), [&tagged]);
    node.stop_ipamd().await
}

async fn not_allowed() -> anyhow::Result<()> {
    let lab = lab("10.0.1.0/24")?;
    tag(&lab, MORE[1], "1")?;
    lab.sim().deny(Deny::action("ec2:DescribeSubnets"));
    let mut node = started(&lab, 12).await?;
    let own = subnet(&lab, "10.0.1.0/24")?;
    let creates = calls(&lab, "CreateNetworkInterface");
    assert_eq!(creates.iter().map(subnet_of).collect::<Vec<_>>(), [&own]);
    let log = log_says(&node, "the zone's subnets and their tags can't be read").await?;
    for words in ["UnauthorizedOperation", "Allow ec2:DescribeSubnets", &own] {
        assert!(log.contains(words), "{words:?} is missing:\n{log}");
    }
    node.stop_ipamd().await
}

async fn discovery_off() -> anyhow::Result<()> {
    let lab = lab("10.0.1.0/24")?;
    tag(&lab, MORE[1], "1")?;
    let mut node = Node::new(&lab, "a")
        .with("ENABLE_SUBNET_DISCOVERY", "False")
        .with("MINIMUM_IP_TARGET", 12);
    node.start_ipamd().await?;
    // One that is asked for is shown already, so it counts when it has addresses.
    node.wait_for_pool("two ENIs with addresses", |pool| {
        let enis = pool.enis.iter();
        enis.filter(|eni| !eni.addresses.is_empty()).count() == 2
    })
    .await?;
    let creates = calls(&lab, "CreateNetworkInterface");
    let own = subnet(&lab, "10.0.1.0/24")?;
    assert_eq!(creates.iter().map(subnet_of).collect::<Vec<_>>(), [&own]);
    assert!(calls(&lab, "DescribeSubnets").is_empty());
    node.stop_ipamd().await
}

async fn own_is_excluded() -> anyhow::Result<()> {
    let lab = lab("10.0.1.0/24")?;
    tag(&lab, "10.0.1.0/24", "0")?;
    tag(&lab, MORE[1], "1")?;
    let mut node = Node::new(&lab, "a").with("MINIMUM_IP_TARGET", 12);
    node.start_ipamd().await?;
    // The second ENI brought the tags' word; what the primary has is not for pods then, so a third one comes.
    node.wait_for_pool("twelve free addresses beside the primary ENI", |pool| {
        let others = pool.enis.iter().filter(|eni| eni.device_index > 0);
        others.map(|eni| eni.addresses.len()).sum::<usize>() >= 12
    })
    .await?;
    let mut plugin = Plugin::connect(&node.socket()).await?;
    for n in 0..3 {
        let address = plugin.address(&format!("pod-{n}")).await?;
        assert!(!address.starts_with("10.0.1."), "{address}");
    }
    log_says(&node, "is tagged as not for pods").await?;
    node.stop_ipamd().await
}

async fn remembered() -> anyhow::Result<()> {
    let lab = lab("10.0.1.0/24")?;
    let configured = subnet(&lab, MORE[0])?;
    let file = lab.node("a").run_dir().join("eni-config.yaml");
    fs::write(&file, format!("spec:\n  subnet: {configured}\n"))?;
    let mut node = Node::new(&lab, "a")
        .with("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "true")
        .with("WEIR_ENI_CONFIG", file.display());
    node.start_ipamd().await?;
    let mut plugin = Plugin::connect(&node.socket()).await?;
    plugin.address("first").await?;
    let asked = calls(&lab, "DescribeSubnets").len();
    node.stop_ipamd().await?;
    node.start_ipamd().await?;
    let mut plugin = Plugin::connect(&node.socket()).await?;
    for pod in 0..12 {
        let address = plugin.address(&format!("pod-{pod}")).await?;
        ensure!(address.starts_with("10.0.8."), "{address}");
    }
    assert_eq!(calls(&lab, "CreateNetworkInterface").len(), 2);
    assert_eq!(calls(&lab, "DescribeSubnets").len(), asked);
    node.stop_ipamd().await
}

async fn custom() -> anyhow::Result<()> {
    let lab = lab("10.0.1.0/24")?;
    let configured = subnet(&lab, MORE[0])?;
    let vpc = lab.sim().fabric().vpcs[0].id.clone();
    let group = lab.sim().call(&Request::new(
        "CreateSecurityGroup",
        [
            ("GroupName", "pods"),
            ("GroupDescription", "of pods"),
            ("VpcId", vpc.as_str()),
        ],
    ));
    ensure!(group.error.is_none(), "{}", group.body);
    let group = group.body.split("<groupId>").nth(1).context("a group id")?;
    let group = group.split('<').next().context("a group id")?.to_owned();
    let file = lab.node("a").run_dir().join("eni-config.yaml");
    fs::write(
        &file,
        format!("spec:\n  subnet: {configured}\n  securityGroups:\n  - {group}\n"),
    )?;

    let mut node = Node::new(&lab, "a")
        .with("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "T")
        .with("WEIR_ENI_CONFIG", file.display());
    node.start_ipamd().await?;
    let mut plugin = Plugin::connect(&node.socket()).await?;
    let address = plugin.address("first").await?;
    assert!(address.starts_with("10.0.8."), "{address}");
    assert!(node.ready().await?);
    let create = &calls(&lab, "CreateNetworkInterface")[0];
    assert_eq!(subnet_of(create), configured);
    assert_eq!(create.params.get("SecurityGroupId.1"), Some(&group));
    assert!(
        calls(&lab, "AssignPrivateIpAddresses").is_empty(),
        "nothing for the primary ENI"
    );

    // Two ENIs of nine: the primary's nine are not for pods.
    for n in 1..18 {
        plugin.address(&format!("pod-{n}")).await?;
    }
    let refused = plugin
        .add_within("one-too-many", Duration::from_secs(10))
        .await
        .expect_err("the node is full");
    assert_eq!(error_info(&refused)?.reason, "POOL_EXHAUSTED");
    assert!(
        refused.message().contains("all 18 addresses"),
        "{}",
        refused.message()
    );
    node.stop_ipamd().await
}

async fn wrong_eni_config() -> anyhow::Result<()> {
    let lab = lab("10.0.1.0/24")?;
    let file = lab.node("a").run_dir().join("eni-config.yaml");
    fs::write(&file, "subnet: 10.0.8.0/24\n")?;
    let mut node = Node::new(&lab, "a")
        .with("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", true)
        .with("WEIR_ENI_CONFIG", file.display());
    node.launch_ipamd()?;
    let said = eventually("ipamd's last word", async || {
        let log = fs::read_to_string(node.log()).unwrap_or_default();
        Ok(log.contains("ipamd ends").then_some(log))
    })
    .await?;
    for words in ["eni-config.yaml", "subnet must be the id of a subnet"] {
        assert!(said.contains(words), "{said}");
    }
    Ok(())
}

async fn not_provisioning() -> anyhow::Result<()> {
    let lab = lab("10.0.1.0/24")?;
    let mut node = Node::new(&lab, "a").with("DISABLE_NETWORK_RESOURCE_PROVISIONING", "1");
    node.start_ipamd().await?;
    let mut plugin = Plugin::connect(&node.socket()).await?;
    let refused = plugin
        .add("pod")
        .await
        .expect_err("the instance has no addresses");
    let info = error_info(&refused)?;
    assert_eq!(info.reason, "POOL_FROZEN");
    let remedy = &info.metadata["remedy"];
    assert!(
        remedy.contains("DISABLE_NETWORK_RESOURCE_PROVISIONING"),
        "{remedy}"
    );
    let mut asked = actions(&lab);
    asked.dedup();
    assert_eq!(asked, ["DescribeNetworkInterfaces"]);
    node.stop_ipamd().await
}
