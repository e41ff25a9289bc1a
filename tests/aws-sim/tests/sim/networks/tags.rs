//! Tags of all kinds of things.

use crate::networks::filter;
use crate::{Setup, all};

/// One of each kind that can have tags, with its type.
fn one_of_each(setup: &mut Setup) -> Vec<(String, &'static str)> {
    let (vpc, subnet) = (setup.vpc(), setup.subnet.to_string());
    let group = setup.new_group(&vpc, "web");
    let rules = setup.ok("DescribeSecurityGroupRules", &filter("group-id", &group));
    let reserve = [
        ("SubnetId", subnet.as_str()),
        ("Cidr", "10.0.0.128/26"),
        ("ReservationType", "prefix"),
    ];
    let reservation = setup.ok("CreateSubnetCidrReservation", &reserve);
    vec![
        (setup.create(&[]), "network-interface"),
        (setup.instance.to_string(), "instance"),
        (subnet, "subnet"),
        (vpc, "vpc"),
        (group, "security-group"),
        (
            crate::first(&rules, "securityGroupRuleId"),
            "security-group-rule",
        ),
        (
            crate::first(&reservation, "subnetCidrReservationId"),
            "subnet-cidr-reservation",
        ),
    ]
}

#[test]
fn everything_can_be_tagged_at_once_and_its_tags_be_found() {
    let mut setup = Setup::new();
    let things = one_of_each(&mut setup);
    let names: Vec<String> = (1..=things.len())
        .map(|n| format!("ResourceId.{n}"))
        .collect();
    let on: Vec<(&str, &str)> = names
        .iter()
        .zip(&things)
        .map(|(name, (id, _))| (name.as_str(), id.as_str()))
        .collect();
    let tags = [
        ("Tag.1.Key", "stage"),
        ("Tag.1.Value", "first"),
        ("Tag.2.Key", "empty"),
        ("Tag.2.Value", ""),
    ];
    setup.ok("CreateTags", &[&on[..], &tags].concat());
    for (id, kind) in &things {
        let found = setup.ok("DescribeTags", &filter("resource-id", id));
        assert_eq!(all(&found, "key"), ["empty", "stage"], "{kind}");
        assert_eq!(all(&found, "value"), ["", "first"], "{kind}");
        assert_eq!(all(&found, "resourceType"), [*kind; 2]);
        let found = setup.ok("DescribeTags", &filter("resource-type", kind));
        assert_eq!(all(&found, "resourceId"), [id.as_str(); 2], "{kind}");
    }
    let found = setup.ok("DescribeTags", &filter("tag:stage", "f*"));
    assert_eq!(all(&found, "resourceId").len(), things.len());
    let found = setup.ok("DescribeTags", &filter("key", "stage"));
    assert_eq!(all(&found, "value"), ["first"; 7]);
    let found = setup.ok("DescribeTags", &filter("value", "first"));
    assert_eq!(all(&found, "key"), ["stage"; 7]);
    // Without tags to delete, all go.
    setup.ok("DeleteTags", &on);
    assert_eq!(all(&setup.ok("DescribeTags", &[]), "key"), [""; 0]);
}

#[test]
fn one_thing_that_is_not_there_keeps_tags_off_all() {
    let mut setup = Setup::new();
    let vpc = setup.vpc();
    for (id, code) in [
        (
            "eni-0123456789abcdef0",
            "InvalidNetworkInterfaceID.NotFound",
        ),
        ("i-0123456789abcdef0", "InvalidInstanceID.NotFound"),
        ("subnet-0123456789abcdef0", "InvalidSubnetID.NotFound"),
        ("vpc-0123456789abcdef0", "InvalidVpcID.NotFound"),
        ("sg-0123456789abcdef0", "InvalidGroup.NotFound"),
        (
            "sgr-0123456789abcdef0",
            "InvalidSecurityGroupRuleId.NotFound",
        ),
        (
            "scr-0123456789abcdef0",
            "InvalidSubnetCidrReservationID.NotFound",
        ),
        ("vol-0123456789abcdef0", "InvalidID"),
        ("nothing", "InvalidID"),
    ] {
        let params = [
            ("ResourceId.1", vpc.as_str()),
            ("ResourceId.2", id),
            ("Tag.1.Key", "a"),
        ];
        assert_eq!(setup.refused("CreateTags", &params).0, code);
        assert_eq!(setup.refused("DeleteTags", &params).0, code);
    }
    assert_eq!(all(&setup.ok("DescribeTags", &[]), "key"), [""; 0]);
}

#[test]
fn a_tag_goes_by_its_key_or_by_its_value_too() {
    let mut setup = Setup::new();
    let vpc = setup.vpc();
    let tag = |key, value| [("Tag.1.Key", key), ("Tag.1.Value", value)];
    let on = [("ResourceId.1", vpc.as_str())];
    for key in ["a", "b", "c"] {
        setup.ok("CreateTags", &[&on[..], &tag(key, "1")].concat());
    }
    setup.ok("DeleteTags", &[&on[..], &tag("a", "2")].concat());
    setup.ok("DeleteTags", &[&on[..], &tag("a", "")].concat());
    assert_eq!(all(&setup.ok("DescribeTags", &[]), "key"), ["a", "b", "c"]);
    setup.ok("DeleteTags", &[&on[..], &tag("a", "1")].concat());
    setup.ok("DeleteTags", &[&on[..], &tag("b", "1")[..1]].concat());
    assert_eq!(all(&setup.ok("DescribeTags", &[]), "key"), ["c"]);
    for action in ["CreateTags", "DeleteTags"] {
        let (code, text) = setup.refused(action, &[&on[..], &tag("aws:x", "1")].concat());
        assert_eq!(code, "InvalidParameterValue");
        assert_eq!(
            text,
            "Tag keys starting with 'aws:' are reserved for internal use"
        );
    }
}

#[test]
fn tags_come_in_pages() {
    let mut setup = Setup::new();
    let vpc = setup.vpc();
    for n in 0..12 {
        let key = format!("key-{n:02}");
        setup.ok("CreateTags", &[("ResourceId.1", &vpc), ("Tag.1.Key", &key)]);
    }
    let page = setup.ok("DescribeTags", &[("MaxResults", "7")]);
    let token = crate::first(&page, "nextToken");
    let rest = setup.ok(
        "DescribeTags",
        &[("MaxResults", "7"), ("NextToken", &token)],
    );
    let seen = [all(&page, "key"), all(&rest, "key")].concat();
    let expected: Vec<String> = (0..12).map(|n| format!("key-{n:02}")).collect();
    assert_eq!(seen, expected);
}

#[test]
fn only_a_kind_that_the_call_makes_is_tagged_by_it() {
    let mut setup = Setup::new();
    let vpc = setup.vpc();
    let tags = [
        ("TagSpecification.1.ResourceType", "instance"),
        ("TagSpecification.1.Tag.1.Key", "a"),
    ];
    let subnet = [("VpcId", vpc.as_str()), ("CidrBlock", "10.0.9.0/24")];
    let group = [
        ("VpcId", vpc.as_str()),
        ("GroupName", "web"),
        ("GroupDescription", "x"),
    ];
    // EC2 has a code for each.
    for (action, params, code) in [
        ("CreateSubnet", &subnet[..], "InvalidParameter"),
        ("CreateSecurityGroup", &group[..], "InvalidParameterValue"),
    ] {
        let (found, text) = setup.refused(action, &[params, &tags].concat());
        assert_eq!(found, code);
        assert_eq!(
            text,
            "'instance' is not a valid taggable resource type for this operation."
        );
    }
}
