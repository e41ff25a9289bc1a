//! Security groups.

use crate::networks::filter;
use crate::networks::rules::IN;
use crate::{Setup, all, first};

impl Setup {
    /// With `GroupId`.
    #[track_caller]
    pub(super) fn on(&mut self, action: &str, group: &str, params: &[(&str, &str)]) -> String {
        self.ok(action, &[&[("GroupId", group)], params].concat())
    }

    #[track_caller]
    pub(super) fn refused_on(
        &mut self,
        action: &str,
        group: &str,
        params: &[(&str, &str)],
    ) -> (String, String) {
        self.refused(action, &[&[("GroupId", group)], params].concat())
    }

    pub(super) fn group(&mut self, id: &str) -> String {
        self.ok("DescribeSecurityGroups", &[("GroupId.1", id)])
    }
}

#[test]
fn a_new_group_lets_everything_out_and_nothing_in() {
    let mut setup = Setup::new();
    let vpc = setup.vpc();
    let tagged = [
        ("VpcId", vpc.as_str()),
        ("GroupName", "web"),
        ("GroupDescription", "of the web"),
        ("TagSpecification.1.ResourceType", "security-group"),
        ("TagSpecification.1.Tag.1.Key", "a"),
        ("TagSpecification.1.Tag.1.Value", "b"),
    ];
    let made = setup.ok("CreateSecurityGroup", &tagged);
    assert_eq!(all(&made, "value"), ["b"]);
    let group = first(&made, "groupId");
    let found = setup.group(&group);
    assert_eq!(first(&found, "groupDescription"), "of the web");
    assert_eq!(
        first(&found, "securityGroupArn"),
        first(&made, "securityGroupArn")
    );
    assert!(found.contains("<ipPermissions></ipPermissions>"), "{found}");
    assert_eq!(all(&found, "ipProtocol"), ["-1"]);
    assert_eq!(all(&found, "cidrIp"), ["0.0.0.0/0"]);
    let rules = setup.ok("DescribeSecurityGroupRules", &filter("group-id", &group));
    assert_eq!(all(&rules, "isEgress"), ["true"]);
    assert_eq!(all(&rules, "fromPort"), ["-1"]);
}

#[test]
fn a_group_that_ec2_would_not_make_is_refused() {
    let mut setup = Setup::new();
    let vpc = setup.vpc();
    setup.new_group(&vpc, "web");
    for (name, description, code) in [
        ("web", "x", "InvalidGroup.Duplicate"),
        ("sg-mine", "x", "InvalidParameterValue"),
        ("default", "x", "InvalidGroup.Reserved"),
        ("other", "tab\t", "InvalidParameterValue"),
        ("umlaut-ü", "x", "InvalidParameterValue"),
    ] {
        let params = [
            ("VpcId", vpc.as_str()),
            ("GroupName", name),
            ("GroupDescription", description),
        ];
        let (found, text) = setup.refused("CreateSecurityGroup", &params);
        assert_eq!(found, code, "{name}: {text}");
        if code == "InvalidGroup.Duplicate" {
            assert_eq!(
                text,
                format!("The security group 'web' already exists for VPC '{vpc}'")
            );
        }
    }
    let nowhere = [("GroupName", "x"), ("GroupDescription", "x")];
    assert_eq!(
        setup.refused("CreateSecurityGroup", &nowhere).0,
        "VPCIdNotSpecified"
    );
    assert_eq!(
        setup.refused("CreateSecurityGroup", &nowhere[..1]).0,
        "MissingParameter"
    );
    // The name is free in another VPC.
    let other = setup.new_vpc("10.4.0.0/16");
    setup.new_group(&other, "web");
}

#[test]
fn groups_stay_while_they_are_used() {
    let mut setup = Setup::new();
    let vpc = setup.vpc();
    let (group, user) = (setup.new_group(&vpc, "web"), setup.new_group(&vpc, "user"));
    let named = [
        ("IpPermissions.1.IpProtocol", "-1"),
        ("IpPermissions.1.Groups.1.GroupId", group.as_str()),
    ];
    setup.on(IN, &user, &named);
    let in_use = (
        "DependencyViolation".to_owned(),
        format!("resource {group} has a dependent object"),
    );
    assert_eq!(setup.refused_on("DeleteSecurityGroup", &group, &[]), in_use);
    setup.on("RevokeSecurityGroupIngress", &user, &named);
    // Naming itself does not keep it.
    setup.on(IN, &group, &named);
    let eni = setup.create(&[("SecurityGroupId.1", &group)]);
    assert_eq!(setup.refused_on("DeleteSecurityGroup", &group, &[]), in_use);
    setup.ok("DeleteNetworkInterface", &[("NetworkInterfaceId", &eni)]);
    let gone = setup.on("DeleteSecurityGroup", &group, &[]);
    assert_eq!(first(&gone, "groupId"), group);
    let (code, text) = setup.refused("DescribeSecurityGroups", &[("GroupId.1", &group)]);
    assert_eq!(code, "InvalidGroup.NotFound");
    assert_eq!(text, format!("The security group '{group}' does not exist"));

    let found = setup.ok("DescribeSecurityGroups", &filter("group-name", "default"));
    let default = first(&found, "groupId");
    let (code, text) = setup.refused_on("DeleteSecurityGroup", &default, &[]);
    assert_eq!(code, "CannotDelete");
    let expected =
        format!("the specified group: \"{default}\" name: \"default\" cannot be deleted by a user");
    assert_eq!(text, expected.replace('"', "&quot;"));
}

#[test]
fn ids_of_groups_and_rules_are_looked_at_as_ec2_does() {
    let mut setup = Setup::new();
    let malformed = "InvalidGroupId.Malformed";
    for (id, code) in [
        ("web", malformed),
        ("sg-00000000000000000", malformed),
        ("sg-0123456789", malformed),
        ("sg-12345678", "InvalidGroup.NotFound"),
        ("sg-1", "InvalidGroup.NotFound"),
    ] {
        assert_eq!(
            setup
                .refused("DescribeSecurityGroups", &[("GroupId.1", id)])
                .0,
            code,
            "{id}"
        );
    }
    for (id, code) in [
        ("sg-12345678", "InvalidSecurityGroupRuleId.Malformed"),
        (
            "sgr-012345678901234567",
            "InvalidSecurityGroupRuleId.Malformed",
        ),
        ("sgr-xyz", "InvalidSecurityGroupRuleId.NotFound"),
    ] {
        let asked = [("SecurityGroupRuleId.1", id)];
        assert_eq!(
            setup.refused("DescribeSecurityGroupRules", &asked).0,
            code,
            "{id}"
        );
    }
}

#[test]
fn names_are_those_of_a_default_vpc_and_there_is_none() {
    let mut setup = Setup::new();
    for (action, name) in [
        ("DescribeSecurityGroups", "GroupName.1"),
        ("DeleteSecurityGroup", "GroupName"),
        (IN, "GroupName"),
    ] {
        let (code, text) = setup.refused(action, &[(name, "default")]);
        assert_eq!(code, "VPCIdNotSpecified", "{action}");
        assert_eq!(text, "No default VPC for this user");
    }
}

#[test]
fn rules_and_groups_come_in_pages() {
    let mut setup = Setup::new();
    let vpc = setup.vpc();
    for n in 0..8 {
        setup.new_group(&vpc, &format!("web-{n}"));
    }
    for (action, id, own, count) in [
        ("DescribeSecurityGroups", "groupId", "GroupId.1", 9),
        (
            "DescribeSecurityGroupRules",
            "securityGroupRuleId",
            "SecurityGroupRuleId.1",
            10,
        ),
    ] {
        let page = setup.ok(action, &[("MaxResults", "6")]);
        let token = first(&page, "nextToken");
        let rest = setup.ok(action, &[("MaxResults", "6"), ("NextToken", &token)]);
        let one: Vec<String> = all(&page, id)
            .into_iter()
            .filter(|id| id.contains('-'))
            .collect();
        let mut seen = [one.clone(), all(&rest, id)].concat();
        seen.sort();
        seen.dedup();
        assert!(seen.len() >= count, "{action}: {seen:?}");
        let both = [("MaxResults", "6"), (own, one[0].as_str())];
        assert_eq!(
            setup.refused(action, &both).0,
            "InvalidParameterCombination"
        );
    }
    let code = setup
        .refused("DescribeSecurityGroupRules", &[("NextToken", "garbage")])
        .0;
    assert_eq!(code, "InvalidPaginationToken");
}
