//! RunInstances: what is asked for besides interfaces.

use crate::{Setup, all, first};

#[test]
fn as_many_instances_are_launched_as_fit_but_never_fewer_than_the_least() {
    let mut setup = Setup::new();
    let vpc = setup.world.subnet(&setup.subnet).unwrap().vpc.clone();
    let cidr = "10.0.2.0/28".parse().unwrap();
    let small = setup.world.add_subnet(&vpc, cidr, "us-east-1a").unwrap();
    setup.subnet = small;
    let subnet = setup.subnet();
    let many = |least| {
        [
            ("SubnetId", subnet.as_str()),
            ("MinCount", least),
            ("MaxCount", "20"),
        ]
    };
    let (code, _) = setup.not_launched(&many("12"));
    assert_eq!(code, "InsufficientFreeAddressesInSubnet");
    let body = setup.launched(&many("2"));
    assert_eq!(all(&body, "instanceId").len(), 11);
    let indexes: Vec<String> = (0..11).map(|index| index.to_string()).collect();
    assert_eq!(all(&body, "amiLaunchIndex"), indexes);
    assert_eq!(setup.free(), 0);

    // All are of one reservation, also later; the instance of the library has its own.
    let reservation = first(&body, "reservationId");
    assert_eq!(
        all(&setup.ok("DescribeInstances", &[]), "reservationId").len(),
        2
    );
    let of_it = [
        ("Filter.1.Name", "reservation-id"),
        ("Filter.1.Value.1", reservation.as_str()),
    ];
    let body = setup.ok("DescribeInstances", &of_it);
    assert_eq!(all(&body, "reservationId"), [reservation.as_str()]);
    assert_eq!(all(&body, "instanceId").len(), 11);
}

#[test]
fn a_launch_with_a_client_token_is_done_once() {
    let mut setup = Setup::new();
    let subnet = setup.subnet();
    let params = [("SubnetId", subnet.as_str()), ("ClientToken", "once")];
    let body = setup.launched(&params);
    let id = first(&body, "instanceId");
    assert_eq!(first(&body, "clientToken"), "once");
    assert_eq!(first(&setup.launched(&params), "instanceId"), id);
    let other = [("KeyName", "other"), params[0], params[1]];
    assert_eq!(setup.not_launched(&other).0, "IdempotentParameterMismatch");
    setup.ok("TerminateInstances", &[("InstanceId.1", &id)]);
    assert_eq!(
        setup.not_launched(&params).0,
        "IdempotentInstanceTerminated"
    );
    let dry = [("SubnetId", subnet.as_str()), ("DryRun", "true")];
    assert_eq!(setup.not_launched(&dry).0, "DryRunOperation");
}

#[test]
fn what_comes_with_a_launch_is_remembered() {
    let mut setup = Setup::new();
    let subnet = setup.subnet();
    let body = setup.launched(&[
        ("SubnetId", &subnet),
        ("TagSpecification.1.ResourceType", "instance"),
        ("TagSpecification.1.Tag.1.Key", "Name"),
        ("TagSpecification.1.Tag.1.Value", "node"),
        ("TagSpecification.2.ResourceType", "network-interface"),
        ("TagSpecification.2.Tag.1.Key", "of"),
        ("TagSpecification.2.Tag.1.Value", "eni"),
        ("TagSpecification.3.ResourceType", "volume"),
        ("TagSpecification.3.Tag.1.Key", "of"),
        ("TagSpecification.3.Tag.1.Value", "volume"),
        (
            "IamInstanceProfile.Arn",
            "arn:aws:iam::111122223333:instance-profile/path/nodes",
        ),
        ("MetadataOptions.HttpTokens", "optional"),
        ("MetadataOptions.HttpPutResponseHopLimit", "1"),
        ("KeyName", "mine"),
        ("UserData", "IyEvYmluL3NoCg=="),
        ("EbsOptimized", "true"),
        ("Monitoring.Enabled", "true"),
        ("BlockDeviceMapping.1.DeviceName", "/dev/xvda"),
        ("BlockDeviceMapping.1.Ebs.VolumeSize", "20"),
        ("Placement.Tenancy", "default"),
        ("CreditSpecification.CpuCredits", "standard"),
    ]);
    for (name, value) in [
        ("keyName", "mine"),
        ("httpTokens", "optional"),
        ("httpPutResponseHopLimit", "1"),
        ("ebsOptimized", "true"),
        ("arn", "arn:aws:iam::111122223333:instance-profile/nodes"),
    ] {
        assert_eq!(first(&body, name), value);
    }
    let id = first(&body, "instanceId");
    let eni = first(&body, "networkInterfaceId");
    assert_eq!(all(&body, "value"), ["node"]);
    assert_eq!(all(&setup.eni(&eni), "value"), ["eni"]);
    assert_eq!(
        setup
            .world
            .instance(&id.as_str().into())
            .unwrap()
            .role
            .as_deref(),
        Some("nodes")
    );
    let attribute = [("InstanceId", id.as_str()), ("Attribute", "userData")];
    let body = setup.ok("DescribeInstanceAttribute", &attribute);
    assert_eq!(first(&body, "value"), "IyEvYmluL3NoCg==");

    // Nothing is dropped in silence.
    let params = [("SubnetId", subnet.as_str()), ("Wishes", "many")];
    assert_eq!(setup.not_launched(&params).0, "UnknownParameter");
    let template = [
        ("SubnetId", subnet.as_str()),
        ("LaunchTemplate.LaunchTemplateName", "x"),
    ];
    assert_eq!(setup.not_launched(&template).0, "UnknownParameter");
    let data = [("SubnetId", subnet.as_str()), ("UserData", "#!/bin/sh")];
    assert_eq!(setup.not_launched(&data).0, "InvalidUserData.Malformed");
    let tag = [
        ("SubnetId", subnet.as_str()),
        ("TagSpecification.1.ResourceType", "subnet"),
        ("TagSpecification.1.Tag.1.Key", "k"),
    ];
    assert_eq!(
        setup.not_launched(&tag).1,
        "'subnet' is not a valid taggable resource type for this operation."
    );
}

#[test]
fn images_and_types_that_do_not_exist_are_refused() {
    let mut setup = Setup::new();
    let subnet = setup.subnet();
    for (name, value, code, text) in [
        (
            "ImageId",
            "ami-0123456789abcdef0",
            "InvalidAMIID.NotFound",
            "The image id '[ami-0123456789abcdef0]' does not exist",
        ),
        (
            "ImageId",
            "linux",
            "InvalidAMIID.Malformed",
            "Invalid id: \"linux\" (expecting \"ami-...\")",
        ),
        (
            "InstanceType",
            "zz9.huge",
            "InvalidParameterValue",
            "Invalid value 'zz9.huge' for InstanceType.",
        ),
        (
            "InstanceType",
            "m8g.large",
            "InvalidParameterValue",
            "The architecture 'arm64' of the specified instance type does not match the \
             architecture 'x86_64' of the specified AMI. Specify an instance type and an AMI that \
             have matching architectures, and try again. You can use 'describe-instance-types' or \
             'describe-images' to discover the architecture of the instance type or AMI.",
        ),
        (
            "SubnetId",
            "subnet-0123456789abcdef0",
            "InvalidSubnetID.NotFound",
            "The subnet ID 'subnet-0123456789abcdef0' does not exist",
        ),
        (
            "SecurityGroupId.1",
            "sg-0123456789abcdef0",
            "InvalidGroup.NotFound",
            "The security group 'sg-0123456789abcdef0' does not exist",
        ),
        (
            "MinCount",
            "0",
            "InvalidParameterValue",
            "Minimum instance count must be greater than zero",
        ),
        (
            "MinCount",
            "2",
            "InvalidParameterValue",
            "Maximum instance count must not be smaller than minimum instance count",
        ),
    ] {
        let mut params = vec![(name, value)];
        if name != "SubnetId" {
            params.push(("SubnetId", &subnet));
        }
        assert_eq!(
            setup.not_launched(&params),
            (code.to_owned(), text.to_owned())
        );
    }
}

#[test]
fn one_launch_can_not_pass_the_quota_of_interfaces() {
    let mut setup = Setup::new();
    let subnet = setup.subnet();
    let has = setup.counts().1;
    setup.world.config.eni_quota = has + 3;
    let many = |least| {
        [
            ("SubnetId", subnet.as_str()),
            ("MinCount", least),
            ("MaxCount", "5"),
        ]
    };
    let (code, _) = setup.not_launched(&many("4"));
    assert_eq!(code, "NetworkInterfaceLimitExceeded");
    // As many as there is room for.
    let body = setup.launched(&many("2"));
    assert_eq!(crate::all(&body, "instanceId").len(), 3, "{body}");
    assert_eq!(setup.counts().1, has + 3);
    let (code, _) = setup.not_launched(&[("SubnetId", &subnet)]);
    assert_eq!(code, "NetworkInterfaceLimitExceeded");
}
