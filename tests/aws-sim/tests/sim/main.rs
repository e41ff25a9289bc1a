//! The simulator through its front doors: requests to the pure core, and HTTP over real sockets.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that finds something else than it expects panics"
)]

mod addresses;
mod attachments;
mod attributes;
mod describe;
mod events;
mod faults;
mod imds;
mod instances;
mod interfaces;
mod ipv6;
mod model;
mod networks;
mod throttle;
mod trunks;
mod views;
mod wire;

use std::time::Duration;

use aws_sim::{
    InstanceId, Latencies, LaunchSpec, Request, Response, SimTime, SubnetId, World, WorldConfig,
    call,
};

/// A VPC with a /24 in each of two zones, an m5.large (3 ENIs, 10 slots each) in the first, and a clock.
#[derive(Clone)]
struct Setup {
    world: World,
    now: SimTime,
    subnet: SubnetId,
    other_zone: SubnetId,
    instance: InstanceId,
}

impl Setup {
    fn new() -> Setup {
        Setup::with(WorldConfig {
            latencies: Latencies::default(),
            ..WorldConfig::default()
        })
    }

    fn with(config: WorldConfig) -> Setup {
        let mut world = World::new(config);
        let vpc = world.add_vpc("10.0.0.0/16".parse().unwrap()).unwrap();
        let subnet = world
            .add_subnet(&vpc, "10.0.0.0/24".parse().unwrap(), "us-east-1a")
            .unwrap();
        let other = world
            .add_subnet(&vpc, "10.0.1.0/24".parse().unwrap(), "us-east-1b")
            .unwrap();
        let spec = LaunchSpec::new("m5.large", &subnet);
        let instance = world.launch_instance(SimTime::ZERO, spec).unwrap();
        Setup {
            world,
            now: SimTime::ZERO,
            subnet,
            other_zone: other,
            instance,
        }
    }

    fn call(&mut self, action: &str, params: &[(&str, &str)]) -> Response {
        let response = call(
            &mut self.world,
            self.now,
            &Request::new(action, params.iter().copied()),
        );
        self.world.check_invariants().unwrap();
        response
    }

    /// The body of a success.
    #[track_caller]
    fn ok(&mut self, action: &str, params: &[(&str, &str)]) -> String {
        let response = self.call(action, params);
        assert_eq!(
            response.error, None,
            "{action} {params:?}: {}",
            response.body
        );
        response.body
    }

    /// The code and text of an error.
    #[track_caller]
    fn refused(&mut self, action: &str, params: &[(&str, &str)]) -> (String, String) {
        let response = self.call(action, params);
        assert!(
            response.error.is_some(),
            "{action} {params:?} was not refused: {}",
            response.body
        );
        (
            first(&response.body, "Code"),
            first(&response.body, "Message"),
        )
    }

    /// A new ENI in the first subnet; its id.
    #[track_caller]
    fn create(&mut self, params: &[(&str, &str)]) -> String {
        let subnet = self.subnet.to_string();
        let params = [&[("SubnetId", subnet.as_str())], params].concat();
        first(
            &self.ok("CreateNetworkInterface", &params),
            "networkInterfaceId",
        )
    }

    /// Attaches an ENI to the instance, and waits until it is; the attachment's id.
    #[track_caller]
    fn attach(&mut self, eni: &str, device_index: &str) -> String {
        let instance = self.instance.to_string();
        let params = [
            ("NetworkInterfaceId", eni),
            ("InstanceId", &instance),
            ("DeviceIndex", device_index),
        ];
        let attachment = first(&self.ok("AttachNetworkInterface", &params), "attachmentId");
        self.pass(Duration::from_secs(5));
        attachment
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
    }

    fn free(&mut self) -> usize {
        let subnet = self.subnet.to_string();
        let body = self.ok("DescribeSubnets", &[("SubnetId.1", &subnet)]);
        first(&body, "availableIpAddressCount").parse().unwrap()
    }

    fn eni(&mut self, id: &str) -> String {
        self.ok("DescribeNetworkInterfaces", &[("NetworkInterfaceId.1", id)])
    }
}

/// The text of every element of this name that has only text.
fn all(body: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let parts = body
        .split(&open)
        .skip(1)
        .filter_map(|part| part.split_once(&close));
    parts
        .map(|(text, _)| text.to_owned())
        .filter(|text| !text.contains('<'))
        .collect()
}

#[track_caller]
fn first(body: &str, name: &str) -> String {
    all(body, name)
        .into_iter()
        .next()
        .unwrap_or_else(|| panic!("no {name} in {body}"))
}

/// The addresses of the one ENI in a body, the primary first.
fn addresses(body: &str) -> Vec<String> {
    let set = body.split("<privateIpAddressesSet>").nth(1).unwrap();
    all(
        set.split("</privateIpAddressesSet>").next().unwrap(),
        "privateIpAddress",
    )
}
