//! The life of an ENI.

use std::time::Duration;

use aws_sim::WorldConfig;

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
