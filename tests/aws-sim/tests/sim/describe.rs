//! Describe: filters, pages, tags, and the lag of what one reads.

use std::time::Duration;

use aws_sim::WorldConfig;

use crate::{Setup, addresses, all, first};

#[test]
fn filters_find_one_eni_among_others() {
    let mut setup = Setup::new();
    let tag = [
        ("TagSpecification.1.ResourceType", "network-interface"),
        ("TagSpecification.1.Tag.1.Key", "cluster/x"),
        ("TagSpecification.1.Tag.1.Value", "blue"),
        ("SecondaryPrivateIpAddressCount", "1"),
        ("Description", "of pods"),
    ];
    let eni = setup.create(&tag);
    let attachment = setup.attach(&eni, "2");
    setup.create(&[]);
    let held = addresses(&setup.eni(&eni));
    let mac = first(&setup.eni(&eni), "macAddress");
    for (name, value) in [
        ("network-interface-id", eni.as_str()),
        ("tag:cluster/x", "blue"),
        ("tag:cluster/x", "b*e"),
        ("tag-key", "cluster/x"),
        ("attachment.attachment-id", &attachment),
        ("attachment.device-index", "2"),
        ("attachment.delete-on-termination", "false"),
        ("addresses.private-ip-address", &held[1]),
        ("private-ip-address", &held[0]),
        ("mac-address", &mac),
        ("description", "of pods"),
    ] {
        let filter = [
            ("Filter.1.Name", name),
            ("Filter.1.Value.1", "none"),
            ("Filter.1.Value.2", value),
        ];
        let found = setup.ok("DescribeNetworkInterfaces", &filter);
        assert_eq!(all(&found, "networkInterfaceId"), [eni.as_str()], "{name}");
    }
    setup.pass(Duration::from_secs(5));
    let (subnet, instance) = (setup.subnet.to_string(), setup.instance.to_string());
    for (name, value, count) in [
        ("subnet-id", subnet.as_str(), 3),
        ("attachment.instance-id", &instance, 2),
        ("status", "available", 1),
        ("status", "in-use", 2),
        ("attachment.status", "attached", 2),
    ] {
        let filter = [("Filter.1.Name", name), ("Filter.1.Value.1", value)];
        let found = setup.ok("DescribeNetworkInterfaces", &filter);
        assert_eq!(
            all(&found, "networkInterfaceId").len(),
            count,
            "{name}={value}"
        );
    }
}

#[test]
fn what_no_filter_is_called_is_refused() {
    let mut setup = Setup::new();
    for action in [
        "DescribeNetworkInterfaces",
        "DescribeInstances",
        "DescribeSubnets",
        "DescribeVpcs",
        "DescribeSecurityGroups",
        "DescribeInstanceTypes",
    ] {
        let filter = [("Filter.1.Name", "no-such"), ("Filter.1.Value.1", "x")];
        let (code, text) = setup.refused(action, &filter);
        assert_eq!(code, "InvalidParameterValue", "{action}");
        assert_eq!(text, "The filter 'no-such' is invalid");
    }
}

#[test]
fn pages_have_every_eni_once() {
    let mut setup = Setup::new();
    for _ in 0..12 {
        setup.create(&[]);
    }
    let subnet = setup.subnet.to_string();
    let filter = [
        ("Filter.1.Name", "subnet-id"),
        ("Filter.1.Value.1", subnet.as_str()),
    ];
    let mut seen = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let mut params = filter.to_vec();
        params.push(("MaxResults", "5"));
        params.extend(token.as_deref().map(|token| ("NextToken", token)));
        let page = setup.ok("DescribeNetworkInterfaces", &params);
        let ids = all(&page, "networkInterfaceId");
        assert!(ids.len() <= 5);
        seen.extend(ids);
        token = all(&page, "nextToken").pop();
        if token.is_none() {
            break;
        }
        // A token is good only for the same question.
        let other = [("NextToken", token.as_deref().unwrap())];
        assert_eq!(
            setup.refused("DescribeNetworkInterfaces", &other).0,
            "InvalidParameterValue"
        );
    }
    assert_eq!(seen.len(), 13);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 13);
    // A page that holds all that is left is the last.
    let whole = setup.ok("DescribeNetworkInterfaces", &[("MaxResults", "13")]);
    assert!(!whole.contains("nextToken"));
}

#[test]
fn bad_pages_and_bad_ids_are_refused() {
    let mut setup = Setup::new();
    let eni = setup.create(&[]);
    for (params, code) in [
        (vec![("MaxResults", "4")], "InvalidParameterValue"),
        (vec![("MaxResults", "1001")], "InvalidParameterValue"),
        (vec![("MaxResults", "many")], "InvalidParameterValue"),
        (vec![("NextToken", "é")], "InvalidParameterValue"),
        (
            vec![("NextToken", "00000000000000000")],
            "InvalidParameterValue",
        ),
        (
            vec![("MaxResults", "5"), ("NetworkInterfaceId.1", &eni)],
            "InvalidParameterCombination",
        ),
        (
            vec![("NetworkInterfaceId.1", "notaneni")],
            "InvalidNetworkInterfaceId.Malformed",
        ),
        (
            vec![("NetworkInterfaceId.1", "eni-0123456789abcdef0")],
            "InvalidNetworkInterfaceID.NotFound",
        ),
        (vec![("Filter.1.Name", "status")], "MissingParameter"),
    ] {
        assert_eq!(
            setup.refused("DescribeNetworkInterfaces", &params).0,
            code,
            "{params:?}"
        );
    }
    let many: Vec<String> = (0..201)
        .map(|n| format!("Filter.1.Value.{}", n + 1))
        .collect();
    let mut params = vec![("Filter.1.Name", "status")];
    params.extend(many.iter().map(|name| (name.as_str(), "x")));
    assert_eq!(
        setup.refused("DescribeNetworkInterfaces", &params).0,
        "FilterLimitExceeded"
    );
}

/// EC2's own words, which tools match on.
#[test]
fn pages_and_ids_are_refused_in_the_words_of_ec2() {
    let mut setup = Setup::new();
    let eni = setup.create(&[]);
    for (params, text) in [
        (
            vec![("MaxResults", "4")],
            "Value ( 4 ) for parameter MaxResults is invalid. Expecting a value greater than or \
             equal to 5.",
        ),
        (
            vec![("MaxResults", "2000")],
            "Value ( 2000 ) for parameter MaxResults is invalid. Expecting a value smaller than \
             or equal to 1000.",
        ),
        (
            vec![("MaxResults", "5"), ("NetworkInterfaceId.1", &eni)],
            "The parameter NetworkInterfaceIds cannot be used with the parameter MaxResults",
        ),
        (
            vec![("NextToken", "garbage")],
            "Value ( garbage ) for parameter NextToken is invalid. The token is invalid.",
        ),
        (
            vec![("NetworkInterfaceId.1", "not-an-eni")],
            "Invalid id: &quot;not-an-eni&quot; (expecting &quot;eni-...&quot;)",
        ),
        (
            vec![("NetworkInterfaceId.1", "eni-zz")],
            "Invalid id: &quot;eni-zz&quot;",
        ),
        // EC2 does not count the digits.
        (
            vec![("NetworkInterfaceId.1", "eni-12")],
            "The networkInterface ID 'eni-12' does not exist",
        ),
    ] {
        let refused = setup.refused("DescribeNetworkInterfaces", &params);
        assert_eq!(refused.1, text, "{params:?}");
    }
    let (code, text) = setup.refused("DescribeInstances", &[("MaxResults", "2")]);
    assert_eq!(code, "InvalidParameterValue");
    assert_eq!(
        text,
        "Value ( 2 ) for parameter maxResults is invalid. Expecting a value greater than 5."
    );
    let (code, _) = setup.refused("DescribeInstanceTypes", &[("MaxResults", "4")]);
    assert_eq!(code, "InvalidMaxResults");
}

#[test]
fn pages_may_be_short_and_empty_but_come_to_an_end_with_everything_in_them() {
    let mut setup = Setup::with(WorldConfig {
        short_pages: true,
        ..WorldConfig::default()
    });
    for _ in 0..40 {
        setup.create(&[]);
    }
    let (mut sizes, mut seen) = (Vec::new(), Vec::new());
    let mut token: Option<String> = None;
    for _ in 0..200 {
        let mut params = vec![("MaxResults", "10")];
        params.extend(token.as_deref().map(|token| ("NextToken", token)));
        let page = setup.ok("DescribeNetworkInterfaces", &params);
        // The same page is the same when it is asked for again.
        assert_eq!(
            all(
                &setup.ok("DescribeNetworkInterfaces", &params),
                "networkInterfaceId"
            ),
            all(&page, "networkInterfaceId")
        );
        let ids = all(&page, "networkInterfaceId");
        sizes.push(ids.len());
        seen.extend(ids);
        token = all(&page, "nextToken").pop();
        if token.is_none() {
            break;
        }
    }
    assert!(token.is_none(), "{sizes:?}");
    assert_eq!(seen.len(), 41);
    seen.dedup();
    assert_eq!(seen.len(), 41);
    assert!(sizes.contains(&0), "{sizes:?}");
    let short = |size: &usize| (1..10).contains(size);
    assert!(sizes[..sizes.len() - 1].iter().any(short), "{sizes:?}");
}

#[test]
fn the_enis_of_an_instance_are_found_by_its_id_or_by_a_part_of_it() {
    let mut setup = Setup::new();
    let eni = setup.create(&[("Description", "mine")]);
    setup.attach(&eni, "1");
    let spec = aws_sim::LaunchSpec::new("m5.large", &setup.subnet);
    setup.world.launch_instance(setup.now, spec).unwrap();
    let instance = setup.instance.to_string();
    let part = format!("{}*", instance.get(..12).unwrap());
    for (value, more, count) in [
        (instance.as_str(), None, 2),
        (part.as_str(), None, 2),
        (instance.as_str(), Some(("description", "mine")), 1),
        ("i-0123456789abcdef0", None, 0),
    ] {
        let mut filters = vec![
            ("Filter.1.Name", "attachment.instance-id"),
            ("Filter.1.Value.1", value),
            ("Filter.1.Value.2", value),
        ];
        if let Some((name, value)) = more {
            filters.extend([("Filter.2.Name", name), ("Filter.2.Value.1", value)]);
        }
        let found = setup.ok("DescribeNetworkInterfaces", &filters);
        assert_eq!(
            all(&found, "networkInterfaceId").len(),
            count,
            "{filters:?}"
        );
    }
}

#[test]
fn every_filter_that_ec2_documents_is_known() {
    let mut setup = Setup::new();
    for name in [
        "association.allocation-id",
        "association.association-id",
        "addresses.association.owner-id",
        "addresses.association.public-ip",
        "addresses.primary",
        "addresses.private-ip-address",
        "association.ip-owner-id",
        "association.public-ip",
        "association.public-dns-name",
        "attachment.attach-time",
        "attachment.attachment-id",
        "attachment.delete-on-termination",
        "attachment.device-index",
        "attachment.instance-id",
        "attachment.instance-owner-id",
        "attachment.status",
        "availability-zone",
        "availability-zone-id",
        "description",
        "group-id",
        "ipv6-addresses.ipv6-address",
        "interface-type",
        "mac-address",
        "network-interface-id",
        "operator.managed",
        "operator.principal",
        "owner-id",
        "private-dns-name",
        "private-ip-address",
        "requester-id",
        "requester-managed",
        "source-dest-check",
        "status",
        "subnet-id",
        "tag:x",
        "tag-key",
        "vpc-id",
    ] {
        let filter = [
            ("Filter.1.Name", name),
            ("Filter.1.Value.1", "none of this"),
        ];
        let found = setup.ok("DescribeNetworkInterfaces", &filter);
        assert_eq!(all(&found, "networkInterfaceId").len(), 0, "{name}");
    }
}

#[test]
fn reads_lag_behind_writes_by_the_knob() {
    let lag = Duration::from_secs(10);
    let mut setup = Setup::with(WorldConfig {
        describe_lag: lag,
        ..WorldConfig::default()
    });
    setup.pass(Duration::from_secs(60));
    let eni = setup.create(&[]);
    let ask = [("NetworkInterfaceId.1", eni.as_str())];
    let (code, _) = setup.refused("DescribeNetworkInterfaces", &ask);
    assert_eq!(code, "InvalidNetworkInterfaceID.NotFound");
    setup.pass(Duration::from_secs(9));
    setup.refused("DescribeNetworkInterfaces", &ask);
    setup.pass(Duration::from_secs(1));
    setup.ok("DescribeNetworkInterfaces", &ask);
    setup.ok("DeleteNetworkInterface", &[("NetworkInterfaceId", &eni)]);
    setup.ok("DescribeNetworkInterfaces", &ask);
    setup.pass(lag);
    setup.refused("DescribeNetworkInterfaces", &ask);
}

#[test]
fn an_instance_shows_its_enis_in_their_places() {
    let mut setup = Setup::new();
    let eni = setup.create(&[("Ipv4PrefixCount", "1")]);
    setup.attach(&eni, "1");
    let instance = setup.instance.to_string();
    let body = setup.ok("DescribeInstances", &[("InstanceId.1", &instance)]);
    assert_eq!(all(&body, "deviceIndex"), ["0", "1"]);
    assert_eq!(all(&body, "deleteOnTermination"), ["true", "false"]);
    assert_eq!(all(&body, "ipv4Prefix").len(), 1);
    let filter = [
        ("Filter.1.Name", "network-interface.network-interface-id"),
        ("Filter.1.Value.1", eni.as_str()),
    ];
    assert_eq!(
        all(&setup.ok("DescribeInstances", &filter), "instanceId"),
        [instance]
    );
    let (code, _) = setup.refused(
        "DescribeInstances",
        &[("InstanceId.1", "i-0123456789abcdef0")],
    );
    assert_eq!(code, "InvalidInstanceID.NotFound");
}

#[test]
fn instance_types_are_ec2s_and_unknown_ones_refused() {
    let mut setup = Setup::new();
    let body = setup.ok(
        "DescribeInstanceTypes",
        &[("InstanceType.1", "p4d.24xlarge")],
    );
    assert_eq!(
        all(&body, "maximumNetworkInterfaces"),
        ["60", "15", "15", "15", "15"]
    );
    assert_eq!(first(&body, "ipv4AddressesPerInterface"), "50");
    let (code, text) = setup.refused("DescribeInstanceTypes", &[("InstanceType.1", "zz9.huge")]);
    assert_eq!(code, "InvalidInstanceType");
    assert_eq!(
        text,
        "The following supplied instance types do not exist: [zz9.huge]"
    );
}

#[test]
fn tags_are_set_kept_and_limited() {
    let mut setup = Setup::new();
    let eni = setup.create(&[]);
    setup.ok(
        "CreateTags",
        &[on(eni.as_str()).as_slice(), &tag("a", "1")].concat(),
    );
    setup.ok(
        "CreateTags",
        &[on(eni.as_str()).as_slice(), &tag("a", "2")].concat(),
    );
    assert_eq!(all(&setup.eni(&eni), "value"), ["2"]);
    // A value that does not match keeps the tag.
    setup.ok(
        "DeleteTags",
        &[on(eni.as_str()).as_slice(), &tag("a", "1")].concat(),
    );
    assert_eq!(all(&setup.eni(&eni), "value"), ["2"]);
    setup.ok(
        "DeleteTags",
        &[on(eni.as_str()).as_slice(), &tag("a", "2")].concat(),
    );
    assert_eq!(all(&setup.eni(&eni), "value"), [""; 0]);
    for (id, key, code) in [
        (eni.as_str(), "aws:mine", "InvalidParameterValue"),
        (
            "eni-0123456789abcdef0",
            "a",
            "InvalidNetworkInterfaceID.NotFound",
        ),
        ("vol-0123456789abcdef0", "a", "InvalidID"),
    ] {
        let params = [on(id).as_slice(), &tag(key, "")].concat();
        assert_eq!(setup.refused("CreateTags", &params).0, code, "{id} {key}");
    }
    for n in 0..50 {
        let key = format!("key-{n}");
        setup.ok(
            "CreateTags",
            &[on(eni.as_str()).as_slice(), &tag(&key, "")].concat(),
        );
    }
    let params = [on(eni.as_str()).as_slice(), &tag("one-more", "")].concat();
    assert_eq!(setup.refused("CreateTags", &params).0, "TagLimitExceeded");
}

fn tag<'a>(key: &'a str, value: &'a str) -> [(&'a str, &'a str); 2] {
    [("Tag.1.Key", key), ("Tag.1.Value", value)]
}

fn on(id: &str) -> [(&str, &str); 1] {
    [("ResourceId.1", id)]
}
