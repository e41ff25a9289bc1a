//! The interfaces that RunInstances makes or takes.

use aws_sim::WorldConfig;
use aws_sim::subnet::Order;

use super::{Params, borrowed, nic};
use crate::{Setup, addresses, all, first};

#[test]
fn interfaces_hold_what_is_asked_for() {
    let mut setup = Setup::with(WorldConfig {
        order: Order::Lowest,
        ..WorldConfig::default()
    });
    let subnet = setup.subnet();
    let launch = |setup: &mut Setup, members: &[(&str, &str)]| {
        let params = nic(&subnet, members);
        setup.launched(&borrowed(&params))
    };
    let body = launch(&mut setup, &[("Ipv4PrefixCount", "2")]);
    assert_eq!(all(&body, "ipv4Prefix").len(), 2, "{body}");
    let body = launch(&mut setup, &[("Ipv4Prefix.1.Ipv4Prefix", "10.0.0.224/28")]);
    assert_eq!(all(&body, "ipv4Prefix"), ["10.0.0.224/28"]);
    let body = launch(&mut setup, &[("SecondaryPrivateIpAddressCount", "3")]);
    assert_eq!(addresses(&body).len(), 4);
    let body = launch(
        &mut setup,
        &[
            ("PrivateIpAddresses.1.PrivateIpAddress", "10.0.0.78"),
            ("PrivateIpAddresses.2.PrivateIpAddress", "10.0.0.77"),
            ("PrivateIpAddresses.2.Primary", "true"),
            ("Description", "first"),
            ("DeleteOnTermination", "false"),
        ],
    );
    assert_eq!(addresses(&body), ["10.0.0.77", "10.0.0.78"]);
    assert_eq!(first(&body, "description"), "first");
    assert_eq!(first(&body, "deleteOnTermination"), "false");
    let body = launch(&mut setup, &[("AssociatePublicIpAddress", "true")]);
    assert!(
        first(&body, "ipAddress").starts_with("203.0.113."),
        "{body}"
    );
    let body = setup.launched(&[("SubnetId", &subnet), ("PrivateIpAddress", "10.0.0.79")]);
    assert_eq!(addresses(&body), ["10.0.0.79"]);
}

#[test]
fn ipv6_comes_with_an_instance_that_asks_for_it() {
    let mut setup = Setup::new();
    let vpc = setup.world.subnet(&setup.subnet).unwrap().vpc.clone();
    setup.world.add_vpc_ipv6(&vpc).unwrap();
    let block = setup.world.vpc(&vpc).unwrap().ipv6_cidrs()[0];
    let cidr = format!("{}/64", block.network()).parse().unwrap();
    let id = setup.subnet.clone();
    setup.world.add_subnet_ipv6(&id, cidr).unwrap();
    let subnet = setup.subnet();
    let body = setup.launched(&[("SubnetId", &subnet), ("Ipv6AddressCount", "2")]);
    let instance = first(&body, "instanceId");
    let eni = first(&body, "networkInterfaceId");
    let held = setup.world.eni(&eni.as_str().into()).unwrap().ipv6.clone();
    assert_eq!(held.len(), 2);
    let by_ipv6 = [
        ("Filter.1.Name", "ipv6-address"),
        ("Filter.1.Value.1", &held[1].to_string()),
    ];
    assert_eq!(
        all(&setup.ok("DescribeInstances", &by_ipv6), "instanceId"),
        [instance]
    );
    let params = nic(&subnet, &[("Ipv6PrefixCount", "1")]);
    let body = setup.launched(&borrowed(&params));
    let eni = first(&body, "networkInterfaceId");
    assert_eq!(
        setup
            .world
            .eni(&eni.as_str().into())
            .unwrap()
            .ipv6_prefixes
            .len(),
        1
    );
}

#[test]
fn interfaces_that_do_not_go_together_or_on_the_type_are_refused() {
    let mut setup = Setup::new();
    let (subnet, other) = (setup.subnet(), setup.other_zone.to_string());
    let free = setup.create(&[]);
    let used = setup
        .world
        .primary_eni(&setup.instance)
        .unwrap()
        .id
        .to_string();
    let group = {
        let other = setup.world.add_vpc("10.1.0.0/16".parse().unwrap()).unwrap();
        setup.world.vpc(&other).unwrap().default_group.to_string()
    };
    let combination = "InvalidParameterCombination";
    let value = "InvalidParameterValue";
    let cases: Vec<(Params<'_>, &str, String)> =
        vec![
        (
            [nic(&subnet, &[]), vec![("SubnetId".to_owned(), subnet.as_str())]].concat(),
            combination,
            "Network interfaces and an instance-level subnet ID may not be specified on the same \
             request"
                .to_owned(),
        ),
        (
            [nic(&subnet, &[]), vec![("SecurityGroupId.1".to_owned(), group.as_str())]].concat(),
            combination,
            "Network interfaces and an instance-level security groups may not be specified on the \
             same request"
                .to_owned(),
        ),
        (
            nic(&subnet, &[("DeviceIndex", "1")]),
            "UnsupportedOperation",
            "When specifying network interfaces, you must include a device at index 0.".to_owned(),
        ),
        (
            [nic(&subnet, &[]), second(&subnet, "0")].concat(),
            value,
            "Each network interface requires a unique device index.".to_owned(),
        ),
        (
            [
                nic(&subnet, &[("AssociatePublicIpAddress", "true")]),
                second(&subnet, "1"),
            ]
            .concat(),
            combination,
            "The associatePublicIPAddress parameter cannot be specified when launching with \
             multiple network interfaces."
                .to_owned(),
        ),
        (
            [nic(&subnet, &[]), second(&other, "1")].concat(),
            combination,
            "You may not attach a network interface to an instance if they are not in the same \
             availability zone"
                .to_owned(),
        ),
        (
            nic(&subnet, &[("SecurityGroupId.1", &group)]),
            "InvalidParameter",
            format!("Security group {group} and subnet {subnet} belong to different networks."),
        ),
        (
            vec![
                ("NetworkInterface.1.DeviceIndex".to_owned(), "0"),
                ("NetworkInterface.1.NetworkInterfaceId".to_owned(), used.as_str()),
            ],
            "InvalidNetworkInterface.InUse",
            format!("Interface: [{used}] in use."),
        ),
        (
            nic(&subnet, &[("NetworkInterfaceId", &free)]),
            combination,
            "A network interface may not specify both a network interface ID and a subnet"
                .to_owned(),
        ),
        (
            vec![
                ("NetworkInterface.1.DeviceIndex".to_owned(), "0"),
                ("NetworkInterface.1.NetworkInterfaceId".to_owned(), free.as_str()),
                ("MaxCount".to_owned(), "2"),
            ],
            combination,
            "Multiple instances creation is not compatible with private IP address or network \
             interface ID parameters."
                .to_owned(),
        ),
        (
            nic(&subnet, &[("SecondaryPrivateIpAddressCount", "10")]),
            "PrivateIpAddressLimitExceeded",
            "Number of private addresses will exceed limit.".to_owned(),
        ),
        (
            nic(&subnet, &[("Ipv4PrefixCount", "1"), ("SecondaryPrivateIpAddressCount", "1")]),
            combination,
            "You may specify one and only one of privateIpAddressSet or \
             secondaryPrivateIpAddressCount or ipv4Prefixes or ipv4PrefixCount, but not more than \
             one of them."
                .to_owned(),
        ),
        (
            nic(&subnet, &[("InterfaceType", "efa")]),
            combination,
            "m5.large instances do not support Elastic Fabric Adapters.".to_owned(),
        ),
        (
            nic(
                &subnet,
                &[("ConnectionTrackingSpecification.UdpTimeout", "29")],
            ),
            value,
            "Value (29) for parameter udpTimeout is invalid. Expecting a value from 30 to 60."
                .to_owned(),
        ),
        (
            nic(&subnet, &[("PrivateIpAddress", "10.0.0.256")]),
            value,
            "invalid value for parameter address: 10.0.0.256".to_owned(),
        ),
        (
            vec![
                ("NetworkInterface.1.DeviceIndex".to_owned(), "0"),
                (
                    "NetworkInterface.1.NetworkInterfaceId".to_owned(),
                    free.as_str(),
                ),
                ("NetworkInterface.1.PrimaryIpv6".to_owned(), "true"),
            ],
            combination,
            "A network interface may not specify both a network interface ID and a primary IPv6 \
             address"
                .to_owned(),
        ),
        (
            nic(&subnet, &[("InterfaceType", "bogus")]),
            value,
            "invalid value for parameter interface-type: bogus".to_owned(),
        ),
    ];
    for (params, code, text) in cases {
        let refusal = setup.not_launched(&borrowed(&params));
        assert_eq!(refusal, (code.to_owned(), text), "{params:?}");
    }
    let (code, text) = setup.not_launched(&borrowed(
        &[
            nic(&subnet, &[]),
            second(&subnet, "1"),
            vec![
                ("NetworkInterface.3.DeviceIndex".to_owned(), "2"),
                ("NetworkInterface.3.SubnetId".to_owned(), subnet.as_str()),
                ("NetworkInterface.4.DeviceIndex".to_owned(), "3"),
                ("NetworkInterface.4.SubnetId".to_owned(), subnet.as_str()),
            ],
        ]
        .concat(),
    ));
    assert_eq!(code, "AttachmentLimitExceeded");
    assert_eq!(text, "Interface count 4 exceeds the limit for m5.large");
    // A t2 is not built on Nitro.
    let mut params = nic(&subnet, &[("Ipv4PrefixCount", "1")]);
    params.push(("InstanceType".to_owned(), "t2.micro"));
    assert_eq!(setup.not_launched(&borrowed(&params)).0, value);
    // Neither is a subnet that is not in a default VPC chosen for anyone.
    assert_eq!(setup.not_launched(&[]).0, "VPCIdNotSpecified");
    let there = [
        ("SubnetId", subnet.as_str()),
        ("Placement.AvailabilityZone", "us-east-1b"),
    ];
    assert_eq!(
        setup.not_launched(&there).1,
        format!(
            "Value (us-east-1b) for parameter availabilityZone is invalid. Subnet '{subnet}' is in \
             the availability zone us-east-1a"
        )
    );
}

#[test]
fn each_card_has_its_own_indexes_and_takes_one_adapter() {
    let mut setup = Setup::new();
    let subnet = setup.subnet();
    let with = |second: &[(&'static str, &'static str)]| {
        let mut params = nic(&subnet, &[("InterfaceType", "efa")]);
        params.push(("InstanceType".to_owned(), "p4d.24xlarge"));
        params.push(("NetworkInterface.2.SubnetId".to_owned(), &subnet));
        let second = second.iter();
        params.extend(second.map(|(name, value)| (format!("NetworkInterface.2.{name}"), *value)));
        params
    };
    let params = with(&[
        ("DeviceIndex", "0"),
        ("NetworkCardIndex", "1"),
        ("InterfaceType", "efa-only"),
    ]);
    let body = setup.launched(&borrowed(&params));
    assert_eq!(all(&body, "networkCardIndex"), ["0", "1"]);
    assert_eq!(all(&body, "interfaceType"), ["efa", "efa-only"]);

    let params = with(&[
        ("DeviceIndex", "1"),
        ("NetworkCardIndex", "0"),
        ("InterfaceType", "efa"),
    ]);
    assert_eq!(
        setup.not_launched(&borrowed(&params)).0,
        "InvalidParameterCombination"
    );
    let params = with(&[("DeviceIndex", "1"), ("NetworkCardIndex", "4")]);
    assert_eq!(
        setup.not_launched(&borrowed(&params)).0,
        "InvalidParameterValue"
    );
}

/// `NetworkInterface.2` in this subnet, at this index.
fn second<'a>(subnet: &'a str, index: &'a str) -> Vec<(String, &'a str)> {
    vec![
        ("NetworkInterface.2.DeviceIndex".to_owned(), index),
        ("NetworkInterface.2.SubnetId".to_owned(), subnet),
    ]
}
