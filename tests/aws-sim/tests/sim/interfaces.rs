//! The life of an ENI.

use std::time::Duration;

use crate::{Setup, addresses, all, first};

#[test]
fn an_eni_goes_from_pending_to_available_to_in_use_and_back() {
    let mut setup = Setup::new();
    let subnet = setup.subnet.to_string();
    let made = setup.ok("CreateNetworkInterface", &[("SubnetId", &subnet)]);
    assert_eq!(first(&made, "status"), "pending");
    let eni = first(&made, "networkInterfaceId");
    setup.pass(Duration::from_secs(1));
    assert_eq!(first(&setup.eni(&eni), "status"), "available");

    let instance = setup.instance.to_string();
    let attach = [
        ("NetworkInterfaceId", eni.as_str()),
        ("InstanceId", &instance),
        ("DeviceIndex", "1"),
    ];
    let attachment = first(&setup.ok("AttachNetworkInterface", &attach), "attachmentId");
    assert_eq!(all(&setup.eni(&eni), "status"), ["in-use", "attaching"]);
    setup.pass(Duration::from_secs(5));
    assert_eq!(all(&setup.eni(&eni), "status"), ["in-use", "attached"]);

    setup.ok("DetachNetworkInterface", &[("AttachmentId", &attachment)]);
    assert_eq!(all(&setup.eni(&eni), "status"), ["in-use", "detaching"]);
    let delete = [("NetworkInterfaceId", eni.as_str())];
    let (code, text) = setup.refused("DeleteNetworkInterface", &delete);
    assert_eq!(code, "InvalidParameterValue");
    assert_eq!(
        text,
        format!("Network interface '{eni}' is currently in use.")
    );
    setup.pass(Duration::from_secs(5));
    assert_eq!(all(&setup.eni(&eni), "status"), ["available"]);

    setup.ok("DeleteNetworkInterface", &delete);
    let (code, text) = setup.refused("DeleteNetworkInterface", &delete);
    assert_eq!(code, "InvalidNetworkInterfaceID.NotFound");
    assert_eq!(
        text,
        format!("The networkInterface ID '{eni}' does not exist")
    );
}

#[test]
fn attaching_keeps_the_limits_of_the_instance() {
    let mut setup = Setup::new();
    let instance = setup.instance.to_string();
    let (one, two, three) = (setup.create(&[]), setup.create(&[]), setup.create(&[]));
    let attach = |setup: &mut Setup, eni: &str, index: &str, card: &str| {
        let place = [("DeviceIndex", index), ("NetworkCardIndex", card)];
        let ids = [
            ("NetworkInterfaceId", eni),
            ("InstanceId", instance.as_str()),
        ];
        setup.refused("AttachNetworkInterface", &[ids, place].concat())
    };
    setup.attach(&one, "1");

    let (code, text) = attach(&mut setup, &two, "1", "0");
    assert_eq!(code, "InvalidParameterValue");
    assert!(
        text.contains("already has an interface attached at device index '1'"),
        "{text}"
    );
    assert_eq!(
        attach(&mut setup, &one, "2", "0").0,
        "InvalidParameterValue"
    );
    assert_eq!(
        attach(&mut setup, &two, "2", "5").0,
        "InvalidParameterValue"
    );
    setup.attach(&two, "2");
    let (code, text) = attach(&mut setup, &three, "3", "0");
    assert_eq!(code, "AttachmentLimitExceeded");
    assert_eq!(text, "Interface count 4 exceeds the limit for m5.large");
}

#[test]
fn an_eni_is_attached_only_within_its_zone_and_within_the_slots_of_the_type() {
    let mut setup = Setup::new();
    let (instance, other) = (setup.instance.to_string(), setup.other_zone.to_string());
    let far = setup.ok("CreateNetworkInterface", &[("SubnetId", &other)]);
    let far = first(&far, "networkInterfaceId");
    let full = setup.create(&[("SecondaryPrivateIpAddressCount", "10")]);
    let mut attach = |eni: &str| {
        let params = [
            ("NetworkInterfaceId", eni),
            ("InstanceId", &instance),
            ("DeviceIndex", "1"),
        ];
        setup.refused("AttachNetworkInterface", &params).0
    };
    assert_eq!(attach(&far), "InvalidParameterCombination");
    assert_eq!(attach(&full), "PrivateIpAddressLimitExceeded");
}

#[test]
fn the_primary_eni_stays() {
    let mut setup = Setup::new();
    let primary = setup.world.primary_eni(&setup.instance).unwrap();
    let attachment = primary.attachment.as_ref().unwrap();
    assert!(attachment.delete_on_termination);
    let attachment = attachment.id.to_string();
    let (code, _) = setup.refused("DetachNetworkInterface", &[("AttachmentId", &attachment)]);
    assert_eq!(code, "OperationNotPermitted");
    let gone = "eni-attach-0123456789abcdef0";
    let (code, _) = setup.refused("DetachNetworkInterface", &[("AttachmentId", gone)]);
    assert_eq!(code, "InvalidAttachmentID.NotFound");
}

#[test]
fn termination_deletes_what_goes_with_the_instance_and_frees_the_rest() {
    let mut setup = Setup::new();
    let (goes, stays) = (setup.create(&[]), setup.create(&[]));
    let attachment = setup.attach(&goes, "1");
    setup.attach(&stays, "2");
    setup.ok(
        "ModifyNetworkInterfaceAttribute",
        &[
            ("NetworkInterfaceId", &goes),
            ("Attachment.AttachmentId", &attachment),
            ("Attachment.DeleteOnTermination", "true"),
        ],
    );
    let instance = setup.instance.clone();
    setup.world.terminate(setup.now, &instance).unwrap();
    assert_eq!(all(&setup.eni(&goes), "status"), ["in-use", "detaching"]);
    setup.pass(Duration::from_secs(60));
    assert_eq!(all(&setup.eni(&stays), "status"), ["available"]);
    let (code, _) = setup.refused(
        "DescribeNetworkInterfaces",
        &[("NetworkInterfaceId.1", &goes)],
    );
    assert_eq!(code, "InvalidNetworkInterfaceID.NotFound");
    assert_eq!(setup.free(), 250);
}

#[test]
fn attributes_change_one_at_a_time() {
    let mut setup = Setup::new();
    let eni = setup.create(&[]);
    let mut modify = |params: &[(&str, &str)]| {
        let id = [("NetworkInterfaceId", eni.as_str())];
        let response = setup.call("ModifyNetworkInterfaceAttribute", &[&id, params].concat());
        (response.error, setup.eni(&eni))
    };
    let (error, body) = modify(&[("SourceDestCheck.Value", "false")]);
    assert_eq!(
        (error, first(&body, "sourceDestCheck").as_str()),
        (None, "false")
    );
    let (error, body) = modify(&[("Description.Value", "a (pod) & more")]);
    assert_eq!(
        (error, first(&body, "description").as_str()),
        (None, "a (pod) &amp; more")
    );
    for (refused, code) in [
        (vec![], "InvalidParameterCombination"),
        (
            vec![("SourceDestCheck.Value", "true"), ("Description.Value", "")],
            "InvalidParameterCombination",
        ),
        (
            vec![("SecurityGroupId.1", "sg-0123456789abcdef0")],
            "InvalidGroup.NotFound",
        ),
        (
            vec![("Attachment.DeleteOnTermination", "true")],
            "MissingParameter",
        ),
    ] {
        assert_eq!(modify(&refused).0.as_deref(), Some(code), "{refused:?}");
    }
}

#[test]
fn a_client_token_makes_one_eni() {
    let mut setup = Setup::new();
    let free = setup.free();
    let first_try = setup.create(&[("ClientToken", "once")]);
    assert_eq!(setup.create(&[("ClientToken", "once")]), first_try);
    assert_eq!(setup.free(), free - 1);
    let subnet = setup.subnet.to_string();
    let other = [
        ("SubnetId", subnet.as_str()),
        ("ClientToken", "once"),
        ("Description", "x"),
    ];
    assert_eq!(
        setup.refused("CreateNetworkInterface", &other).0,
        "IdempotentParameterMismatch"
    );
}

/// One more than an ENI may have.
const GROUPS: [&str; 6] = [
    "SecurityGroupId.1",
    "SecurityGroupId.2",
    "SecurityGroupId.3",
    "SecurityGroupId.4",
    "SecurityGroupId.5",
    "SecurityGroupId.6",
];

#[test]
fn creation_that_is_refused_takes_nothing() {
    let mut setup = Setup::new();
    let subnet = setup.subnet.to_string();
    let taken = addresses(
        &setup.eni(
            &setup
                .world
                .primary_eni(&setup.instance)
                .unwrap()
                .id
                .to_string(),
        ),
    );
    let free = setup.free();
    for (params, code) in [
        (
            vec![("SubnetId", "subnet-0123456789abcdef0")],
            "InvalidSubnetID.NotFound",
        ),
        (
            vec![("SecurityGroupId.1", "sg-0123456789abcdef0")],
            "InvalidSecurityGroupID.NotFound",
        ),
        (
            vec![("SecurityGroupId.1", "nonsense")],
            "InvalidGroupId.Malformed",
        ),
        (
            vec![("PrivateIpAddress", "10.0.0.1")],
            "InvalidParameterValue",
        ),
        (
            vec![("PrivateIpAddress", "10.0.0.3")],
            "InvalidParameterValue",
        ),
        (
            vec![("PrivateIpAddress", "10.0.0.255")],
            "InvalidParameterValue",
        ),
        (
            GROUPS.map(|name| (name, "sg-0123456789abcdef0")).to_vec(),
            "SecurityGroupsPerInterfaceLimitExceeded",
        ),
        (
            vec![("PrivateIpAddress", "10.0.1.9")],
            "InvalidParameterValue",
        ),
        (
            vec![("PrivateIpAddress", &taken[0])],
            "InvalidIPAddress.InUse",
        ),
        (
            vec![("Ipv4Prefix.1.Ipv4Prefix", "10.0.0.8/28")],
            "InvalidParameterValue",
        ),
        (
            vec![("Ipv4Prefix.1.Ipv4Prefix", "10.0.0.0/28")],
            "InvalidParameterValue",
        ),
        (vec![("Ipv4PrefixCount", "15")], "InsufficientCidrBlocks"),
        (
            vec![("SecondaryPrivateIpAddressCount", "50")],
            "PrivateIpAddressLimitExceeded",
        ),
        (
            vec![
                ("Ipv4PrefixCount", "1"),
                ("SecondaryPrivateIpAddressCount", "1"),
            ],
            "InvalidParameterCombination",
        ),
        (
            vec![("TagSpecification.1.ResourceType", "instance")],
            "InvalidParameterValue",
        ),
        (vec![("Ipv6AddressCount", "1")], "InvalidParameterValue"),
        (vec![("Operator.Principal", "x")], "UnknownParameter"),
        (vec![("DryRun", "true")], "DryRunOperation"),
        (vec![("DryRun", "maybe")], "InvalidParameterValue"),
    ] {
        let defaults = if params[0].0 == "SubnetId" {
            vec![]
        } else {
            vec![("SubnetId", subnet.as_str())]
        };
        let refused = setup.refused(
            "CreateNetworkInterface",
            &[defaults, params.clone()].concat(),
        );
        assert_eq!(refused.0, code, "{params:?}: {}", refused.1);
        assert_eq!(setup.free(), free, "{params:?}");
    }
    let (code, text) = setup.refused("CreateNetworkInterface", &[]);
    assert_eq!(code, "MissingParameter");
    assert_eq!(text, "The request must contain the parameter SubnetId");
}

#[test]
fn a_slash_28_gives_eleven_enis_and_no_prefix() {
    let mut setup = Setup::new();
    let vpc = setup.world.subnet(&setup.subnet).unwrap().vpc.clone();
    let small = setup
        .world
        .add_subnet(&vpc, "10.0.9.0/28".parse().unwrap(), "us-east-1a")
        .unwrap();
    setup.subnet = small.clone();
    assert_eq!(setup.free(), 11);
    let params = [("SubnetId", small.as_str()), ("Ipv4PrefixCount", "1")];
    assert_eq!(
        setup.refused("CreateNetworkInterface", &params).0,
        "InsufficientCidrBlocks"
    );
    for left in (0..11).rev() {
        setup.create(&[]);
        assert_eq!(setup.free(), left);
    }
    let (code, text) = setup.refused("CreateNetworkInterface", &params[..1]);
    assert_eq!(code, "InsufficientFreeAddressesInSubnet");
    assert_eq!(
        text,
        "The specified subnet does not have enough free addresses to satisfy the request."
    );
}
