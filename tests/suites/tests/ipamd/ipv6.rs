//! `ENABLE_IPv4` and `ENABLE_IPv6`: which addresses an ADD gives, and where a node can't give them.

use anyhow::Context;
use libtest_mimic::Trial;
use suites::harness::{async_test, test};
use suites::node::Node;
use vpc_lab::{Lab, LabConfig};

use crate::rig::{Plugin, actions, calls};
use crate::start::run;

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        async_test(
            "an_add_gives_an_address_of_each_family_that_is_on",
            families,
        ),
        test(
            "a_node_that_can_not_have_ipv6_is_told_why_and_what_to_do",
            refused,
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
    let lab = Lab::start(config)?;
    let folder = lab.node("a").run_dir();
    std::fs::remove_dir_all(folder)?;
    std::fs::create_dir_all(folder)?;
    Ok(lab)
}

async fn families() -> anyhow::Result<()> {
    for (ipv4, expected) in [(true, [true, false].as_slice()), (false, &[false])] {
        let lab = lab("m5.large", 1)?;
        let mut node = Node::new(&lab, "a")
            .with("ENABLE_IPv4", ipv4)
            .with("ENABLE_IPv6", true);
        node.start_ipamd().await?;
        let mut plugin = Plugin::connect(&node.socket()).await?;
        let given = plugin.add("one").await?.addresses;
        let is_ipv4: Vec<bool> = given.iter().map(|it| it.address.contains('.')).collect();
        assert_eq!(is_ipv4, expected, "{given:?}");
        assert_eq!(plugin.add("one").await?.addresses, given, "asked again");

        // Prefixes without ENABLE_PREFIX_DELEGATION, which is about IPv4, and no address of another family.
        let assigned = calls(&lab, "AssignIpv6Addresses");
        assert_eq!(assigned.len(), 1, "{:?}", actions(&lab));
        let asks_ipv4 = !calls(&lab, "AssignPrivateIpAddresses").is_empty();
        assert_eq!(asks_ipv4, ipv4, "{:?}", actions(&lab));

        let pool = node.pool().await?;
        let primary = pool.enis.first().context("no ENI")?;
        let prefix = primary.prefixes.last().context("no prefix")?;
        assert!(prefix.cidr.ends_with("/80"), "{prefix:?}");
        assert_eq!(prefix.claimed, 1, "{prefix:?}");
        let shown = primary.addresses.iter().find(|it| it.prefix == prefix.cidr);
        assert_eq!(
            shown.map(|it| &it.address),
            given.last().map(|it| &it.address)
        );
        node.stop_ipamd().await?;
    }
    Ok(())
}

/// A node and settings that do not go together, and what is said of it.
struct Refusal {
    instance_type: &'static str,
    ipv6_addresses: usize,
    settings: &'static [(&'static str, &'static str)],
    words: [&'static str; 2],
}

const IPV6_ALONE: &[(&str, &str)] = &[("ENABLE_IPv4", "false"), ("ENABLE_IPv6", "true")];

fn refused() -> anyhow::Result<()> {
    let good = Refusal {
        instance_type: "m5.large",
        ipv6_addresses: 1,
        settings: IPV6_ALONE,
        words: [""; 2],
    };
    let table = [
        Refusal {
            settings: &[("ENABLE_IPv4", "false"), ("ENABLE_IPv6", "false")],
            words: ["both false", "Turn one on"],
            ..good
        },
        Refusal {
            settings: &[("ENABLE_IPv6", "true"), ("AWS_VPC_ENI_MTU", "1200")],
            words: ["AWS_VPC_ENI_MTU is 1200", "Raise the MTU"],
            ..good
        },
        Refusal {
            instance_type: "t2.medium",
            words: [
                "t2.medium can't have /80 prefixes",
                "take a Nitro instance type",
            ],
            ..good
        },
        Refusal {
            ipv6_addresses: 0,
            words: ["has no IPv6 CIDR", "AssociateSubnetCidrBlock"],
            ..good
        },
        Refusal {
            ipv6_addresses: 0,
            settings: &[("ENABLE_IPv6", "true")],
            words: ["has no IPv6 CIDR", "turn ENABLE_IPv6 off"],
            ..good
        },
    ];
    for case in table {
        let lab = lab(case.instance_type, case.ipv6_addresses)?;
        let output = run(&lab, case.settings)?;
        let said = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(1), "{said}");
        for words in case.words {
            assert!(said.contains(words), "{words:?} is not in {said}");
        }
        let calls = actions(&lab);
        assert!(calls.is_empty(), "EC2 was asked in vain: {calls:?}");
    }
    Ok(())
}
