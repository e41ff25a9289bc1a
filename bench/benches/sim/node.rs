//! What a node of a cluster asks of EC2, over and over.

use aws_sim::{
    InstanceId, LaunchSpec, Request, Response, SimTime, SubnetId, Throttling, World, WorldConfig,
    call,
};

/// A world with this many instances of 15 ENIs and 50 slots each, and no throttling: the bench is to find the
/// simulator's limits, not EC2's.
pub(crate) fn world(instances: usize) -> (World, SubnetId, Vec<InstanceId>) {
    let mut world = World::new(WorldConfig {
        throttling: Throttling::Off,
        ..WorldConfig::default()
    });
    let vpc = world
        .add_vpc("10.0.0.0/16".parse().expect("a CIDR"))
        .expect("a VPC");
    let subnets: Vec<_> = (0..16)
        .map(|nth| {
            let cidr = format!("10.0.{}.0/20", nth * 16);
            world
                .add_subnet(&vpc, cidr.parse().expect("a CIDR"), "us-east-1a")
                .expect("a subnet")
        })
        .collect();
    let ids = (0..instances)
        .zip(subnets.iter().cycle())
        .map(|(_, subnet)| {
            world
                .launch_instance(SimTime::ZERO, LaunchSpec::new("c5n.18xlarge", subnet))
                .expect("an instance")
        })
        .collect();
    (world, subnets[0].clone(), ids)
}

/// The life of an ENI on one node, a call at a time: 12 calls a round.
pub(crate) struct Round<'w> {
    world: &'w mut World,
    now: SimTime,
    pub(crate) calls: u64,
}

impl<'w> Round<'w> {
    pub(crate) fn new(world: &'w mut World, now: SimTime) -> Round<'w> {
        Round {
            world,
            now,
            calls: 0,
        }
    }

    /// Create, attach, find, fill, look, empty, detach, delete.
    pub(crate) fn run(mut self, subnet: &SubnetId, instance: &InstanceId) -> (SimTime, u64) {
        let instance = instance.as_str();
        let created = self.call(
            "CreateNetworkInterface",
            &[
                ("SubnetId", subnet.as_str()),
                ("Description", "a second ENI"),
                ("SecondaryPrivateIpAddressCount", "5"),
                ("TagSpecification.1.ResourceType", "network-interface"),
                (
                    "TagSpecification.1.Tag.1.Key",
                    "node.k8s.amazonaws.com/instance_id",
                ),
                ("TagSpecification.1.Tag.1.Value", instance),
            ],
        );
        let eni = element(&created, "networkInterfaceId").to_owned();
        self.wait(1_000);
        let attached = self.call(
            "AttachNetworkInterface",
            &[
                ("NetworkInterfaceId", &eni),
                ("InstanceId", instance),
                ("DeviceIndex", "1"),
            ],
        );
        let attachment = element(&attached, "attachmentId").to_owned();
        self.wait(2_000);
        self.call(
            "ModifyNetworkInterfaceAttribute",
            &[
                ("NetworkInterfaceId", &eni),
                ("Attachment.AttachmentId", &attachment),
                ("Attachment.DeleteOnTermination", "true"),
            ],
        );
        for _ in 0..3 {
            let assigned = self.call(
                "AssignPrivateIpAddresses",
                &[
                    ("NetworkInterfaceId", &eni),
                    ("SecondaryPrivateIpAddressCount", "1"),
                ],
            );
            let address = element(&assigned, "privateIpAddress").to_owned();
            self.call(
                "DescribeNetworkInterfaces",
                &[("NetworkInterfaceId.1", &eni)],
            );
            self.call(
                "UnassignPrivateIpAddresses",
                &[
                    ("NetworkInterfaceId", &eni),
                    ("PrivateIpAddress.1", &address),
                ],
            );
        }
        self.call(
            "DescribeNetworkInterfaces",
            &[
                ("Filter.1.Name", "attachment.instance-id"),
                ("Filter.1.Value.1", instance),
            ],
        );
        self.call("DetachNetworkInterface", &[("AttachmentId", &attachment)]);
        self.wait(3_000);
        self.call("DeleteNetworkInterface", &[("NetworkInterfaceId", &eni)]);
        (self.now, self.calls)
    }

    fn wait(&mut self, millis: u64) {
        self.now = SimTime::from_millis(self.now.as_millis() + millis);
    }

    fn call(&mut self, action: &str, params: &[(&str, &str)]) -> Response {
        self.calls += 1;
        let request = Request::new(action, params.iter().copied());
        let response = call(self.world, self.now, &request);
        assert_eq!(response.error, None, "{}", response.body);
        response
    }
}

/// The text of the first element of this name.
fn element<'r>(response: &'r Response, name: &str) -> &'r str {
    let (_, rest) = response
        .body
        .split_once(&format!("<{name}>"))
        .expect("the element");
    rest.split('<').next().expect("its text")
}
