//! Instances: how they are launched, shown, changed and terminated.

mod catalogue;
mod describe;
mod interfaces;
mod launch;
mod life;

use std::time::Duration;

use aws_sim::{Response, World};

use crate::{Setup, first};

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
        self.pass(Duration::from_secs(5));
        self.world.advance(self.now);
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

/// Names and values.
type Params<'a> = Vec<(String, &'a str)>;

/// `NetworkInterface.1` in this subnet, with these members besides.
fn nic<'a>(subnet: &'a str, members: &[(&'a str, &'a str)]) -> Params<'a> {
    let usual = [("DeviceIndex", "0"), ("SubnetId", subnet)];
    let usual = usual
        .into_iter()
        .filter(|(name, _)| members.iter().all(|(other, _)| other != name));
    usual
        .chain(members.iter().copied())
        .map(|(name, value)| (format!("NetworkInterface.1.{name}"), value))
        .collect()
}

fn borrowed<'a>(params: &'a [(String, &'a str)]) -> Vec<(&'a str, &'a str)> {
    params
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect()
}

/// The name of an instance's state.
fn state(body: &str) -> String {
    let state = body.split("<instanceState>").nth(1).unwrap();
    first(state, "name")
}
