//! Subnets.

use crate::networks::filter;
use crate::{Setup, all, first};

#[test]
fn a_subnet_is_available_at_once_with_all_but_five_addresses() {
    let mut setup = Setup::new();
    let vpc = setup.vpc();
    for (cidr, canonical, free) in [
        ("10.0.16.7/24", "10.0.16.0/24", "251"),
        ("10.0.17.7/28", "10.0.17.0/28", "11"),
    ] {
        let made = setup.ok("CreateSubnet", &[("VpcId", &vpc), ("CidrBlock", cidr)]);
        assert_eq!(first(&made, "cidrBlock"), canonical);
        assert_eq!(first(&made, "availableIpAddressCount"), free);
        assert_eq!(first(&made, "state"), "available");
        // Without a zone it is always the same.
        assert_eq!(first(&made, "availabilityZone"), "us-east-1a");
    }
    let zones = setup.ok(
        "DescribeAvailabilityZones",
        &filter("zone-name", "us-east-1d"),
    );
    let zone = first(&zones, "zoneId");
    let asked = [
        ("VpcId", vpc.as_str()),
        ("CidrBlock", "10.0.18.0/24"),
        ("AvailabilityZoneId", &zone),
    ];
    let made = setup.ok("CreateSubnet", &asked);
    assert_eq!(first(&made, "availabilityZone"), "us-east-1d");
}

#[test]
fn a_subnet_that_ec2_would_not_make_is_refused() {
    let mut setup = Setup::new();
    let vpc = setup.vpc();
    for (cidr, code, text) in [
        (
            "10.9.0.0/24",
            "InvalidSubnet.Range",
            "The CIDR '10.9.0.0/24' is invalid.",
        ),
        (
            "10.0.9.0/29",
            "InvalidSubnet.Range",
            "The CIDR '10.0.9.0/29' is invalid.",
        ),
        (
            "10.0.0.64/26",
            "InvalidSubnet.Conflict",
            "The CIDR '10.0.0.64/26' conflicts with another subnet",
        ),
    ] {
        let refused = setup.refused("CreateSubnet", &[("VpcId", &vpc), ("CidrBlock", cidr)]);
        assert_eq!(refused, (code.to_owned(), text.to_owned()));
    }
    let asked = [
        ("VpcId", vpc.as_str()),
        ("CidrBlock", "10.0.9.0/24"),
        ("AvailabilityZone", "eu-west-1a"),
    ];
    let (code, text) = setup.refused("CreateSubnet", &asked);
    assert_eq!(code, "InvalidParameterValue");
    let expected = "Value (eu-west-1a) for parameter availabilityZone is invalid. Subnets can currently only be \
                    created in the following availability zones: us-east-1a, us-east-1b";
    assert!(text.starts_with(expected), "{text}");
    let both = [&asked[..], &[("AvailabilityZoneId", "use1-az1")]].concat();
    assert_eq!(
        setup.refused("CreateSubnet", &both).0,
        "InvalidParameterCombination"
    );
    let nowhere = [
        ("VpcId", "vpc-0123456789abcdef0"),
        ("CidrBlock", "10.0.9.0/24"),
    ];
    assert_eq!(
        setup.refused("CreateSubnet", &nowhere).0,
        "InvalidVpcID.NotFound"
    );
}

#[test]
fn subnets_stay_while_enis_are_in_them() {
    let mut setup = Setup::new();
    let vpc = setup.vpc();
    let subnet = setup.new_subnet(&vpc, "10.0.9.0/24");
    let made = setup.ok("CreateNetworkInterface", &[("SubnetId", &subnet)]);
    let eni = first(&made, "networkInterfaceId");
    let (code, text) = setup.refused("DeleteSubnet", &[("SubnetId", &subnet)]);
    assert_eq!(code, "DependencyViolation");
    assert_eq!(
        text,
        format!("The subnet '{subnet}' has dependencies and cannot be deleted.")
    );
    setup.ok("DeleteNetworkInterface", &[("NetworkInterfaceId", &eni)]);
    setup.ok("DeleteSubnet", &[("SubnetId", &subnet)]);
    let (code, text) = setup.refused("DescribeSubnets", &[("SubnetId.1", &subnet)]);
    assert_eq!(code, "InvalidSubnetID.NotFound");
    assert_eq!(text, format!("The subnet ID '{subnet}' does not exist"));
}

#[test]
fn one_missing_subnet_fails_the_whole_question() {
    let mut setup = Setup::new();
    let subnet = setup.subnet.to_string();
    let asked = [
        ("SubnetId.1", subnet.as_str()),
        ("SubnetId.2", "subnet-0123456789abcdef0"),
    ];
    assert_eq!(
        setup.refused("DescribeSubnets", &asked).0,
        "InvalidSubnetID.NotFound"
    );
    let twice = [
        ("SubnetId.1", subnet.as_str()),
        ("SubnetId.2", subnet.as_str()),
    ];
    assert_eq!(
        all(&setup.ok("DescribeSubnets", &twice), "subnetId"),
        [subnet.as_str()]
    );
}

#[test]
fn a_subnet_gets_ipv6_of_its_vpc_and_no_other() {
    let mut setup = Setup::new();
    let asked = [
        ("CidrBlock", "10.7.0.0/16"),
        ("AmazonProvidedIpv6CidrBlock", "true"),
    ];
    let made = setup.ok("CreateVpc", &asked);
    let (vpc, block) = (first(&made, "vpcId"), first(&made, "ipv6CidrBlock"));
    let part = block.replace("00::/56", "07::/64");
    let asked = [
        ("VpcId", vpc.as_str()),
        ("CidrBlock", "10.7.0.0/24"),
        ("Ipv6CidrBlock", &part),
    ];
    let made = setup.ok("CreateSubnet", &asked);
    assert_eq!(first(&made, "ipv6CidrBlock"), part);
    let (subnet, id) = (first(&made, "subnetId"), first(&made, "associationId"));
    let found = setup.ok(
        "DescribeSubnets",
        &filter("ipv6-cidr-block-association.ipv6-cidr-block", &part),
    );
    assert_eq!(all(&found, "associationId"), [id.as_str()]);
    assert_eq!(all(&found, "state"), ["available", "associated"]);

    let other = setup.new_subnet(&vpc, "10.7.1.0/24");
    for (cidr, code) in [
        (part.clone(), "InvalidSubnet.Conflict"),
        ("2001:db8:ffff:ffff::/64".to_owned(), "InvalidSubnet.Range"),
        (block.replace("::/56", "::/63"), "InvalidParameterValue"),
    ] {
        let asked = [("SubnetId", other.as_str()), ("Ipv6CidrBlock", &cidr)];
        assert_eq!(
            setup.refused("AssociateSubnetCidrBlock", &asked).0,
            code,
            "{cidr}"
        );
    }
    // The VPC keeps what its subnet uses.
    let of_vpc = setup.ok("DescribeVpcs", &[("VpcId.1", &vpc)]);
    let of_vpc = all(&of_vpc, "associationId").pop().unwrap();
    let code = setup
        .refused("DisassociateVpcCidrBlock", &[("AssociationId", &of_vpc)])
        .0;
    assert_eq!(code, "InvalidCidrBlock.InUse");

    let assign = [
        ("SubnetId", subnet.as_str()),
        ("AssignIpv6AddressOnCreation.Value", "true"),
    ];
    setup.ok("ModifySubnetAttribute", &assign);
    let (code, text) = setup.refused("DisassociateSubnetCidrBlock", &[("AssociationId", &id)]);
    assert_eq!(code, "InvalidCidrBlock.InUse");
    assert!(text.ends_with("because its subnet has assign-ipv6-address-on-creation set to true."));
    setup.ok(
        "ModifySubnetAttribute",
        &[assign[0], ("AssignIpv6AddressOnCreation.Value", "false")],
    );
    setup.ok("DisassociateSubnetCidrBlock", &[("AssociationId", &id)]);
    let code = setup
        .refused("DisassociateSubnetCidrBlock", &[("AssociationId", &id)])
        .0;
    assert_eq!(code, "InvalidSubnetCidrBlockAssociationID.NotFound");
    let again = [("SubnetId", other.as_str()), ("Ipv6CidrBlock", &part)];
    setup.ok("AssociateSubnetCidrBlock", &again);
    setup.refused("AssociateSubnetCidrBlock", &again);
}

#[test]
fn attributes_of_a_subnet_change_one_at_a_time() {
    let mut setup = Setup::new();
    let subnet = setup.subnet.to_string();
    for (parameter, shown) in [
        ("MapPublicIpOnLaunch.Value", "mapPublicIpOnLaunch"),
        ("EnableDns64.Value", "enableDns64"),
        (
            "EnableResourceNameDnsARecordOnLaunch.Value",
            "enableResourceNameDnsARecord",
        ),
        (
            "EnableResourceNameDnsAAAARecordOnLaunch.Value",
            "enableResourceNameDnsAAAARecord",
        ),
    ] {
        for value in ["true", "false"] {
            setup.ok(
                "ModifySubnetAttribute",
                &[("SubnetId", &subnet), (parameter, value)],
            );
            let found = setup.ok("DescribeSubnets", &[("SubnetId.1", &subnet)]);
            assert_eq!(first(&found, shown), value);
        }
    }
    let name = ("PrivateDnsHostnameTypeOnLaunch", "resource-name");
    setup.ok("ModifySubnetAttribute", &[("SubnetId", &subnet), name]);
    let found = setup.ok("DescribeSubnets", &[("SubnetId.1", &subnet)]);
    assert_eq!(first(&found, "hostnameType"), "resource-name");

    let ipv6 = [
        ("SubnetId", subnet.as_str()),
        ("AssignIpv6AddressOnCreation.Value", "true"),
    ];
    let (code, text) = setup.refused("ModifySubnetAttribute", &ipv6);
    assert_eq!(code, "InvalidParameterValue");
    assert!(
        text.contains(&format!(
            "unless the subnet ({subnet}) has an IPv6 CIDR block"
        )),
        "{text}"
    );
    let two = [
        ("SubnetId", subnet.as_str()),
        ("MapPublicIpOnLaunch.Value", "true"),
        ("EnableDns64.Value", "true"),
    ];
    for params in [&two[..], &two[..1]] {
        let code = setup.refused("ModifySubnetAttribute", params).0;
        assert_eq!(code, "InvalidParameterCombination");
    }
}

#[test]
fn filters_find_one_subnet_among_others() {
    let mut setup = Setup::new();
    let vpc = setup.vpc();
    let asked = [
        ("VpcId", vpc.as_str()),
        ("CidrBlock", "10.0.32.0/20"),
        ("AvailabilityZone", "us-east-1c"),
        ("TagSpecification.1.ResourceType", "subnet"),
        ("TagSpecification.1.Tag.1.Key", "kubernetes.io/role/cni"),
        ("TagSpecification.1.Tag.1.Value", "1"),
    ];
    let made = setup.ok("CreateSubnet", &asked);
    let subnet = first(&made, "subnetId");
    setup.ok(
        "ModifySubnetAttribute",
        &[("SubnetId", &subnet), ("MapPublicIpOnLaunch.Value", "true")],
    );
    let (arn, zone) = (
        first(&made, "subnetArn"),
        first(&made, "availabilityZoneId"),
    );
    for (name, value) in [
        ("subnet-id", subnet.as_str()),
        ("subnet-arn", &arn),
        ("availability-zone", "us-east-1c"),
        ("availabilityZoneId", &zone),
        ("cidr-block", "10.0.32.0/20"),
        ("available-ip-address-count", "4091"),
        ("map-public-ip-on-launch", "true"),
        ("tag:kubernetes.io/role/cni", "1"),
        ("tag-key", "kubernetes.io/role/*"),
    ] {
        let found = setup.ok("DescribeSubnets", &filter(name, value));
        assert_eq!(all(&found, "subnetId"), [subnet.as_str()], "{name}");
    }
    for (name, value) in [
        ("vpc-id", vpc.as_str()),
        ("state", "available"),
        ("default-for-az", "false"),
        ("ipv6-native", "false"),
        ("owner-id", "111122223333"),
        (
            "private-dns-name-options-on-launch.hostname-type",
            "ip-name",
        ),
    ] {
        let found = setup.ok("DescribeSubnets", &filter(name, value));
        assert_eq!(all(&found, "subnetId").len(), 3, "{name}");
    }
    assert_eq!(
        all(
            &setup.ok("DescribeSubnets", &filter("tag:x", "y")),
            "subnetId"
        ),
        [""; 0]
    );
}

#[test]
fn pages_have_every_subnet_once() {
    let mut setup = Setup::new();
    let vpc = setup.vpc();
    for n in 0..10 {
        setup.new_subnet(&vpc, &format!("10.0.{}.0/24", 20 + n));
    }
    let page = setup.ok("DescribeSubnets", &[("MaxResults", "7")]);
    let token = first(&page, "nextToken");
    let rest = setup.ok(
        "DescribeSubnets",
        &[("MaxResults", "7"), ("NextToken", &token)],
    );
    assert!(!rest.contains("nextToken"));
    let mut seen = [all(&page, "subnetId"), all(&rest, "subnetId")].concat();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 12);
    for (params, code) in [
        (vec![("MaxResults", "4")], "InvalidParameterValue"),
        (vec![("MaxResults", "1001")], "InvalidParameterValue"),
        (vec![("NextToken", "garbage")], "InvalidParameterValue"),
        (
            vec![("MaxResults", "5"), ("SubnetId.1", seen[0].as_str())],
            "InvalidParameterCombination",
        ),
    ] {
        assert_eq!(
            setup.refused("DescribeSubnets", &params).0,
            code,
            "{params:?}"
        );
    }
}
