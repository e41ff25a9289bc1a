//! DescribeInstances.

use std::time::Duration;

use aws_sim::{Request, WorldConfig, call};

use super::state;
use crate::{Setup, all, first};

#[test]
fn each_filter_finds_its_instance_and_no_other() {
    let mut setup = Setup::new();
    let subnet = setup.other_zone.to_string();
    let body = setup.launched(&[
        ("SubnetId", &subnet),
        ("ImageId", "ami-0d9a665f802ae6227"),
        ("InstanceType", "m6g.large"),
        ("KeyName", "mine"),
        ("PrivateIpAddress", "10.0.1.44"),
        ("ClientToken", "token"),
        ("TagSpecification.1.ResourceType", "instance"),
        ("TagSpecification.1.Tag.1.Key", "Name"),
        ("TagSpecification.1.Tag.1.Value", "node-1"),
    ]);
    let id = first(&body, "instanceId");
    let eni = setup
        .world
        .eni(&first(&body, "networkInterfaceId").as_str().into())
        .unwrap();
    let attachment = eni.attachment.as_ref().unwrap().id.to_string();
    let (mac, eni) = (eni.mac_text(), eni.id.to_string());
    for (name, value) in [
        ("tag:Name", "node-*"),
        ("tag-key", "Name"),
        ("architecture", "arm64"),
        ("availability-zone", "us-east-1b"),
        ("availability-zone-id", "use1-az2"),
        ("client-token", "token"),
        ("image-id", "ami-0d9a665f802ae6227"),
        ("instance-id", &id),
        ("instance-state-code", "0"),
        ("instance-state-name", "pending"),
        ("instance-type", "m6g.*"),
        ("key-name", "mine"),
        ("private-ip-address", "10.0.1.44"),
        ("private-dns-name", "ip-10-0-1-44.ec2.internal"),
        ("reservation-id", &first(&body, "reservationId")),
        ("subnet-id", &subnet),
        ("network-interface.network-interface-id", &eni),
        ("network-interface.mac-address", &mac),
        ("network-interface.subnet-id", &subnet),
        ("network-interface.availability-zone", "us-east-1b"),
        (
            "network-interface.addresses.private-ip-address",
            "10.0.1.44",
        ),
        ("network-interface.attachment.attachment-id", &attachment),
        ("network-interface.attachment.status", "attaching"),
    ] {
        let filter = [("Filter.1.Name", name), ("Filter.1.Value.1", value)];
        let body = setup.ok("DescribeInstances", &filter);
        assert_eq!(all(&body, "instanceId"), [id.as_str()], "{name}");
        setup.pass(Duration::from_millis(10));
    }
    for (name, value, count) in [
        ("vpc-id", "vpc-*", 2),
        ("instance-lifecycle", "spot", 0),
        ("owner-id", "111122223333", 2),
        ("tenancy", "default", 2),
        ("network-interface.status", "in-use", 2),
        ("metadata-options.http-tokens", "required", 2),
        ("ip-address", "*", 0),
    ] {
        let filter = [("Filter.1.Name", name), ("Filter.1.Value.1", value)];
        let body = setup.ok("DescribeInstances", &filter);
        assert_eq!(all(&body, "instanceId").len(), count, "{name}");
    }
    let filter = [("Filter.1.Name", "mood"), ("Filter.1.Value.1", "x")];
    let (code, text) = setup.refused("DescribeInstances", &filter);
    assert_eq!(
        (code.as_str(), text.as_str()),
        ("InvalidParameterValue", "The filter 'mood' is invalid")
    );
}

#[test]
fn pages_of_instances_are_walked_to_their_end() {
    let mut setup = Setup::new();
    let subnet = setup.subnet();
    setup.launched(&[
        ("SubnetId", &subnet),
        ("MinCount", "11"),
        ("MaxCount", "11"),
    ]);
    let mut seen = Vec::new();
    let mut token: Option<String> = None;
    let mut pages = 0;
    loop {
        let mut params = vec![("MaxResults", "5")];
        params.extend(token.as_deref().map(|token| ("NextToken", token)));
        let body = setup.ok("DescribeInstances", &params);
        seen.extend(all(&body, "instanceId"));
        pages += 1;
        token = all(&body, "nextToken").into_iter().next();
        if token.is_none() {
            break;
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!((seen.len(), pages), (12, 3));
    let (code, text) = setup.refused("DescribeInstances", &[("MaxResults", "2")]);
    assert_eq!(code, "InvalidParameterValue");
    assert_eq!(
        text,
        "Value ( 2 ) for parameter maxResults is invalid. Expecting a value greater than 5."
    );
    setup.ok("DescribeInstances", &[("MaxResults", "5000")]);
    let with_ids = [("InstanceId.1", seen[0].as_str()), ("MaxResults", "5")];
    assert_eq!(
        setup.refused("DescribeInstances", &with_ids).0,
        "InvalidParameterCombination"
    );
}

#[test]
fn reads_lag_behind_launches() {
    let mut setup = Setup::with(WorldConfig {
        describe_lag: Duration::from_secs(2),
        ..WorldConfig::default()
    });
    setup.pass(Duration::from_secs(10));
    let subnet = setup.subnet();
    let id = first(&setup.launched(&[("SubnetId", &subnet)]), "instanceId");
    let (code, _) = setup.refused("DescribeInstances", &[("InstanceId.1", &id)]);
    assert_eq!(code, "InvalidInstanceID.NotFound");
    setup.pass(Duration::from_secs(2));
    assert_eq!(state(&setup.show(&id)), "pending");
    // It runs since a second ago, but readers do not know.
    setup.pass(Duration::from_secs(2));
    assert_eq!(state(&setup.show(&id)), "pending");
}

#[test]
fn another_account_sees_and_changes_nothing() {
    let mut setup = Setup::new();
    let id = setup.instance.to_string();
    for (action, name) in [
        ("DescribeInstances", "InstanceId.1"),
        ("DescribeInstanceStatus", "InstanceId.1"),
        ("TerminateInstances", "InstanceId.1"),
        ("StopInstances", "InstanceId.1"),
    ] {
        let mut request = Request::new(action, [(name, id.as_str())]);
        request.caller.access_key = Some("444455556666".to_owned());
        let response = call(&mut setup.world, setup.now, &request);
        assert_eq!(
            response.error.as_deref(),
            Some("InvalidInstanceID.NotFound"),
            "{action}"
        );
    }
    assert_eq!(state(&setup.show(&id)), "running");
}
