//! VPCs and their CIDRs.

use crate::networks::filter;
use crate::{Setup, all, first};

#[test]
fn a_vpc_begins_pending_with_its_cidr_in_canonical_form() {
    let mut setup = Setup::new();
    let tag = [
        ("CidrBlock", "10.237.19.7/20"),
        ("TagSpecification.1.ResourceType", "vpc"),
        ("TagSpecification.1.Tag.1.Key", "Name"),
        ("TagSpecification.1.Tag.1.Value", "own"),
    ];
    let made = setup.ok("CreateVpc", &tag);
    assert_eq!(all(&made, "cidrBlock"), ["10.237.16.0/20"; 2]);
    assert_eq!(all(&made, "state"), ["pending", "associated"]);
    assert_eq!(first(&made, "isDefault"), "false");
    let found = setup.ok("DescribeVpcs", &filter("tag:Name", "own"));
    assert_eq!(all(&found, "vpcId"), [first(&made, "vpcId")]);
    assert_eq!(all(&found, "state"), ["available", "associated"]);
    assert_eq!(first(&found, "instanceTenancy"), "default");
    assert!(first(&found, "dhcpOptionsId").starts_with("dopt-"));
    // It has one group, which lets in only itself.
    let vpc = first(&made, "vpcId");
    let groups = setup.ok("DescribeSecurityGroups", &filter("vpc-id", &vpc));
    assert_eq!(all(&groups, "groupName"), ["default"]);
    assert_eq!(
        first(&groups, "groupDescription"),
        "default VPC security group"
    );
}

#[test]
fn a_vpc_that_ec2_would_not_make_is_refused() {
    let mut setup = Setup::new();
    for (cidr, code, text) in [
        (
            "10.0.0.0/8",
            "InvalidVpc.Range",
            "The CIDR '10.0.0.0/8' is invalid.",
        ),
        (
            "10.0.0.0/29",
            "InvalidVpc.Range",
            "The CIDR '10.0.0.0/29' is invalid.",
        ),
        (
            "169.254.0.0/16",
            "InvalidVpc.Range",
            "The CIDR '169.254.0.0/16' is invalid.",
        ),
        (
            "ten",
            "InvalidParameterValue",
            "Value (ten) for parameter cidrBlock is invalid. This is not a valid CIDR block.",
        ),
    ] {
        let refused = setup.refused("CreateVpc", &[("CidrBlock", cidr)]);
        assert_eq!(refused, (code.to_owned(), text.to_owned()));
    }
    let params = [("CidrBlock", "10.3.0.0/16"), ("InstanceTenancy", "host")];
    assert_eq!(setup.refused("CreateVpc", &params).0, "UnsupportedTenancy");
    assert_eq!(setup.refused("CreateVpc", &[]).0, "MissingParameter");
    let tags = [
        ("CidrBlock", "10.3.0.0/16"),
        ("TagSpecification.1.ResourceType", "subnet"),
    ];
    assert_eq!(setup.refused("CreateVpc", &tags).0, "InvalidParameter");
    let count = all(&setup.ok("DescribeVpcs", &[]), "vpcId").len();
    assert_eq!(count, 1, "a refused call made a VPC");
}

#[test]
fn ids_of_cidrs_stay_when_others_go() {
    let mut setup = Setup::new();
    let vpc = setup.vpc();
    let mut ids = Vec::new();
    for cidr in ["100.64.0.0/16", "10.9.0.0/16"] {
        let made = setup.ok(
            "AssociateVpcCidrBlock",
            &[("VpcId", &vpc), ("CidrBlock", cidr)],
        );
        assert_eq!(first(&made, "state"), "associating");
        ids.push(first(&made, "associationId"));
    }
    let gone = setup.ok("DisassociateVpcCidrBlock", &[("AssociationId", &ids[0])]);
    assert_eq!(first(&gone, "state"), "disassociating");
    assert_eq!(first(&gone, "cidrBlock"), "100.64.0.0/16");
    let found = setup.ok(
        "DescribeVpcs",
        &filter("cidr-block-association.association-id", &ids[1]),
    );
    assert_eq!(all(&found, "associationId")[1], ids[1]);
    assert_eq!(
        all(&found, "cidrBlock"),
        ["10.0.0.0/16", "10.0.0.0/16", "10.9.0.0/16"]
    );
    let again = setup.refused("DisassociateVpcCidrBlock", &[("AssociationId", &ids[0])]);
    assert_eq!(again.0, "InvalidVpcCidrBlockAssociationID.NotFound");
}

#[test]
fn a_vpc_has_five_cidrs_and_none_that_may_not_stand_beside() {
    let mut setup = Setup::new();
    let vpc = setup.vpc();
    for (cidr, restricted) in [
        ("192.168.0.0/16", true),
        ("172.16.0.0/16", true),
        ("10.0.5.0/24", false),
        ("10.0.0.0/15", false),
        ("198.19.0.0/16", true),
    ] {
        let (code, text) = setup.refused(
            "AssociateVpcCidrBlock",
            &[("VpcId", &vpc), ("CidrBlock", cidr)],
        );
        assert_eq!(code, "InvalidVpc.Range", "{cidr}");
        assert_eq!(
            text.contains("is restricted. Use a CIDR from the same private"),
            restricted,
            "{text}"
        );
    }
    for cidr in [
        "10.1.0.0/16",
        "10.2.0.0/16",
        "100.64.0.0/16",
        "203.0.113.0/24",
    ] {
        setup.ok(
            "AssociateVpcCidrBlock",
            &[("VpcId", &vpc), ("CidrBlock", cidr)],
        );
    }
    let sixth = [("VpcId", vpc.as_str()), ("CidrBlock", "10.5.0.0/16")];
    let (code, text) = setup.refused("AssociateVpcCidrBlock", &sixth);
    assert_eq!(code, "CidrLimitExceeded");
    assert_eq!(
        text,
        format!("This network '{vpc}' has met its maximum number of allowed CIDRs: 5")
    );
}

#[test]
fn a_few_ranges_may_not_stand_beside_their_neighbours() {
    let mut setup = Setup::new();
    for (primary, cidr, allowed) in [
        ("10.1.0.0/16", "10.0.0.0/16", false),
        ("10.1.0.0/16", "10.2.0.0/16", true),
        ("10.2.0.0/16", "10.0.0.0/16", true),
        ("172.16.0.0/16", "172.31.0.0/16", false),
        ("172.16.0.0/16", "172.20.0.0/16", true),
        ("100.64.0.0/16", "10.9.0.0/16", false),
        ("198.19.0.0/24", "198.19.1.0/24", true),
    ] {
        let vpc = setup.new_vpc(primary);
        let params = [("VpcId", vpc.as_str()), ("CidrBlock", cidr)];
        let answer = setup.call("AssociateVpcCidrBlock", &params);
        assert_eq!(answer.error.is_none(), allowed, "{cidr} beside {primary}");
    }
}

#[test]
fn amazon_provides_ipv6() {
    let mut setup = Setup::new();
    let vpc = setup.vpc();
    let asked = [
        ("VpcId", vpc.as_str()),
        ("AmazonProvidedIpv6CidrBlock", "true"),
    ];
    let made = setup.ok("AssociateVpcCidrBlock", &asked);
    assert_eq!(first(&made, "state"), "associating");
    let found = setup.ok("DescribeVpcs", &[("VpcId.1", &vpc)]);
    let block = first(&found, "ipv6CidrBlock");
    assert!(
        block.ends_with("::/56") || block.ends_with("00::/56"),
        "{block}"
    );
    assert_eq!(first(&found, "networkBorderGroup"), "us-east-1");
    assert_eq!(first(&found, "ipv6Pool"), "Amazon");
    let new = [
        ("CidrBlock", "10.7.0.0/16"),
        ("AmazonProvidedIpv6CidrBlock", "true"),
    ];
    let other = setup.ok("CreateVpc", &new);
    assert_ne!(first(&other, "ipv6CidrBlock"), block);
    let both = [&asked[..], &[("CidrBlock", "10.9.0.0/16")]].concat();
    let code = setup.refused("AssociateVpcCidrBlock", &both).0;
    assert_eq!(code, "InvalidParameterCombination");
    let code = setup.refused("AssociateVpcCidrBlock", &asked[..1]).0;
    assert_eq!(code, "MissingParameter");
}

#[test]
fn a_cidr_that_is_used_or_the_first_stays() {
    let mut setup = Setup::new();
    let vpc = setup.vpc();
    let found = setup.ok("DescribeVpcs", &[("VpcId.1", &vpc)]);
    let primary = [("AssociationId", first(&found, "associationId"))];
    let primary = primary
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let code = setup.refused("DisassociateVpcCidrBlock", &primary).0;
    assert_eq!(code, "OperationNotPermitted");

    let second = [("VpcId", vpc.as_str()), ("CidrBlock", "100.64.0.0/16")];
    let id = first(&setup.ok("AssociateVpcCidrBlock", &second), "associationId");
    let subnet = setup.new_subnet(&vpc, "100.64.9.0/24");
    let (code, text) = setup.refused("DisassociateVpcCidrBlock", &[("AssociationId", &id)]);
    assert_eq!(code, "InvalidCidrBlock.InUse");
    assert_eq!(
        text,
        format!("The vpc {vpc} currently has a subnet within CIDR block 100.64.0.0/16")
    );
    setup.ok("DeleteSubnet", &[("SubnetId", &subnet)]);
    setup.ok("DisassociateVpcCidrBlock", &[("AssociationId", &id)]);
}

#[test]
fn a_vpc_goes_only_when_nothing_is_in_it() {
    let mut setup = Setup::new();
    let vpc = setup.new_vpc("10.4.0.0/16");
    let subnet = setup.new_subnet(&vpc, "10.4.0.0/24");
    let group = setup.new_group(&vpc, "own");
    let (code, text) = setup.refused("DeleteVpc", &[("VpcId", &vpc)]);
    assert_eq!(code, "DependencyViolation");
    assert_eq!(
        text,
        format!("The vpc '{vpc}' has dependencies and cannot be deleted.")
    );
    setup.ok("DeleteSubnet", &[("SubnetId", &subnet)]);
    assert_eq!(
        setup.refused("DeleteVpc", &[("VpcId", &vpc)]).0,
        "DependencyViolation"
    );
    setup.ok("DeleteSecurityGroup", &[("GroupId", &group)]);
    setup.ok("DeleteVpc", &[("VpcId", &vpc)]);
    let (code, text) = setup.refused("DescribeVpcs", &[("VpcId.1", &vpc)]);
    assert_eq!(code, "InvalidVpcID.NotFound");
    assert_eq!(text, format!("The vpc ID '{vpc}' does not exist"));
    let groups = setup.ok("DescribeSecurityGroups", &filter("vpc-id", &vpc));
    assert_eq!(all(&groups, "groupId"), [""; 0]);
}

#[test]
fn attributes_of_a_vpc_change_one_at_a_time() {
    let mut setup = Setup::new();
    let vpc = setup.vpc();
    for (attribute, parameter, before) in [
        ("enableDnsSupport", "EnableDnsSupport.Value", "true"),
        ("enableDnsHostnames", "EnableDnsHostnames.Value", "false"),
        (
            "enableNetworkAddressUsageMetrics",
            "EnableNetworkAddressUsageMetrics.Value",
            "false",
        ),
    ] {
        let asked = [("VpcId", vpc.as_str()), ("Attribute", attribute)];
        let found = setup.ok("DescribeVpcAttribute", &asked);
        assert!(found.contains(&format!(
            "<{attribute}><value>{before}</value></{attribute}>"
        )));
        let after = if before == "true" { "false" } else { "true" };
        setup.ok("ModifyVpcAttribute", &[("VpcId", &vpc), (parameter, after)]);
        assert_eq!(
            first(&setup.ok("DescribeVpcAttribute", &asked), "value"),
            after
        );
    }
    let both = [
        ("VpcId", vpc.as_str()),
        ("EnableDnsSupport.Value", "true"),
        ("EnableDnsHostnames.Value", "true"),
    ];
    for params in [&both[..], &both[..1]] {
        let code = setup.refused("ModifyVpcAttribute", params).0;
        assert_eq!(code, "InvalidParameterCombination");
    }
    let unknown = [("VpcId", vpc.as_str()), ("Attribute", "enableMagic")];
    assert_eq!(
        setup.refused("DescribeVpcAttribute", &unknown).0,
        "InvalidParameterValue"
    );
}

#[test]
fn the_main_route_table_and_the_default_acl_of_a_vpc_are_there() {
    let mut setup = Setup::new();
    let (vpc, subnet) = (setup.vpc(), setup.subnet.to_string());
    let tables = setup.ok("DescribeRouteTables", &filter("vpc-id", &vpc));
    assert_eq!(all(&tables, "main"), ["true"]);
    assert_eq!(all(&tables, "destinationCidrBlock"), ["10.0.0.0/16"]);
    assert_eq!(all(&tables, "gatewayId"), ["local"]);
    let table = all(&tables, "routeTableId").pop().unwrap();
    let found = setup.ok("DescribeRouteTables", &[("RouteTableId.1", &table)]);
    assert_eq!(first(&found, "vpcId"), vpc);
    let acls = setup.ok(
        "DescribeNetworkAcls",
        &filter("association.subnet-id", &subnet),
    );
    assert_eq!(first(&acls, "default"), "true");
    assert_eq!(all(&acls, "ruleNumber"), ["100", "32767", "100", "32767"]);
    let gateways = setup.ok(
        "DescribeInternetGateways",
        &filter("attachment.vpc-id", &vpc),
    );
    assert_eq!(all(&gateways, "internetGatewayId"), [""; 0]);
    for (action, name, id, code) in [
        (
            "DescribeRouteTables",
            "RouteTableId.1",
            "rtb-0123456789abcdef0",
            "InvalidRouteTableID.NotFound",
        ),
        (
            "DescribeNetworkAcls",
            "NetworkAclId.1",
            "acl-0123456789abcdef0",
            "InvalidNetworkAclID.NotFound",
        ),
        (
            "DescribeInternetGateways",
            "InternetGatewayId.1",
            "igw-0123456789abcdef0",
            "InvalidInternetGatewayID.NotFound",
        ),
    ] {
        assert_eq!(setup.refused(action, &[(name, id)]).0, code);
    }
}
