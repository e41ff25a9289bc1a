//! Instances: how they are launched, shown, changed and terminated.

use std::time::Duration;

use aws_sim::{Response, World};

use crate::{Setup, all, first};

/// Amazon Linux 2023 for x86_64.
const IMAGE: &str = "ami-0c2b8ca1dad447f8a";

impl Setup {
    /// RunInstances with the usual image, one m5.large, and these.
    fn run(&mut self, params: &[(&str, &str)]) -> Response {
        // The bucket of RunInstances is small.
        self.pass(Duration::from_millis(500));
        let usual = [
            ("ImageId", IMAGE),
            ("InstanceType", "m5.large"),
            ("MinCount", "1"),
            ("MaxCount", "1"),
        ];
        let usual = usual
            .into_iter()
            .filter(|(name, _)| params.iter().all(|(other, _)| other != name));
        let params: Vec<_> = usual.chain(params.iter().copied()).collect();
        self.call("RunInstances", &params)
    }

    /// The reservation that it answers.
    #[track_caller]
    fn launched(&mut self, params: &[(&str, &str)]) -> String {
        let response = self.run(params);
        assert_eq!(response.error, None, "{params:?}: {}", response.body);
        response.body
    }

    /// The code and text that it is refused with; the world is as it was.
    #[track_caller]
    fn not_launched(&mut self, params: &[(&str, &str)]) -> (String, String) {
        let (instances, enis, free) = self.counts();
        let response = self.run(params);
        assert!(response.error.is_some(), "{params:?}: {}", response.body);
        assert_eq!(self.counts(), (instances, enis, free), "{params:?}");
        (
            first(&response.body, "Code"),
            first(&response.body, "Message").replace("&quot;", "\""),
        )
    }

    fn counts(&self) -> (usize, usize, usize) {
        let world: &World = &self.world;
        let free = world.subnet(&self.subnet).unwrap().pool.free();
        (world.instances().count(), world.enis().count(), free)
    }

    fn subnet(&self) -> String {
        self.subnet.to_string()
    }

    #[track_caller]
    fn show(&mut self, instance: &str) -> String {
        self.ok("DescribeInstances", &[("InstanceId.1", instance)])
    }
}

/// The name of an instance's state.
fn state(body: &str) -> String {
    let state = body.split("<instanceState>").nth(1).unwrap();
    first(state, "name")
}

#[test]
fn an_instance_is_pending_and_its_interface_attaching_and_then_both_are_there() {
    let mut setup = Setup::new();
    let subnet = setup.subnet();
    let free = setup.free();
    let body = setup.launched(&[("SubnetId", &subnet)]);
    let id = first(&body, "instanceId");
    assert!(first(&body, "reservationId").starts_with("r-"), "{body}");
    assert_eq!(first(&body, "imageId"), IMAGE);
    assert_eq!(state(&body), "pending");
    assert_eq!(setup.free(), free - 1);
    let eni = first(&body, "networkInterfaceId");

    let body = setup.show(&id);
    assert_eq!(state(&body), "pending");
    let eni_body = setup.eni(&eni);
    assert_eq!(all(&eni_body, "status"), ["in-use", "attaching"]);
    for (name, value) in [
        ("deviceIndex", "0"),
        ("networkCardIndex", "0"),
        ("deleteOnTermination", "true"),
        ("instanceId", &id),
        ("requesterManaged", "false"),
    ] {
        assert_eq!(first(&eni_body, name), value, "{name}");
    }
    setup.pass(Duration::from_secs(3));
    assert_eq!(state(&setup.show(&id)), "running");
    assert_eq!(all(&setup.eni(&eni), "status"), ["in-use", "attached"]);
}

#[test]
fn interfaces_hold_what_is_asked_for() {
    let mut setup = Setup::new();
    let subnet = setup.subnet();
    let nic = |rest: &[(&'static str, &'static str)]| -> Vec<(&'static str, String)> {
        let mut params = vec![
            ("NetworkInterface.1.DeviceIndex", "0".to_owned()),
            ("NetworkInterface.1.SubnetId", subnet.clone()),
        ];
        params.extend(
            rest.iter()
                .map(|(name, value)| (*name, (*value).to_owned())),
        );
        params
    };
    let launch = |setup: &mut Setup, params: Vec<(&'static str, String)>| {
        let params: Vec<_> = params.iter().map(|(n, v)| (*n, v.as_str())).collect();
        setup.launched(&params)
    };
    let body = launch(
        &mut setup,
        nic(&[("NetworkInterface.1.Ipv4PrefixCount", "2")]),
    );
    assert_eq!(all(&body, "ipv4Prefix").len(), 2, "{body}");
    let body = launch(
        &mut setup,
        nic(&[("NetworkInterface.1.SecondaryPrivateIpAddressCount", "3")]),
    );
    assert_eq!(crate::addresses(&body).len(), 4);
    let body = launch(
        &mut setup,
        nic(&[
            ("NetworkInterface.1.PrivateIpAddress", "10.0.0.77"),
            ("NetworkInterface.1.Description", "first"),
            ("NetworkInterface.1.DeleteOnTermination", "false"),
        ]),
    );
    assert_eq!(crate::addresses(&body), ["10.0.0.77"]);
    assert_eq!(first(&body, "description"), "first");
    assert_eq!(first(&body, "deleteOnTermination"), "false");
}

#[test]
fn termination_takes_what_goes_with_the_instance_and_frees_the_rest() {
    let mut setup = Setup::new();
    let subnet = setup.subnet();
    let free = setup.free();
    let kept = setup.create(&[]);
    setup.pass(Duration::from_secs(1));
    let body = setup.launched(&[
        ("NetworkInterface.1.DeviceIndex", "0"),
        ("NetworkInterface.1.SubnetId", &subnet),
        ("NetworkInterface.2.DeviceIndex", "1"),
        ("NetworkInterface.2.NetworkInterfaceId", &kept),
    ]);
    let id = first(&body, "instanceId");
    let enis = all(&body, "networkInterfaceId");
    assert_eq!(all(&body, "deleteOnTermination"), ["true", "false"]);
    assert_eq!(enis[1], kept);
    setup.pass(Duration::from_secs(5));

    let body = setup.ok("TerminateInstances", &[("InstanceId.1", &id)]);
    assert_eq!(all(&body, "name"), ["shutting-down", "running"]);
    assert_eq!(all(&setup.eni(&kept), "status"), ["in-use", "detaching"]);
    setup.pass(Duration::from_secs(2));
    let body = setup.show(&id);
    assert_eq!(state(&body), "terminated");
    assert!(!body.contains("<subnetId>"), "{body}");
    assert_eq!(all(&setup.eni(&kept), "status"), ["available"]);
    let gone = setup.refused(
        "DescribeNetworkInterfaces",
        &[("NetworkInterfaceId.1", &enis[0])],
    );
    assert_eq!(gone.0, "InvalidNetworkInterfaceID.NotFound");
    assert_eq!(setup.free(), free - 1);
    let body = setup.ok("TerminateInstances", &[("InstanceId.1", &id)]);
    assert_eq!(all(&body, "name"), ["terminated", "terminated"]);
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
