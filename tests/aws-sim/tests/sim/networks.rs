//! VPCs, subnets, reservations, security groups, zones and tags, made and changed as callers do.

mod groups;
mod reservations;
mod rules;
mod subnets;
mod tags;
mod vpcs;

use aws_sim::{Throttling, WorldConfig};

use crate::{Setup, all, first};

/// The parameters of one filter.
fn filter<'a>(name: &'a str, value: &'a str) -> [(&'a str, &'a str); 2] {
    [("Filter.1.Name", name), ("Filter.1.Value.1", value)]
}

impl Setup {
    /// Where it may be asked more often than EC2 may.
    fn unthrottled() -> Setup {
        Setup::with(WorldConfig {
            throttling: Throttling::Off,
            ..WorldConfig::default()
        })
    }

    /// The id of the VPC that the setup begins with.
    fn vpc(&self) -> String {
        self.world.subnet(&self.subnet).unwrap().vpc.to_string()
    }

    fn new_vpc(&mut self, cidr: &str) -> String {
        first(&self.ok("CreateVpc", &[("CidrBlock", cidr)]), "vpcId")
    }

    fn new_subnet(&mut self, vpc: &str, cidr: &str) -> String {
        let made = self.ok("CreateSubnet", &[("VpcId", vpc), ("CidrBlock", cidr)]);
        first(&made, "subnetId")
    }

    fn new_group(&mut self, vpc: &str, name: &str) -> String {
        let params = [
            ("VpcId", vpc),
            ("GroupName", name),
            ("GroupDescription", "of a test"),
        ];
        first(&self.ok("CreateSecurityGroup", &params), "groupId")
    }

    /// As another account: its access key is its number.
    fn refused_to_others(&mut self, action: &str, params: &[(&str, &str)]) -> String {
        let mut request = aws_sim::Request::new(action, params.iter().copied());
        request.caller.access_key = Some("444455556666".to_owned());
        let response = aws_sim::call(&mut self.world, self.now, &request);
        response
            .error
            .unwrap_or_else(|| panic!("{action} was not refused: {}", response.body))
    }

    /// What another account sees of a list.
    fn seen_by_others(&mut self, action: &str, name: &str) -> Vec<String> {
        let mut request = aws_sim::Request::new(action, []);
        request.caller.access_key = Some("444455556666".to_owned());
        let response = aws_sim::call(&mut self.world, self.now, &request);
        assert_eq!(response.error, None, "{}", response.body);
        all(&response.body, name)
    }
}

#[test]
fn zones_have_all_that_ec2_tells_of_them() {
    let mut setup = Setup::new();
    let body = setup.ok("DescribeAvailabilityZones", &[]);
    let names = ["a", "b", "c", "d", "e", "f"].map(|zone| format!("us-east-1{zone}"));
    assert_eq!(all(&body, "zoneName"), names);
    for (name, value) in [
        ("zoneState", "available"),
        ("zoneType", "availability-zone"),
        ("regionName", "us-east-1"),
        ("groupName", "us-east-1-zg-1"),
        ("networkBorderGroup", "us-east-1"),
        ("optInStatus", "opt-in-not-required"),
    ] {
        assert_eq!(all(&body, name), [value; 6], "{name}");
    }
    let ids = all(&body, "zoneId");
    let found = setup.ok("DescribeAvailabilityZones", &filter("zone-id", &ids[2]));
    assert_eq!(all(&found, "zoneName"), ["us-east-1c"]);
    let found = setup.ok("DescribeAvailabilityZones", &[("ZoneName.1", "us-east-1b")]);
    assert_eq!(all(&found, "zoneId"), [ids[1].as_str()]);
    let (code, text) = setup.refused("DescribeAvailabilityZones", &[("ZoneName.1", "us-east-1z")]);
    assert_eq!(code, "InvalidParameterValue");
    assert_eq!(text, "Invalid availability zone: [us-east-1z]");
}

#[test]
fn the_account_and_its_regions_are_described() {
    let mut setup = Setup::new();
    let found = setup.ok("DescribeRegions", &filter("region-name", "eu-*-1"));
    assert_eq!(
        all(&found, "regionName"),
        ["eu-north-1", "eu-west-1", "eu-central-1"]
    );
    assert_eq!(
        all(&found, "regionEndpoint")[1],
        "ec2.eu-west-1.amazonaws.com"
    );
    let asked = [("AttributeName.1", "default-vpc")];
    let found = setup.ok("DescribeAccountAttributes", &asked);
    assert_eq!(all(&found, "attributeValue"), ["none"]);
    let code = setup
        .refused("DescribeAccountAttributes", &[("AttributeName.1", "x")])
        .0;
    assert_eq!(code, "InvalidParameterValue");
}

#[test]
fn nobody_sees_or_changes_what_another_account_has() {
    let mut setup = Setup::new();
    let (vpc, subnet) = (setup.vpc(), setup.subnet.to_string());
    let group = setup.new_group(&vpc, "own");
    for (action, name) in [
        ("DescribeVpcs", "vpcId"),
        ("DescribeSubnets", "subnetId"),
        ("DescribeSecurityGroups", "groupId"),
        ("DescribeSecurityGroupRules", "securityGroupRuleId"),
        ("DescribeRouteTables", "routeTableId"),
        ("DescribeNetworkAcls", "networkAclId"),
        ("DescribeTags", "key"),
    ] {
        assert_eq!(setup.seen_by_others(action, name), [""; 0], "{action}");
    }
    for (action, params, code) in [
        (
            "DeleteVpc",
            vec![("VpcId", vpc.as_str())],
            "InvalidVpcID.NotFound",
        ),
        (
            "DeleteSubnet",
            vec![("SubnetId", subnet.as_str())],
            "InvalidSubnetID.NotFound",
        ),
        (
            "DeleteSecurityGroup",
            vec![("GroupId", group.as_str())],
            "InvalidGroup.NotFound",
        ),
        (
            "DescribeVpcs",
            vec![("VpcId.1", vpc.as_str())],
            "InvalidVpcID.NotFound",
        ),
        (
            "CreateTags",
            vec![("ResourceId.1", vpc.as_str()), ("Tag.1.Key", "a")],
            "InvalidVpcID.NotFound",
        ),
        (
            "CreateSubnet",
            vec![("VpcId", vpc.as_str()), ("CidrBlock", "10.0.77.0/24")],
            "InvalidVpcID.NotFound",
        ),
    ] {
        assert_eq!(setup.refused_to_others(action, &params), code, "{action}");
    }
}
