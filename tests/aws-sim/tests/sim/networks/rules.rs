//! Rules of security groups.

use crate::networks::filter;
use crate::{Setup, all, first};

/// One permission for a port of TCP.
fn tcp<'a>(port: &'a str, cidr: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("IpPermissions.1.IpProtocol", "tcp"),
        ("IpPermissions.1.FromPort", port),
        ("IpPermissions.1.ToPort", port),
        ("IpPermissions.1.IpRanges.1.CidrIp", cidr),
    ]
}

/// The usual direction.
pub(super) const IN: &str = "AuthorizeSecurityGroupIngress";

#[test]
fn rules_are_answered_with_ids_and_shown_together() {
    let mut setup = Setup::new();
    let vpc = setup.vpc();
    let (group, peer) = (setup.new_group(&vpc, "web"), setup.new_group(&vpc, "peer"));
    let asked = [
        ("IpPermissions.1.IpProtocol", "tcp"),
        ("IpPermissions.1.FromPort", "443"),
        ("IpPermissions.1.ToPort", "443"),
        ("IpPermissions.1.IpRanges.1.CidrIp", "100.68.0.18/18"),
        ("IpPermissions.1.IpRanges.1.Description", "of the office"),
        ("IpPermissions.1.Ipv6Ranges.1.CidrIpv6", "::/0"),
        ("IpPermissions.2.IpProtocol", "-1"),
        ("IpPermissions.2.Groups.1.GroupId", &peer),
        ("IpPermissions.3.IpProtocol", "icmp"),
        ("IpPermissions.3.FromPort", "8"),
        ("IpPermissions.3.ToPort", "-1"),
        ("IpPermissions.3.IpRanges.1.CidrIp", "10.0.0.0/8"),
        ("TagSpecification.1.ResourceType", "security-group-rule"),
        ("TagSpecification.1.Tag.1.Key", "by"),
        ("TagSpecification.1.Tag.1.Value", "us"),
    ];
    let made = setup.on(IN, &group, &asked);
    assert_eq!(first(&made, "return"), "true");
    let ids = all(&made, "securityGroupRuleId");
    assert_eq!(ids.len(), 4);
    assert!(ids.iter().all(|id| id.starts_with("sgr-")), "{ids:?}");
    assert_eq!(all(&made, "cidrIpv4"), ["100.68.0.0/18", "10.0.0.0/8"]);
    assert_eq!(all(&made, "cidrIpv6"), ["::/0"]);
    assert_eq!(all(&made, "description"), ["of the office"]);
    assert_eq!(all(&made, "fromPort"), ["443", "443", "-1", "8"]);
    assert_eq!(all(&made, "isEgress"), ["false"; 4]);

    let found = setup.group(&group);
    let ingress = found.split("<ipPermissionsEgress>").next().unwrap();
    assert_eq!(all(ingress, "ipProtocol"), ["tcp", "-1", "icmp"]);
    assert_eq!(all(ingress, "fromPort"), ["443", "8"], "{ingress}");
    assert_eq!(all(ingress, "toPort"), ["443", "-1"]);
    let groups: Vec<&str> = ingress.split("<groups>").skip(2).collect();
    assert!(groups[0].contains(&format!(
        "<userId>111122223333</userId><groupId>{peer}</groupId>"
    )));
    for (name, value) in [
        ("ip-permission.cidr", "100.68.0.0/18"),
        ("ip-permission.ipv6-cidr", "::/0"),
        ("ip-permission.group-id", peer.as_str()),
        ("ip-permission.group-name", "peer"),
        ("ip-permission.protocol", "icmp"),
        ("ip-permission.from-port", "443"),
        ("group-name", "web"),
    ] {
        let found = setup.ok("DescribeSecurityGroups", &filter(name, value));
        assert!(found.contains("<groupName>web</groupName>"), "{name}");
        assert!(!found.contains("<groupName>peer</groupName>"), "{name}");
    }
    let tagged = setup.ok("DescribeSecurityGroupRules", &filter("tag:by", "us"));
    assert_eq!(all(&tagged, "securityGroupRuleId").len(), 4);
    let one = setup.ok(
        "DescribeSecurityGroupRules",
        &[("SecurityGroupRuleId.1", &ids[2])],
    );
    assert_eq!(all(&one, "referencedGroupInfo"), [""; 0]);
    assert!(
        one.contains(&format!("<referencedGroupInfo><groupId>{peer}</groupId>")),
        "{one}"
    );
}

#[test]
fn a_rule_is_once_in_a_group() {
    let mut setup = Setup::new();
    let vpc = setup.vpc();
    let group = setup.new_group(&vpc, "web");
    setup.on(IN, &group, &tcp("22", "0.0.0.0/0"));
    let (code, text) = setup.refused_on(IN, &group, &tcp("22", "1.2.3.4/0"));
    assert_eq!(code, "InvalidPermission.Duplicate");
    assert_eq!(
        text,
        "the specified rule &quot;peer: 0.0.0.0/0, TCP, from port: 22, to port: 22, ALLOW&quot; already exists"
    );
    // One that is there refuses the others that are asked for with it.
    let both = [
        &tcp("80", "10.0.0.0/8")[..],
        &[("IpPermissions.1.IpRanges.2.CidrIp", "10.0.0.0/8")],
    ];
    let code = setup.refused_on(IN, &group, &both.concat()).0;
    assert_eq!(code, "InvalidPermission.Duplicate");
    let rules = setup.ok("DescribeSecurityGroupRules", &filter("group-id", &group));
    assert_eq!(all(&rules, "securityGroupRuleId").len(), 2);
    // The flat form is the same rule; the other direction is another.
    let flat = [
        ("IpProtocol", "tcp"),
        ("FromPort", "22"),
        ("ToPort", "22"),
        ("CidrIp", "0.0.0.0/0"),
    ];
    assert_eq!(
        setup.refused_on(IN, &group, &flat).0,
        "InvalidPermission.Duplicate"
    );
    setup.on("AuthorizeSecurityGroupEgress", &group, &flat);
    let all_out = [
        ("IpPermissions.1.IpProtocol", "-1"),
        ("IpPermissions.1.IpRanges.1.CidrIp", "0.0.0.0/0"),
    ];
    let (_, text) = setup.refused_on("AuthorizeSecurityGroupEgress", &group, &all_out);
    assert_eq!(
        text,
        "the specified rule &quot;peer: 0.0.0.0/0, ALL, ALLOW&quot; already exists"
    );
}

#[test]
fn rules_that_make_no_sense_are_refused() {
    let mut setup = Setup::new();
    let vpc = setup.vpc();
    let group = setup.new_group(&vpc, "web");
    let other_vpc = setup.new_vpc("10.4.0.0/16");
    let foreign = setup.new_group(&other_vpc, "web");
    type Params<'a> = Vec<(&'a str, &'a str)>;
    fn rule<'a>(protocol: &'a str, from: &'a str, to: &'a str, cidr: &'a str) -> Params<'a> {
        let all = [
            ("IpPermissions.1.IpProtocol", protocol),
            ("IpPermissions.1.FromPort", from),
            ("IpPermissions.1.ToPort", to),
            ("IpPermissions.1.IpRanges.1.CidrIp", cidr),
        ];
        let told = all.into_iter().filter(|(_, value)| !value.is_empty());
        told.collect()
    }
    fn group_rule(id: &str) -> Params<'_> {
        vec![
            ("IpPermissions.1.IpProtocol", "-1"),
            ("IpPermissions.1.Groups.1.GroupId", id),
        ]
    }
    let any = "10.0.0.0/8";
    for (params, code, text) in [
        (
            rule("tcp", "22", "22", "bogus"),
            "InvalidParameterValue",
            "CIDR block bogus is malformed",
        ),
        (
            rule("tcp", "22", "70000", any),
            "InvalidParameterValue",
            "TCP/UDP (to) port (70000) out of range",
        ),
        (
            rule("tcp", "", "", any),
            "InvalidParameterValue",
            "Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange.",
        ),
        (
            rule("udp", "9", "8", any),
            "InvalidParameterValue",
            "Invalid TCP/UDP port range (9:8)",
        ),
        (
            rule("all", "", "", any),
            "InvalidParameterValue",
            "Invalid value 'all' for IP protocol. Unknown protocol.",
        ),
        (
            rule("icmp", "8", "300", any),
            "InvalidParameterValue",
            "ICMP code (300) out of range",
        ),
        (
            rule("", "22", "22", any),
            "InvalidParameterValue",
            "Invalid value 'null' for protocol. VPC security group rules must specify protocols explicitly.",
        ),
        (
            group_rule("sg-0123456789abcdef0"),
            "InvalidGroup.NotFound",
            "The security group 'sg-0123456789abcdef0' does not exist",
        ),
        (
            group_rule(&foreign),
            "InvalidGroup.NotFound",
            "You have specified two resources that belong to different networks.",
        ),
        (
            vec![
                ("IpPermissions.1.IpProtocol", "-1"),
                (
                    "IpPermissions.1.PrefixListIds.1.PrefixListId",
                    "pl-0123456789abcdef0",
                ),
            ],
            "InvalidPrefixListID.NotFound",
            "The prefix list ID 'pl-0123456789abcdef0' does not exist",
        ),
        (
            vec![],
            "MissingParameter",
            "The request must contain the parameter ipPermissions",
        ),
    ] {
        let refused = setup.refused_on(IN, &group, &params);
        assert_eq!(refused, (code.to_owned(), text.to_owned()), "{params:?}");
    }
    let rules = setup.ok("DescribeSecurityGroupRules", &filter("group-id", &group));
    assert_eq!(all(&rules, "securityGroupRuleId").len(), 1);
}

#[test]
fn a_group_has_sixty_rules_of_each_family_and_direction() {
    let mut setup = Setup::unthrottled();
    let vpc = setup.vpc();
    let (group, peer) = (setup.new_group(&vpc, "web"), setup.new_group(&vpc, "peer"));
    for port in 1..=59 {
        setup.on(IN, &group, &tcp(&port.to_string(), "10.0.0.0/8"));
    }
    let ipv6 = |n: u32| {
        [
            ("IpPermissions.1.IpProtocol".to_owned(), "-1".to_owned()),
            (
                "IpPermissions.1.Ipv6Ranges.1.CidrIpv6".to_owned(),
                format!("2001:db8:{n}::/48"),
            ),
        ]
    };
    let named = [
        ("IpPermissions.1.IpProtocol", "-1"),
        ("IpPermissions.1.Groups.1.GroupId", peer.as_str()),
    ];
    setup.on(IN, &group, &named);
    for (n, fits) in (1..=60).map(|n| (n, n < 60)) {
        let params = ipv6(n);
        let params = params
            .each_ref()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        if fits {
            setup.on(IN, &group, &params);
        } else {
            let code = setup.refused_on(IN, &group, &params).0;
            assert_eq!(code, "RulesPerSecurityGroupLimitExceeded");
        }
    }
    let (code, text) = setup.refused_on(IN, &group, &tcp("443", "10.0.0.0/8"));
    assert_eq!(code, "RulesPerSecurityGroupLimitExceeded");
    assert_eq!(
        text,
        "The maximum number of rules per security group has been reached."
    );
    setup.on(
        "AuthorizeSecurityGroupEgress",
        &group,
        &tcp("443", "10.0.0.0/8"),
    );
}

#[test]
fn rules_are_revoked_by_what_they_are_or_by_id_all_or_none() {
    let mut setup = Setup::new();
    let vpc = setup.vpc();
    let group = setup.new_group(&vpc, "web");
    let described = [
        &tcp("22", "10.0.0.0/8")[..],
        &[("IpPermissions.1.IpRanges.1.Description", "ssh")],
    ];
    let made = setup.on(IN, &group, &described.concat());
    let ssh = first(&made, "securityGroupRuleId");
    let https = first(
        &setup.on(IN, &group, &tcp("443", "10.0.0.0/8")),
        "securityGroupRuleId",
    );

    let two = [
        &tcp("22", "10.0.0.0/8")[..],
        &[("IpPermissions.1.IpRanges.2.CidrIp", "10.9.0.0/16")],
    ];
    let revoke = "RevokeSecurityGroupIngress";
    let (code, text) = setup.refused_on(revoke, &group, &two.concat());
    assert_eq!(code, "InvalidPermission.NotFound");
    assert_eq!(
        text,
        "The specified rule does not exist in this security group."
    );
    // The description need not be repeated.
    let gone = setup.on(revoke, &group, &tcp("22", "10.0.0.0/8"));
    assert_eq!(all(&gone, "securityGroupRuleId"), [ssh.as_str()]);
    let code = setup.refused_on(revoke, &group, &tcp("22", "10.0.0.0/8")).0;
    assert_eq!(code, "InvalidPermission.NotFound");
    let by_id = [("SecurityGroupRuleId.1", https.as_str())];
    let code = setup
        .refused_on("RevokeSecurityGroupEgress", &group, &by_id)
        .0;
    assert_eq!(code, "InvalidSecurityGroupRuleId.NotFound");
    setup.on(revoke, &group, &by_id);
    let (code, text) = setup.refused_on(revoke, &group, &by_id);
    assert_eq!(code, "InvalidSecurityGroupRuleId.NotFound");
    assert_eq!(
        text,
        format!("The security group rule ID '{https}' does not exist")
    );
    let both = [&by_id[..], &tcp("22", "10.0.0.0/8")].concat();
    assert_eq!(
        setup.refused_on(revoke, &group, &both).0,
        "InvalidParameterCombination"
    );
}

#[test]
fn a_rule_that_is_modified_keeps_its_id_and_its_kind() {
    let mut setup = Setup::new();
    let vpc = setup.vpc();
    let group = setup.new_group(&vpc, "web");
    let id = first(
        &setup.on(IN, &group, &tcp("22", "10.0.0.0/8")),
        "securityGroupRuleId",
    );
    setup.on(IN, &group, &tcp("443", "10.0.0.0/8"));
    let change = |port, cidr: (&'static str, &'static str)| {
        vec![
            ("SecurityGroupRule.1.SecurityGroupRuleId", id.as_str()),
            ("SecurityGroupRule.1.SecurityGroupRule.IpProtocol", "tcp"),
            ("SecurityGroupRule.1.SecurityGroupRule.FromPort", port),
            ("SecurityGroupRule.1.SecurityGroupRule.ToPort", port),
            ("SecurityGroupRule.1.SecurityGroupRule.Description", "new"),
            cidr,
        ]
    };
    let ipv4 = (
        "SecurityGroupRule.1.SecurityGroupRule.CidrIpv4",
        "10.0.0.0/8",
    );
    let ipv6 = ("SecurityGroupRule.1.SecurityGroupRule.CidrIpv6", "::/0");
    let modify = "ModifySecurityGroupRules";
    setup.on(modify, &group, &change("80", ipv4));
    let found = setup.ok(
        "DescribeSecurityGroupRules",
        &[("SecurityGroupRuleId.1", &id)],
    );
    assert_eq!(first(&found, "toPort"), "80");
    assert_eq!(first(&found, "description"), "new");
    let (code, _) = setup.refused_on(modify, &group, &change("443", ipv4));
    assert_eq!(code, "InvalidPermission.Duplicate");
    let (code, text) = setup.refused_on(modify, &group, &change("80", ipv6));
    assert_eq!(code, "InvalidParameterValue");
    assert!(
        text.ends_with("You may not specify CidrIpv6 for an existing CidrIpv4 rule."),
        "{text}"
    );
}
