//! From pending to forgotten, and what changes between.

use std::time::Duration;

use aws_sim::{Latencies, Size, Throttling, WorldConfig};

use super::{IMAGE, borrowed, nic, state};
use crate::{Setup, all, first};

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
fn instances_stop_and_start_and_keep_their_interfaces() {
    let mut setup = Setup::new();
    let subnet = setup.subnet();
    let params = nic(&subnet, &[("AssociatePublicIpAddress", "true")]);
    let body = setup.launched(&borrowed(&params));
    let (id, eni) = (
        first(&body, "instanceId"),
        first(&body, "networkInterfaceId"),
    );
    let one = [("InstanceId.1", id.as_str())];
    let (code, text) = setup.refused("StopInstances", &one);
    assert_eq!(code, "IncorrectInstanceState");
    assert_eq!(
        text,
        format!("This instance '{id}' is not in a state from which it can be stopped.")
    );
    setup.pass(Duration::from_secs(5));
    let body = setup.ok("StopInstances", &one);
    assert_eq!(all(&body, "name"), ["stopping", "running"]);
    let (code, text) = setup.refused("StartInstances", &one);
    assert_eq!(code, "IncorrectInstanceState");
    assert_eq!(
        text,
        format!("The instance '{id}' is not in a state from which it can be started.")
    );
    setup.pass(Duration::from_secs(2));
    let body = setup.show(&id);
    assert_eq!(state(&body), "stopped");
    assert_eq!(first(&body, "code"), "80");
    assert!(body.contains("Client.UserInitiatedShutdown"), "{body}");
    assert!(!body.contains("<ipAddress>"), "{body}");
    assert_eq!(all(&setup.eni(&eni), "status"), ["in-use", "attached"]);
    // Stopping again is fine; rebooting is not.
    assert_eq!(
        all(&setup.ok("StopInstances", &one), "name"),
        ["stopped", "stopped"]
    );
    let (code, text) = setup.refused("RebootInstances", &one);
    assert_eq!(code, "IncorrectState");
    assert_eq!(
        text,
        format!("Cannot reboot instance {id} that is currently in stopped state.")
    );

    let body = setup.ok("StartInstances", &one);
    assert_eq!(all(&body, "name"), ["pending", "stopped"]);
    setup.pass(Duration::from_secs(3));
    let body = setup.show(&id);
    assert_eq!(state(&body), "running");
    assert!(!body.contains("<stateReason>"), "{body}");
    assert!(body.contains("<ipAddress>203.0.113."), "{body}");
    setup.ok("RebootInstances", &one);
}

#[test]
fn a_protected_instance_is_not_terminated_and_neither_are_those_beside_it() {
    let mut setup = Setup::new();
    let subnet = setup.subnet();
    let body = setup.launched(&[("SubnetId", &subnet), ("DisableApiTermination", "true")]);
    let id = first(&body, "instanceId");
    let other = setup.instance.to_string();
    let both = [
        ("InstanceId.1", other.as_str()),
        ("InstanceId.2", id.as_str()),
    ];
    let (code, text) = setup.refused("TerminateInstances", &both);
    assert_eq!(code, "OperationNotPermitted");
    assert_eq!(
        text,
        format!(
            "The instance '{id}' may not be terminated. Modify its 'disableApiTermination' \
             instance attribute and try again."
        )
    );
    let unknown = [
        ("InstanceId.1", other.as_str()),
        ("InstanceId.2", "i-0123456789abcdef0"),
    ];
    let (code, text) = setup.refused("TerminateInstances", &unknown);
    assert_eq!(code, "InvalidInstanceID.NotFound");
    assert_eq!(text, "The instance ID 'i-0123456789abcdef0' does not exist");
    assert_eq!(state(&setup.show(&other)), "running");

    let off = [
        ("InstanceId", id.as_str()),
        ("DisableApiTermination.Value", "false"),
    ];
    setup.ok("ModifyInstanceAttribute", &off);
    let body = setup.ok("TerminateInstances", &both);
    assert_eq!(all(&body, "instanceId").len(), 2);
}

#[test]
fn terminated_instances_are_shown_for_an_hour_and_then_forgotten() {
    let mut setup = Setup::new();
    let id = setup.instance.to_string();
    setup.ok("TerminateInstances", &[("InstanceId.1", &id)]);
    setup.pass(Duration::from_secs(3000));
    assert_eq!(state(&setup.show(&id)), "terminated");
    setup.pass(Duration::from_secs(700));
    let (code, _) = setup.refused("DescribeInstances", &[("InstanceId.1", &id)]);
    assert_eq!(code, "InvalidInstanceID.NotFound");
    assert_eq!(setup.world.instances().count(), 0);
}

#[test]
fn statuses_are_initializing_and_then_ok() {
    let mut setup = Setup::new();
    let subnet = setup.subnet();
    let id = first(&setup.launched(&[("SubnetId", &subnet)]), "instanceId");
    let one = [("InstanceId.1", id.as_str())];
    let every = [one[0], ("IncludeAllInstances", "true")];
    assert_eq!(
        all(&setup.ok("DescribeInstanceStatus", &one), "instanceId"),
        [""; 0]
    );
    let body = setup.ok("DescribeInstanceStatus", &every);
    assert_eq!(all(&body, "name")[0], "pending");
    setup.pass(Duration::from_secs(4));
    let body = setup.ok("DescribeInstanceStatus", &one);
    assert_eq!(all(&body, "status")[0], "initializing", "{body}");
    setup.pass(Duration::from_secs(5));
    let body = setup.ok("DescribeInstanceStatus", &one);
    assert_eq!(all(&body, "status"), ["ok", "passed", "ok", "passed", "ok"]);
    setup.ok("StopInstances", &one);
    let body = setup.ok("DescribeInstanceStatus", &every);
    assert_eq!(all(&body, "status")[0], "not-applicable");
}

#[test]
fn attributes_are_shown_and_changed_one_at_a_time() {
    let mut setup = Setup::new();
    let id = setup.instance.to_string();
    let named = |name| [("InstanceId", id.as_str()), ("Attribute", name)];
    for (attribute, value) in [
        ("instanceType", "m5.large"),
        ("disableApiTermination", "false"),
        ("sourceDestCheck", "true"),
        ("instanceInitiatedShutdownBehavior", "stop"),
        ("rootDeviceName", "/dev/xvda"),
    ] {
        let body = setup.ok("DescribeInstanceAttribute", &named(attribute));
        assert!(body.contains(&format!(
            "<{attribute}><value>{value}</value></{attribute}>"
        )));
    }
    assert!(
        setup
            .ok("DescribeInstanceAttribute", &named("groupSet"))
            .contains("sg-")
    );
    let (code, text) = setup.refused("DescribeInstanceAttribute", &named("mood"));
    assert_eq!(code, "InvalidParameterValue");
    assert_eq!(
        text,
        "Value (mood) for parameter attribute is invalid. Unknown attribute."
    );

    let with = |name, value| [("InstanceId", id.as_str()), (name, value)];
    setup.ok(
        "ModifyInstanceAttribute",
        &with("SourceDestCheck.Value", "false"),
    );
    let body = setup.ok("DescribeInstanceAttribute", &named("sourceDestCheck"));
    assert_eq!(first(&body, "value"), "false");
    let (code, _) = setup.refused(
        "ModifyInstanceAttribute",
        &with("InstanceType.Value", "m5.xlarge"),
    );
    assert_eq!(code, "IncorrectInstanceState");
    let two = [
        ("InstanceId", id.as_str()),
        ("SourceDestCheck.Value", "true"),
        ("DisableApiStop.Value", "true"),
    ];
    assert_eq!(
        setup.refused("ModifyInstanceAttribute", &two).0,
        "InvalidParameterCombination"
    );
    assert_eq!(
        setup
            .refused(
                "ModifyInstanceAttribute",
                &with("GroupId.1", "sg-0123456789abcdef0")
            )
            .0,
        "InvalidGroup.NotFound"
    );

    // In the old form too; and a type only if what is attached fits on it.
    setup.ok("StopInstances", &[("InstanceId.1", &id)]);
    setup.pass(Duration::from_secs(2));
    let old = |value| {
        let attribute = ("Attribute", "instanceType");
        [("InstanceId", id.as_str()), attribute, ("Value", value)]
    };
    setup.ok("ModifyInstanceAttribute", &old("m5.xlarge"));
    let body = setup.ok("DescribeInstanceAttribute", &named("instanceType"));
    assert_eq!(first(&body, "value"), "m5.xlarge");
    let refused = setup.refused("ModifyInstanceAttribute", &old("zz9.huge"));
    assert_eq!(refused.1, "Invalid value 'zz9.huge' for InstanceType.");
    let eni = setup
        .world
        .primary_eni(&setup.instance)
        .unwrap()
        .id
        .to_string();
    let prefix = [
        ("NetworkInterfaceId", eni.as_str()),
        ("Ipv4PrefixCount", "1"),
    ];
    setup.ok("AssignPrivateIpAddresses", &prefix);
    assert_eq!(
        setup.refused("ModifyInstanceAttribute", &old("t2.large")).0,
        "InvalidParameterValue"
    );
}

#[test]
fn metadata_options_change_for_good_or_not_at_all() {
    let mut setup = Setup::new();
    let id = setup.instance.to_string();
    let with = |name, value| [("InstanceId", id.as_str()), (name, value)];
    let body = setup.ok(
        "ModifyInstanceMetadataOptions",
        &with("HttpTokens", "optional"),
    );
    assert_eq!(first(&body, "state"), "pending");
    assert_eq!(first(&body, "httpTokens"), "optional");
    let shown = setup.show(&id);
    assert!(
        shown.contains("<state>applied</state><httpTokens>optional</httpTokens>"),
        "{shown}"
    );
    let (code, _) = setup.refused(
        "ModifyInstanceMetadataOptions",
        &with("HttpPutResponseHopLimit", "65"),
    );
    assert_eq!(code, "InvalidParameterValue");
    let (code, _) = setup.refused("ModifyInstanceMetadataOptions", &[("InstanceId", &id)]);
    assert_eq!(code, "MissingParameter");
    assert!(
        setup
            .world
            .instance(&setup.instance)
            .unwrap()
            .imds
            .v1_allowed
    );
    // Old images have the old defaults.
    let subnet = setup.subnet();
    let body = setup.launched(&[("SubnetId", &subnet), ("ImageId", "ami-03cf127a")]);
    assert_eq!(first(&body, "httpTokens"), "optional");
    assert_eq!(first(&body, "httpPutResponseHopLimit"), "1");
    assert_eq!(first(&body, "platform"), "windows");
}

#[test]
fn each_instance_of_a_request_is_counted_by_throttling() {
    let few = Size::new(3, 0.001);
    let names = ["Run", "Stop", "Start", "Terminate"].map(|verb| format!("{verb}Instances"));
    let sizes = names.iter().map(|name| (format!("{name}:instances"), few));
    let mut setup = Setup::with(WorldConfig {
        throttling: Throttling::Custom(sizes.collect()),
        latencies: Latencies::NONE,
        ..WorldConfig::default()
    });
    let subnet = setup.subnet();
    let two = [
        ("SubnetId", subnet.as_str()),
        ("MinCount", "2"),
        ("MaxCount", "2"),
    ];
    let ids = all(&setup.launched(&two), "instanceId");
    assert_eq!(setup.not_launched(&two).0, "RequestLimitExceeded");
    let both = [
        ("InstanceId.1", ids[0].as_str()),
        ("InstanceId.2", ids[1].as_str()),
    ];
    for name in &names[1..] {
        setup.ok(name, &both);
        setup.pass(Duration::from_secs(1));
        let states = |setup: &Setup| -> Vec<&str> {
            let instances = setup.world.instances();
            instances.map(|i| i.state.code_and_name().1).collect()
        };
        setup.world.advance(setup.now);
        let before = states(&setup).join(" ");
        assert_eq!(
            setup.refused(name, &both).0,
            "RequestLimitExceeded",
            "{name}"
        );
        assert_eq!(states(&setup).join(" "), before);
    }
}

#[test]
fn credits_are_those_of_the_type_if_nobody_chose() {
    let mut setup = Setup::new();
    let subnet = setup.subnet();
    let t3 = [("SubnetId", subnet.as_str()), ("InstanceType", "t3.medium")];
    let usual = first(&setup.launched(&t3), "instanceId");
    let chosen = [t3[0], t3[1], ("CreditSpecification.CpuCredits", "standard")];
    let chosen = first(&setup.launched(&chosen), "instanceId");
    let ids = [
        ("InstanceId.1", usual.as_str()),
        ("InstanceId.2", chosen.as_str()),
    ];
    let body = setup.ok("DescribeInstanceCreditSpecifications", &ids);
    assert_eq!(all(&body, "cpuCredits"), ["unlimited", "standard"]);
    let body = setup.ok("DescribeInstanceCreditSpecifications", &[]);
    assert_eq!(all(&body, "instanceId"), [chosen]);
}
