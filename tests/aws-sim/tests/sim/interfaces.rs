//! The life of an ENI.

use std::time::Duration;

use aws_sim::{LaunchSpec, WorldConfig};

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
            "InvalidParameter",
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

#[test]
fn a_token_whose_eni_is_deleted_is_spent() {
    let mut setup = Setup::new();
    let eni = setup.create(&[("ClientToken", "once")]);
    setup.ok("DeleteNetworkInterface", &[("NetworkInterfaceId", &eni)]);
    let subnet = setup.subnet.to_string();
    let again = [("SubnetId", subnet.as_str()), ("ClientToken", "once")];
    let (code, _) = setup.refused("CreateNetworkInterface", &again);
    assert_eq!(code, "IdempotentParameterMismatch");
}

#[test]
fn an_account_has_a_quota_of_enis() {
    let mut setup = Setup::with(WorldConfig {
        eni_quota: 3,
        ..WorldConfig::default()
    });
    // The instance has the first.
    let eni = setup.create(&[]);
    setup.create(&[]);
    let subnet = setup.subnet.to_string();
    let create = [("SubnetId", subnet.as_str())];
    let (code, _) = setup.refused("CreateNetworkInterface", &create);
    assert_eq!(code, "NetworkInterfaceLimitExceeded");
    setup.ok("DeleteNetworkInterface", &[("NetworkInterfaceId", &eni)]);
    setup.create(&[]);
}

#[test]
fn what_creation_refuses_it_says_in_the_words_of_ec2() {
    let mut setup = Setup::new();
    let vpc = setup.world.add_vpc("10.9.0.0/16".parse().unwrap()).unwrap();
    let foreign = setup.world.vpc(&vpc).unwrap().default_group.to_string();
    let taken = setup.world.primary_eni(&setup.instance).unwrap().primary;
    let (subnet, taken) = (setup.subnet.to_string(), taken.unwrap().to_string());
    let gone = "sg-0123456789abcdef0";
    for (params, text) in [
        (
            vec![("SecurityGroupId.1", gone)],
            format!("The securityGroup ID '{gone}' does not exist"),
        ),
        (
            vec![("SecurityGroupId.1", foreign.as_str())],
            format!("Security group {foreign} and subnet {subnet} belong to different networks."),
        ),
        (
            vec![("InterfaceType", "bogus")],
            "invalid value for parameter interface-type: bogus".to_owned(),
        ),
        (
            vec![("PrivateIpAddress", "10.9.9.9")],
            "Address does not fall within the subnet's address range".to_owned(),
        ),
        (
            vec![("PrivateIpAddress", "10.0.0.1")],
            "Address is in subnet's reserved address range".to_owned(),
        ),
        (
            vec![("PrivateIpAddress", &taken)],
            "The specified address is already in use.".to_owned(),
        ),
        (
            vec![("PrivateIpAddress", "foo")],
            "invalid value for parameter address: foo".to_owned(),
        ),
        (
            vec![("SecondaryPrivateIpAddressCount", "0")],
            "Value (0) for parameter secondaryPrivateIpAddressCount is invalid. Value must be a \
             positive number."
                .to_owned(),
        ),
        (
            vec![
                ("PrivateIpAddress", "10.0.0.9"),
                ("PrivateIpAddresses.1.PrivateIpAddress", "10.0.0.10"),
                ("PrivateIpAddresses.1.Primary", "true"),
            ],
            "Only one primary private IP address can be specified.".to_owned(),
        ),
        (
            vec![
                ("PrivateIpAddress", "10.0.0.9"),
                ("PrivateIpAddresses.1.PrivateIpAddress", "10.0.0.9"),
            ],
            "address value can't be both primary and secondary".to_owned(),
        ),
        (
            vec![("Description", "ä")],
            "Invalid interface description. Valid descriptions are strings less than 256 \
             characters from the following set:  a-zA-Z0-9. _-:/()#,@[]+=&amp;;{}!$*"
                .to_owned(),
        ),
    ] {
        let params = [vec![("SubnetId", subnet.as_str())], params].concat();
        let refused = setup.refused("CreateNetworkInterface", &params);
        assert_eq!(refused.1, text, "{params:?}");
    }
}

#[test]
fn idle_connections_are_remembered_for_as_long_as_is_asked() {
    let mut setup = Setup::new();
    let eni = setup.create(&[
        (
            "ConnectionTrackingSpecification.TcpEstablishedTimeout",
            "350",
        ),
        ("ConnectionTrackingSpecification.UdpTimeout", "45"),
    ]);
    let body = setup.eni(&eni);
    assert_eq!(first(&body, "tcpEstablishedTimeout"), "350");
    assert_eq!(first(&body, "udpTimeout"), "45");
    assert!(!body.contains("udpStreamTimeout"), "{body}");
    let id = ("NetworkInterfaceId", eni.as_str());
    let stream = "ConnectionTrackingSpecification.UdpStreamTimeout";
    setup.ok("ModifyNetworkInterfaceAttribute", &[id, (stream, "60")]);
    assert_eq!(first(&setup.eni(&eni), "udpStreamTimeout"), "60");
    for (name, values) in [
        ("TcpEstablishedTimeout", ["59", "432001"]),
        ("UdpStreamTimeout", ["59", "181"]),
        ("UdpTimeout", ["29", "61"]),
    ] {
        for value in values {
            let name = format!("ConnectionTrackingSpecification.{name}");
            let wrong = [id, (name.as_str(), value)];
            let (code, _) = setup.refused("ModifyNetworkInterfaceAttribute", &wrong);
            assert_eq!(code, "InvalidParameterValue", "{name} {value}");
        }
    }
    // Nobody asked: EC2's defaults are not shown.
    let plain = setup.create(&[]);
    assert!(!setup.eni(&plain).contains("connectionTracking"));
}

#[test]
fn each_attribute_can_be_read_alone() {
    let mut setup = Setup::new();
    let eni = setup.create(&[("Description", "of pods")]);
    let attachment = setup.attach(&eni, "1");
    let id = ("NetworkInterfaceId", eni.as_str());
    let mut read = |attribute: &str| {
        setup.ok(
            "DescribeNetworkInterfaceAttribute",
            &[id, ("Attribute", attribute)],
        )
    };
    assert_eq!(first(&read("attachment"), "attachmentId"), attachment);
    assert_eq!(first(&read("description"), "value"), "of pods");
    assert_eq!(first(&read("groupSet"), "groupName"), "default");
    assert_eq!(first(&read("sourceDestCheck"), "value"), "true");
    assert_eq!(
        first(
            &read("associatePublicIpAddress"),
            "associatePublicIpAddress"
        ),
        "false"
    );
    for (params, code) in [
        (vec![id], "InvalidParameterCombination"),
        (vec![id, ("Attribute", "color")], "InvalidParameterValue"),
        (
            vec![
                ("NetworkInterfaceId", "eni-0123456789abcdef0"),
                ("Attribute", "attachment"),
            ],
            "InvalidNetworkInterfaceID.NotFound",
        ),
    ] {
        let refused = setup.refused("DescribeNetworkInterfaceAttribute", &params);
        assert_eq!(refused.0, code, "{params:?}");
    }
}

#[test]
fn source_and_destination_are_checked_again_after_a_reset() {
    let mut setup = Setup::new();
    let eni = setup.create(&[]);
    let id = ("NetworkInterfaceId", eni.as_str());
    let off = [id, ("SourceDestCheck.Value", "false")];
    setup.ok("ModifyNetworkInterfaceAttribute", &off);
    setup.ok(
        "ResetNetworkInterfaceAttribute",
        &[id, ("SourceDestCheck", "")],
    );
    assert_eq!(first(&setup.eni(&eni), "sourceDestCheck"), "true");
    let (code, _) = setup.refused("ResetNetworkInterfaceAttribute", &[id]);
    assert_eq!(code, "InvalidParameterCombination");
}

#[test]
fn two_attributes_at_once_are_named_in_the_refusal() {
    let mut setup = Setup::new();
    let eni = setup.create(&[]);
    let params = [
        ("NetworkInterfaceId", eni.as_str()),
        ("Description.Value", "x"),
        ("SourceDestCheck.Value", "true"),
    ];
    let (code, text) = setup.refused("ModifyNetworkInterfaceAttribute", &params);
    assert_eq!(code, "InvalidParameterCombination");
    assert_eq!(
        text,
        "Fields for multiple attribute types specified: sourceDestCheck, description"
    );
}

#[test]
fn ena_express_comes_and_goes_with_the_attachment() {
    let mut setup = Setup::new();
    let eni = setup.create(&[]);
    let old = setup.instance.to_string();
    let spec = LaunchSpec::new("m6i.32xlarge", &setup.subnet);
    setup.instance = setup.world.launch_instance(setup.now, spec).unwrap();
    let instance = setup.instance.to_string();
    let id = ("NetworkInterfaceId", eni.as_str());
    let elsewhere = [
        id,
        ("EnaSrdSpecification.EnaSrdEnabled", "true"),
        ("InstanceId", &old),
        ("DeviceIndex", "1"),
    ];
    let (_, text) = setup.refused("AttachNetworkInterface", &elsewhere);
    assert_eq!(text, "m5.large instances do not support ENA Express.");
    let on = [id, ("EnaSrdSpecification.EnaSrdEnabled", "true")];
    let (code, _) = setup.refused("ModifyNetworkInterfaceAttribute", &on);
    assert_eq!(code, "IncorrectState");
    let udp = "EnaSrdSpecification.EnaSrdUdpSpecification.EnaSrdUdpEnabled";
    let place = [("InstanceId", instance.as_str()), ("DeviceIndex", "1")];
    let alone = [&[id, (udp, "true")], place.as_slice()].concat();
    let (code, _) = setup.refused("AttachNetworkInterface", &alone);
    assert_eq!(code, "InvalidParameterCombination");
    let both = [on.as_slice(), &[(udp, "true")], &place].concat();
    let attachment = first(&setup.ok("AttachNetworkInterface", &both), "attachmentId");
    let body = setup.eni(&eni);
    assert_eq!(first(&body, "enaSrdEnabled"), "true");
    assert_eq!(first(&body, "enaSrdUdpEnabled"), "true");
    setup.pass(Duration::from_secs(5));
    setup.ok("DetachNetworkInterface", &[("AttachmentId", &attachment)]);
    setup.pass(Duration::from_secs(5));
    assert!(!setup.eni(&eni).contains("enaSrd"));
}

#[test]
fn an_efa_without_a_network_device_has_no_address() {
    let mut setup = Setup::new();
    let free = setup.free();
    let eni = setup.create(&[("InterfaceType", "efa-only")]);
    let body = setup.eni(&eni);
    assert_eq!(first(&body, "interfaceType"), "efa-only");
    assert_eq!(all(&body, "privateIpAddress").len(), 0, "{body}");
    assert_eq!(setup.free(), free);
    let id = ("NetworkInterfaceId", eni.as_str());
    let assign = [id, ("SecondaryPrivateIpAddressCount", "1")];
    let (code, _) = setup.refused("AssignPrivateIpAddresses", &assign);
    assert_eq!(code, "InvalidParameterValue");
    let subnet = setup.subnet.to_string();
    for with in [("PrivateIpAddress", "10.0.0.9"), ("Ipv4PrefixCount", "1")] {
        let params = [
            ("SubnetId", subnet.as_str()),
            ("InterfaceType", "efa-only"),
            with,
        ];
        let (code, _) = setup.refused("CreateNetworkInterface", &params);
        assert_eq!(code, "InvalidParameterCombination", "{with:?}");
    }
    assert!(
        setup
            .world
            .fabric()
            .enis
            .iter()
            .all(|found| found.id != eni)
    );
    setup.ok("DeleteNetworkInterface", &[id]);
}

#[test]
fn an_efa_is_attached_only_while_the_instance_is_stopped() {
    let mut setup = Setup::new();
    let spec = LaunchSpec::new("c5n.18xlarge", &setup.subnet);
    setup.instance = setup.world.launch_instance(setup.now, spec).unwrap();
    let (eni, other) = (
        setup.create(&[("InterfaceType", "efa")]),
        setup.create(&[("InterfaceType", "efa")]),
    );
    let instance = setup.instance.to_string();
    let place = |eni| {
        [
            ("NetworkInterfaceId", eni),
            ("InstanceId", instance.as_str()),
            ("DeviceIndex", "1"),
        ]
    };
    let (code, _) = setup.refused("AttachNetworkInterface", &place(&eni));
    assert_eq!(code, "IncorrectState");
    setup.ok("StopInstances", &[("InstanceId.1", &instance)]);
    setup.pass(Duration::from_secs(60));
    setup.ok("AttachNetworkInterface", &place(&eni));
    let small = LaunchSpec::new("m5.large", &setup.subnet);
    let small = setup.world.launch_instance(setup.now, small).unwrap();
    let mut elsewhere = place(&other);
    let small = small.to_string();
    elsewhere[1].1 = &small;
    let (_, text) = setup.refused("AttachNetworkInterface", &elsewhere);
    assert_eq!(
        text,
        "m5.large instances do not support Elastic Fabric Adapters."
    );
    // One for each network card.
    let mut second = place(&other);
    second[2].1 = "2";
    let (code, _) = setup.refused("AttachNetworkInterface", &second);
    assert_eq!(code, "InvalidParameterValue");
}

#[test]
fn an_instance_that_is_neither_running_nor_stopped_takes_no_eni() {
    let mut setup = Setup::new();
    let eni = setup.create(&[]);
    let instance = setup.instance.to_string();
    setup.ok("StopInstances", &[("InstanceId.1", &instance)]);
    let attach = [
        ("NetworkInterfaceId", eni.as_str()),
        ("InstanceId", &instance),
        ("DeviceIndex", "1"),
    ];
    let (code, text) = setup.refused("AttachNetworkInterface", &attach);
    assert_eq!(code, "IncorrectState");
    assert_eq!(
        text,
        format!("Instance '{instance}' is not 'running' or 'stopped'.")
    );
    setup.pass(Duration::from_secs(60));
    setup.ok("AttachNetworkInterface", &attach);
}

#[test]
fn an_eni_is_attached_only_within_its_vpc_and_to_a_card_that_is_there() {
    let mut setup = Setup::new();
    let instance = setup.instance.to_string();
    let vpc = setup.world.add_vpc("10.9.0.0/16".parse().unwrap()).unwrap();
    let far = setup
        .world
        .add_subnet(&vpc, "10.9.0.0/24".parse().unwrap(), "us-east-1a")
        .unwrap()
        .to_string();
    let far = setup.ok("CreateNetworkInterface", &[("SubnetId", &far)]);
    let far = first(&far, "networkInterfaceId");
    let near = setup.create(&[]);
    for (eni, card, code) in [
        (far.as_str(), "0", "InvalidParameterCombination"),
        (near.as_str(), "1", "InvalidParameterValue"),
    ] {
        let params = [
            ("NetworkInterfaceId", eni),
            ("InstanceId", &instance),
            ("DeviceIndex", "1"),
            ("NetworkCardIndex", card),
        ];
        let refused = setup.refused("AttachNetworkInterface", &params);
        assert_eq!(refused.0, code, "{}", refused.1);
    }
}

#[test]
fn each_network_card_has_its_own_places() {
    let mut setup = Setup::new();
    let spec = LaunchSpec::new("p4d.24xlarge", &setup.subnet);
    setup.instance = setup.world.launch_instance(setup.now, spec).unwrap();
    let instance = setup.instance.to_string();
    for card in ["0", "1", "2", "3"] {
        let eni = setup.create(&[]);
        let params = [
            ("NetworkInterfaceId", eni.as_str()),
            ("InstanceId", &instance),
            ("DeviceIndex", "1"),
            ("NetworkCardIndex", card),
        ];
        let body = setup.ok("AttachNetworkInterface", &params);
        assert_eq!(first(&body, "networkCardIndex"), card);
        assert_eq!(first(&setup.eni(&eni), "networkCardIndex"), card);
    }
}

#[test]
fn an_attachment_that_goes_is_asked_again_only_by_force() {
    let mut setup = Setup::new();
    let eni = setup.create(&[]);
    let attachment = setup.attach(&eni, "1");
    let id = ("AttachmentId", attachment.as_str());
    setup.ok("DetachNetworkInterface", &[id]);
    let (code, _) = setup.refused("DetachNetworkInterface", &[id]);
    assert_eq!(code, "IncorrectState");
    let (code, _) = setup.refused("DetachNetworkInterface", &[id, ("Force", "false")]);
    assert_eq!(code, "IncorrectState");
    setup.ok("DetachNetworkInterface", &[id, ("Force", "true")]);
    setup.pass(Duration::from_secs(5));
    assert_eq!(all(&setup.eni(&eni), "status"), ["available"]);
    let (code, _) = setup.refused("DetachNetworkInterface", &[id]);
    assert_eq!(code, "InvalidAttachmentID.NotFound");
    let (code, _) = setup.refused("DetachNetworkInterface", &[("AttachmentId", "eni-1")]);
    assert_eq!(code, "InvalidNetworkInterfaceAttachmentId.Malformed");
}

#[test]
fn another_account_may_be_let_use_an_eni() {
    let mut setup = Setup::new();
    let eni = setup.create(&[]);
    let id = ("NetworkInterfaceId", eni.as_str());
    let may = [
        id,
        ("AwsAccountId", "444455556666"),
        ("Permission", "INSTANCE-ATTACH"),
    ];
    let body = setup.ok("CreateNetworkInterfacePermission", &may);
    assert_eq!(first(&body, "state"), "granted");
    let permission = first(&body, "networkInterfacePermissionId");
    // Granting again is the same permission.
    let again = setup.ok("CreateNetworkInterfacePermission", &may);
    assert_eq!(first(&again, "networkInterfacePermissionId"), permission);
    for (name, value, count) in [
        (
            "network-interface-permission.network-interface-id",
            eni.as_str(),
            1,
        ),
        (
            "network-interface-permission.aws-account-id",
            "111122223333",
            0,
        ),
    ] {
        let filter = [("Filter.1.Name", name), ("Filter.1.Value.1", value)];
        let found = setup.ok("DescribeNetworkInterfacePermissions", &filter);
        assert_eq!(all(&found, "awsAccountId").len(), count, "{name}");
    }
    for (wrong, code) in [
        (("AwsAccountId", "nobody"), "InvalidParameterValue"),
        (("Permission", "EVERYTHING"), "InvalidParameterValue"),
        (("AwsService", "x"), "UnknownParameter"),
    ] {
        let mut params: Vec<_> = may
            .iter()
            .copied()
            .filter(|(name, _)| *name != wrong.0)
            .collect();
        params.push(wrong);
        let refused = setup.refused("CreateNetworkInterfacePermission", &params);
        assert_eq!(refused.0, code, "{wrong:?}");
    }
    let delete = [("NetworkInterfacePermissionId", permission.as_str())];
    setup.ok("DeleteNetworkInterfacePermission", &delete);
    setup.refused("DeleteNetworkInterfacePermission", &delete);
    // What is left goes with the ENI.
    setup.ok("CreateNetworkInterfacePermission", &may);
    setup.ok("DeleteNetworkInterface", &[id]);
    let left = setup.ok("DescribeNetworkInterfacePermissions", &[]);
    assert_eq!(all(&left, "awsAccountId").len(), 0);
}
