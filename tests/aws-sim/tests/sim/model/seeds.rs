//! For each action a request that succeeds: what the random requests begin with.

use std::collections::BTreeMap;

use aws_sim::subnet::Order;
use aws_sim::{Latencies, Throttling, World, WorldConfig};

use super::IMAGE;
use crate::{Setup, addresses, all, first};

/// An action and its parameters, in a world where they are valid. In braces is what the world has.
const SEEDS: &str = "
AssignIpv6Addresses NetworkInterfaceId={eni} Ipv6AddressCount=2
AssignIpv6Addresses NetworkInterfaceId={eni} Ipv6Prefix.1={net6}7::/80 Ipv6Prefix.2={net6}8::/80
AssignPrivateIpAddresses NetworkInterfaceId={eni} PrivateIpAddress.1=10.0.0.200 PrivateIpAddress.2={secondary} AllowReassignment=true
AssignPrivateIpAddresses NetworkInterfaceId={eni} Ipv4PrefixCount=2
AssociateSubnetCidrBlock SubnetId={bare} Ipv6CidrBlock={other6}
AssociateTrunkInterface TrunkInterfaceId={trunk} BranchInterfaceId={branch2} VlanId=9 ClientToken=t
AssociateVpcCidrBlock VpcId={vpc} CidrBlock=100.64.0.0/16
AttachNetworkInterface NetworkInterfaceId={eni} InstanceId={instance} DeviceIndex=2 NetworkCardIndex=0
AuthorizeSecurityGroupEgress GroupId={group} IpPermissions.1.IpProtocol=tcp IpPermissions.1.FromPort=1 IpPermissions.1.ToPort=2 IpPermissions.1.IpRanges.1.CidrIp=10.0.0.0/8
AuthorizeSecurityGroupIngress GroupId={group} IpPermissions.1.IpProtocol=udp IpPermissions.1.FromPort=53 IpPermissions.1.ToPort=53 IpPermissions.1.Ipv6Ranges.1.CidrIpv6=::/0 IpPermissions.2.IpProtocol=-1 IpPermissions.2.Groups.1.GroupId={group}
CreateNetworkInterface SubnetId={subnet} SecurityGroupId.1={group} PrivateIpAddresses.1.PrivateIpAddress=10.0.0.201 PrivateIpAddresses.1.Primary=true PrivateIpAddresses.2.PrivateIpAddress=10.0.0.202 Ipv6Addresses.1.Ipv6Address={net6}9::1 Description=of-pods ClientToken=c TagSpecification.1.ResourceType=network-interface TagSpecification.1.Tag.1.Key=a TagSpecification.1.Tag.1.Value=b
CreateNetworkInterface SubnetId={subnet} Ipv4Prefix.1.Ipv4Prefix=10.0.0.208/28 Ipv6PrefixCount=1 InterfaceType=interface
CreateNetworkInterfacePermission NetworkInterfaceId={eni} AwsAccountId=444455556666 Permission=INSTANCE-ATTACH
CreateSecurityGroup VpcId={vpc} GroupName=new GroupDescription=new
CreateSubnet VpcId={vpc} CidrBlock=10.0.9.0/24 AvailabilityZone=us-east-1a
CreateSubnetCidrReservation SubnetId={subnet} Cidr=10.0.0.128/28 ReservationType=prefix Description=d
CreateTags ResourceId.1={eni} ResourceId.2={vpc} Tag.1.Key=k Tag.1.Value=v
CreateVpc CidrBlock=10.9.0.0/16 AmazonProvidedIpv6CidrBlock=true
DeleteNetworkInterface NetworkInterfaceId={eni}
DeleteNetworkInterfacePermission NetworkInterfacePermissionId={permission} Force=true
DeleteSecurityGroup GroupId={group}
DeleteSubnet SubnetId={bare}
DeleteSubnetCidrReservation SubnetCidrReservationId={reservation}
DeleteTags ResourceId.1={eni} Tag.1.Key=k
DeleteVpc VpcId={empty}
DescribeAccountAttributes AttributeName.1=default-vpc
DescribeAvailabilityZones ZoneName.1=us-east-1a AllAvailabilityZones=true
DescribeInstanceAttribute InstanceId={instance} Attribute=groupSet
DescribeInstanceCreditSpecifications MaxResults=10
DescribeInstanceStatus InstanceId.1={instance} IncludeAllInstances=true
DescribeInstanceTypeOfferings LocationType=availability-zone Filter.1.Name=instance-type Filter.1.Value.1=m5.*
DescribeInstanceTypes InstanceType.1=m5.large
DescribeImages ImageId.1={image}
DescribeInstances Filter.1.Name=instance-state-name Filter.1.Value.1=running MaxResults=5
DescribeInternetGateways MaxResults=5
DescribeNetworkAcls MaxResults=5
DescribeNetworkInterfaceAttribute NetworkInterfaceId={eni} Attribute=description
DescribeNetworkInterfacePermissions NetworkInterfacePermissionId.1={permission}
DescribeNetworkInterfaces Filter.1.Name=subnet-id Filter.1.Value.1={subnet} MaxResults=5
DescribeNetworkInterfaces NetworkInterfaceId.1={eni} NetworkInterfaceId.2={attached}
DescribeRegions RegionName.1=us-east-1
DescribeRouteTables MaxResults=5
DescribeSecurityGroupRules Filter.1.Name=group-id Filter.1.Value.1={group}
DescribeSecurityGroups GroupId.1={group}
DescribeSubnets SubnetId.1={subnet}
DescribeTags Filter.1.Name=key Filter.1.Value.1=k*
DescribeTrunkInterfaceAssociations AssociationId.1={association}
DescribeVpcAttribute VpcId={vpc} Attribute=enableDnsSupport
DescribeVpcs Filter.1.Name=cidr Filter.1.Value.1=10.*
DetachNetworkInterface AttachmentId={attachment} Force=true
DisassociateSubnetCidrBlock AssociationId={subnet6}
DisassociateTrunkInterface AssociationId={association} ClientToken=u
DisassociateVpcCidrBlock AssociationId={second}
GetSubnetCidrReservations SubnetId={subnet}
ModifyInstanceAttribute InstanceId={burstable} GroupId.1={group}
ModifyInstanceMetadataOptions InstanceId={instance} HttpTokens=required HttpPutResponseHopLimit=2
ModifyNetworkInterfaceAttribute NetworkInterfaceId={attached} Attachment.AttachmentId={attachment} Attachment.DeleteOnTermination=true
ModifySecurityGroupRules GroupId={group} SecurityGroupRule.1.SecurityGroupRuleId={rule} SecurityGroupRule.1.SecurityGroupRule.IpProtocol=tcp SecurityGroupRule.1.SecurityGroupRule.FromPort=3 SecurityGroupRule.1.SecurityGroupRule.ToPort=4 SecurityGroupRule.1.SecurityGroupRule.CidrIpv4=10.0.0.0/8
ModifySubnetAttribute SubnetId={subnet} AssignIpv6AddressOnCreation.Value=true
ModifyVpcAttribute VpcId={vpc} EnableDnsHostnames.Value=true
RebootInstances InstanceId.1={instance}
ResetNetworkInterfaceAttribute NetworkInterfaceId={eni} SourceDestCheck=x
RevokeSecurityGroupEgress GroupId={group} SecurityGroupRuleId.1={rule}
RevokeSecurityGroupIngress GroupId={group} IpPermissions.1.IpProtocol=tcp IpPermissions.1.FromPort=22 IpPermissions.1.ToPort=22 IpPermissions.1.IpRanges.1.CidrIp=10.0.0.0/8
RunInstances ImageId={image} InstanceType=m5.large MinCount=1 MaxCount=1 ClientToken=r NetworkInterface.1.DeviceIndex=0 NetworkInterface.1.SubnetId={subnet} NetworkInterface.1.Ipv4PrefixCount=1 NetworkInterface.1.Ipv6AddressCount=2 NetworkInterface.2.DeviceIndex=1 NetworkInterface.2.NetworkInterfaceId={eni}
RunInstances ImageId={image} InstanceType=m5.large MinCount=2 MaxCount=3 SubnetId={subnet} SecurityGroupId.1={group} Ipv6AddressCount=1 TagSpecification.1.ResourceType=instance TagSpecification.1.Tag.1.Key=a TagSpecification.1.Tag.1.Value=b
StartInstances InstanceId.1={stopped}
StopInstances InstanceId.1={instance} Force=true
TerminateInstances InstanceId.1={instance} InstanceId.2={stopped}
UnassignIpv6Addresses NetworkInterfaceId={eni} Ipv6Addresses.1={address6}
UnassignPrivateIpAddresses NetworkInterfaceId={attached} PrivateIpAddress.1={secondary}
";

/// A world with something of everything, its clock, and the requests.
pub(super) struct Seeds {
    pub(super) setup: Setup,
    pub(super) requests: Vec<(String, Vec<(String, String)>)>,
}

pub(super) fn seeds() -> Seeds {
    let mut setup = Setup::with(WorldConfig {
        latencies: Latencies::NONE,
        throttling: Throttling::Off,
        order: Order::Lowest,
        log_capacity: 1,
        ..WorldConfig::default()
    });
    let names = furnish(&mut setup);
    let filled = |text: &str| {
        names.iter().fold(text.to_owned(), |text, (name, value)| {
            text.replace(&format!("{{{name}}}"), value)
        })
    };
    let requests = SEEDS.lines().filter(|line| !line.is_empty()).map(|line| {
        let mut words = line.split(' ');
        let action = words.next().unwrap().to_owned();
        let pairs = words.map(|pair| pair.split_once('=').unwrap());
        (
            action,
            pairs
                .map(|(name, value)| (name.to_owned(), filled(value)))
                .collect(),
        )
    });
    Seeds {
        requests: requests.collect(),
        setup,
    }
}

/// Puts something of everything into the world; their names.
fn furnish(setup: &mut Setup) -> BTreeMap<&'static str, String> {
    let (subnet, instance) = (setup.subnet.to_string(), setup.instance.to_string());
    let vpc = setup.world.subnet(&setup.subnet).unwrap().vpc.clone();
    setup.world.add_vpc_ipv6(&vpc).unwrap();
    let blocks = setup.world.vpc(&vpc).unwrap().ipv6_cidrs()[0]
        .subnets(64)
        .unwrap();
    let blocks: Vec<_> = blocks.take(3).collect();
    let first_of =
        |world: &mut World, id, cidr| world.add_subnet_ipv6(id, cidr).unwrap().to_string();
    first_of(&mut setup.world, &setup.subnet, blocks[0]);
    let subnet6 = first_of(&mut setup.world, &setup.other_zone, blocks[1]);
    let bare = setup
        .world
        .add_subnet(&vpc, "10.0.2.0/24".parse().unwrap(), "us-east-1a")
        .unwrap();
    let vpc = vpc.to_string();

    let mut made =
        |action: &str, params: &[(&str, &str)], name: &str| first(&setup.ok(action, params), name);
    let run = |kind| {
        [
            ("ImageId", IMAGE),
            ("InstanceType", kind),
            ("MinCount", "1"),
            ("MaxCount", "1"),
            ("SubnetId", subnet.as_str()),
        ]
    };
    let stopped = made("RunInstances", &run("m5.large"), "instanceId");
    made("StopInstances", &[("InstanceId.1", &stopped)], "instanceId");
    let burstable = made("RunInstances", &run("t3.medium"), "instanceId");
    let group = [
        ("VpcId", vpc.as_str()),
        ("GroupName", "pods"),
        ("GroupDescription", "pods"),
    ];
    let group = made("CreateSecurityGroup", &group, "groupId");
    let open = [
        ("GroupId", group.as_str()),
        ("IpProtocol", "tcp"),
        ("FromPort", "22"),
        ("ToPort", "22"),
        ("CidrIp", "10.0.0.0/8"),
    ];
    made("AuthorizeSecurityGroupIngress", &open, "return");
    let egress = [
        ("Filter.1.Name", "group-id"),
        ("Filter.1.Value.1", group.as_str()),
    ];
    let rules = setup.ok("DescribeSecurityGroupRules", &egress);
    let rule = rules
        .split("<item>")
        .find(|item| item.contains("<isEgress>true"))
        .map(|item| first(item, "securityGroupRuleId"));

    let eni = setup.create(&[("Ipv6AddressCount", "2"), ("Ipv4PrefixCount", "1")]);
    let attached = setup.create(&[("SecondaryPrivateIpAddressCount", "3")]);
    let attachment = setup.attach(&attached, "1");
    let (trunk, branch, branch2) = (
        setup.create(&[("InterfaceType", "trunk")]),
        setup.create(&[]),
        setup.create(&[]),
    );
    let (address6, secondary) = (
        all(&setup.eni(&eni), "ipv6Address").remove(0),
        addresses(&setup.eni(&attached)).remove(2),
    );
    let mut made =
        |action: &str, params: &[(&str, &str)], name: &str| first(&setup.ok(action, params), name);
    let hang = [
        ("TrunkInterfaceId", trunk.as_str()),
        ("BranchInterfaceId", &branch),
        ("VlanId", "7"),
    ];
    let allow = [
        ("NetworkInterfaceId", eni.as_str()),
        ("AwsAccountId", "777788889999"),
        ("Permission", "INSTANCE-ATTACH"),
    ];
    let reserve = [
        ("SubnetId", subnet.as_str()),
        ("Cidr", "10.0.0.224/28"),
        ("ReservationType", "explicit"),
    ];
    made(
        "CreateTags",
        &[
            ("ResourceId.1", &eni),
            ("Tag.1.Key", "k"),
            ("Tag.1.Value", "v"),
        ],
        "return",
    );
    let names = [
        (
            "association",
            made("AssociateTrunkInterface", &hang, "associationId"),
        ),
        (
            "permission",
            made(
                "CreateNetworkInterfacePermission",
                &allow,
                "networkInterfacePermissionId",
            ),
        ),
        (
            "reservation",
            made(
                "CreateSubnetCidrReservation",
                &reserve,
                "subnetCidrReservationId",
            ),
        ),
        (
            "second",
            made(
                "AssociateVpcCidrBlock",
                &[("VpcId", &vpc), ("CidrBlock", "10.1.0.0/16")],
                "associationId",
            ),
        ),
        (
            "empty",
            made("CreateVpc", &[("CidrBlock", "10.8.0.0/16")], "vpcId"),
        ),
        (
            "net6",
            blocks[0]
                .network()
                .to_string()
                .trim_end_matches(':')
                .to_owned()
                + ":",
        ),
        ("other6", blocks[2].to_string()),
        ("rule", rule.unwrap()),
        ("image", IMAGE.to_owned()),
        ("bare", bare.to_string()),
    ];
    let more = [
        ("subnet", subnet.clone()),
        ("instance", instance),
        ("vpc", vpc.clone()),
        ("subnet6", subnet6),
        ("stopped", stopped),
        ("burstable", burstable),
        ("group", group),
        ("eni", eni.clone()),
        ("attached", attached),
        ("attachment", attachment),
        ("trunk", trunk.clone()),
        ("branch2", branch2),
        ("address6", address6),
        ("secondary", secondary),
    ];
    setup.pass(std::time::Duration::from_secs(5));
    names.into_iter().chain(more).collect()
}
