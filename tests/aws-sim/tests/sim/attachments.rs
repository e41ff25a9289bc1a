//! ENIs on instances: where they may go, and how they come off.

use std::time::Duration;

use aws_sim::LaunchSpec;

use crate::{Setup, all, first};

#[test]
fn attaching_keeps_the_limits_of_the_instance() {
    let mut setup = Setup::new();
    let instance = setup.instance.to_string();
    let (one, two, three) = (setup.create(&[]), setup.create(&[]), setup.create(&[]));
    let attach = |setup: &mut Setup, eni: &str, index: &str, card: &str| {
        let place = [("DeviceIndex", index), ("NetworkCardIndex", card)];
        let ids = [
            ("NetworkInterfaceId", eni),
            ("InstanceId", instance.as_str()),
        ];
        setup.refused("AttachNetworkInterface", &[ids, place].concat())
    };
    setup.attach(&one, "1");

    let (code, text) = attach(&mut setup, &two, "1", "0");
    assert_eq!(code, "InvalidParameterValue");
    assert!(
        text.contains("already has an interface attached at device index '1'"),
        "{text}"
    );
    assert_eq!(
        attach(&mut setup, &one, "2", "0").0,
        "InvalidParameterValue"
    );
    assert_eq!(
        attach(&mut setup, &two, "2", "5").0,
        "InvalidParameterValue"
    );
    setup.attach(&two, "2");
    let (code, text) = attach(&mut setup, &three, "3", "0");
    assert_eq!(code, "AttachmentLimitExceeded");
    assert_eq!(text, "Interface count 4 exceeds the limit for m5.large");
}

#[test]
fn an_eni_is_attached_only_within_its_zone_and_within_the_slots_of_the_type() {
    let mut setup = Setup::new();
    let (instance, other) = (setup.instance.to_string(), setup.other_zone.to_string());
    let far = setup.ok("CreateNetworkInterface", &[("SubnetId", &other)]);
    let far = first(&far, "networkInterfaceId");
    let full = setup.create(&[("SecondaryPrivateIpAddressCount", "10")]);
    let mut attach = |eni: &str| {
        let params = [
            ("NetworkInterfaceId", eni),
            ("InstanceId", &instance),
            ("DeviceIndex", "1"),
        ];
        setup.refused("AttachNetworkInterface", &params).0
    };
    assert_eq!(attach(&far), "InvalidParameterCombination");
    assert_eq!(attach(&full), "PrivateIpAddressLimitExceeded");
}

#[test]
fn the_primary_eni_stays() {
    let mut setup = Setup::new();
    let primary = setup.world.primary_eni(&setup.instance).unwrap();
    let attachment = primary.attachment.as_ref().unwrap();
    assert!(attachment.delete_on_termination);
    let attachment = attachment.id.to_string();
    let (code, _) = setup.refused("DetachNetworkInterface", &[("AttachmentId", &attachment)]);
    assert_eq!(code, "OperationNotPermitted");
    let gone = "eni-attach-0123456789abcdef0";
    let (code, _) = setup.refused("DetachNetworkInterface", &[("AttachmentId", gone)]);
    assert_eq!(code, "InvalidAttachmentID.NotFound");
}

#[test]
fn termination_deletes_what_goes_with_the_instance_and_frees_the_rest() {
    let mut setup = Setup::new();
    let (goes, stays) = (setup.create(&[]), setup.create(&[]));
    let attachment = setup.attach(&goes, "1");
    setup.attach(&stays, "2");
    setup.ok(
        "ModifyNetworkInterfaceAttribute",
        &[
            ("NetworkInterfaceId", &goes),
            ("Attachment.AttachmentId", &attachment),
            ("Attachment.DeleteOnTermination", "true"),
        ],
    );
    let instance = setup.instance.clone();
    setup.world.terminate(setup.now, &instance).unwrap();
    assert_eq!(all(&setup.eni(&goes), "status"), ["in-use", "detaching"]);
    setup.pass(Duration::from_secs(60));
    assert_eq!(all(&setup.eni(&stays), "status"), ["available"]);
    let (code, _) = setup.refused(
        "DescribeNetworkInterfaces",
        &[("NetworkInterfaceId.1", &goes)],
    );
    assert_eq!(code, "InvalidNetworkInterfaceID.NotFound");
    assert_eq!(setup.free(), 250);
}

#[test]
fn ena_express_comes_and_goes_with_the_attachment() {
    let mut setup = Setup::new();
    let eni = setup.create(&[]);
    let old = setup.instance.to_string();
    let spec = LaunchSpec::new("m6i.32xlarge", &setup.subnet);
    setup.instance = setup.world.launch_instance(setup.now, spec).unwrap();
    let instance = setup.instance.to_string();
    let id = ("NetworkInterfaceId", eni.as_str());
    let elsewhere = [
        id,
        ("EnaSrdSpecification.EnaSrdEnabled", "true"),
        ("InstanceId", &old),
        ("DeviceIndex", "1"),
    ];
    let (_, text) = setup.refused("AttachNetworkInterface", &elsewhere);
    assert_eq!(text, "m5.large instances do not support ENA Express.");
    let on = [id, ("EnaSrdSpecification.EnaSrdEnabled", "true")];
    let (code, _) = setup.refused("ModifyNetworkInterfaceAttribute", &on);
    assert_eq!(code, "IncorrectState");
    let udp = "EnaSrdSpecification.EnaSrdUdpSpecification.EnaSrdUdpEnabled";
    let place = [("InstanceId", instance.as_str()), ("DeviceIndex", "1")];
    let alone = [&[id, (udp, "true")], place.as_slice()].concat();
    let (code, _) = setup.refused("AttachNetworkInterface", &alone);
    assert_eq!(code, "InvalidParameterCombination");
    let both = [on.as_slice(), &[(udp, "true")], &place].concat();
    let attachment = first(&setup.ok("AttachNetworkInterface", &both), "attachmentId");
    let body = setup.eni(&eni);
    assert_eq!(first(&body, "enaSrdEnabled"), "true");
    assert_eq!(first(&body, "enaSrdUdpEnabled"), "true");
    setup.pass(Duration::from_secs(5));
    setup.ok("DetachNetworkInterface", &[("AttachmentId", &attachment)]);
    setup.pass(Duration::from_secs(5));
    assert!(!setup.eni(&eni).contains("enaSrd"));
}

#[test]
fn an_efa_is_attached_only_while_the_instance_is_stopped() {
    let mut setup = Setup::new();
    let spec = LaunchSpec::new("c5n.18xlarge", &setup.subnet);
    setup.instance = setup.world.launch_instance(setup.now, spec).unwrap();
    let (eni, other) = (
        setup.create(&[("InterfaceType", "efa")]),
        setup.create(&[("InterfaceType", "efa")]),
    );
    let instance = setup.instance.to_string();
    let place = |eni| {
        [
            ("NetworkInterfaceId", eni),
            ("InstanceId", instance.as_str()),
            ("DeviceIndex", "1"),
        ]
    };
    let (code, _) = setup.refused("AttachNetworkInterface", &place(&eni));
    assert_eq!(code, "IncorrectState");
    setup.ok("StopInstances", &[("InstanceId.1", &instance)]);
    setup.pass(Duration::from_secs(60));
    setup.ok("AttachNetworkInterface", &place(&eni));
    let small = LaunchSpec::new("m5.large", &setup.subnet);
    let small = setup.world.launch_instance(setup.now, small).unwrap();
    let mut elsewhere = place(&other);
    let small = small.to_string();
    elsewhere[1].1 = &small;
    let (_, text) = setup.refused("AttachNetworkInterface", &elsewhere);
    assert_eq!(
        text,
        "m5.large instances do not support Elastic Fabric Adapters."
    );
    // One for each network card.
    let mut second = place(&other);
    second[2].1 = "2";
    let (code, _) = setup.refused("AttachNetworkInterface", &second);
    assert_eq!(code, "InvalidParameterValue");
}

#[test]
fn an_instance_that_is_neither_running_nor_stopped_takes_no_eni() {
    let mut setup = Setup::new();
    let eni = setup.create(&[]);
    let instance = setup.instance.to_string();
    setup.ok("StopInstances", &[("InstanceId.1", &instance)]);
    let attach = [
        ("NetworkInterfaceId", eni.as_str()),
        ("InstanceId", &instance),
        ("DeviceIndex", "1"),
    ];
    let (code, text) = setup.refused("AttachNetworkInterface", &attach);
    assert_eq!(code, "IncorrectState");
    assert_eq!(
        text,
        format!("Instance '{instance}' is not 'running' or 'stopped'.")
    );
    setup.pass(Duration::from_secs(60));
    setup.ok("AttachNetworkInterface", &attach);
}

#[test]
fn an_eni_is_attached_only_within_its_vpc_and_to_a_card_that_is_there() {
    let mut setup = Setup::new();
    let instance = setup.instance.to_string();
    let vpc = setup.world.add_vpc("10.9.0.0/16".parse().unwrap()).unwrap();
    let far = setup
        .world
        .add_subnet(&vpc, "10.9.0.0/24".parse().unwrap(), "us-east-1a")
        .unwrap()
        .to_string();
    let far = setup.ok("CreateNetworkInterface", &[("SubnetId", &far)]);
    let far = first(&far, "networkInterfaceId");
    let near = setup.create(&[]);
    for (eni, card, code) in [
        (far.as_str(), "0", "InvalidParameterCombination"),
        (near.as_str(), "1", "InvalidParameterValue"),
    ] {
        let params = [
            ("NetworkInterfaceId", eni),
            ("InstanceId", &instance),
            ("DeviceIndex", "1"),
            ("NetworkCardIndex", card),
        ];
        let refused = setup.refused("AttachNetworkInterface", &params);
        assert_eq!(refused.0, code, "{}", refused.1);
    }
}

#[test]
fn each_network_card_has_its_own_places() {
    let mut setup = Setup::new();
    let spec = LaunchSpec::new("p4d.24xlarge", &setup.subnet);
    setup.instance = setup.world.launch_instance(setup.now, spec).unwrap();
    let instance = setup.instance.to_string();
    for card in ["0", "1", "2", "3"] {
        let eni = setup.create(&[]);
        let params = [
            ("NetworkInterfaceId", eni.as_str()),
            ("InstanceId", &instance),
            ("DeviceIndex", "1"),
            ("NetworkCardIndex", card),
        ];
        let body = setup.ok("AttachNetworkInterface", &params);
        assert_eq!(first(&body, "networkCardIndex"), card);
        assert_eq!(first(&setup.eni(&eni), "networkCardIndex"), card);
    }
}

#[test]
fn an_attachment_that_goes_is_asked_again_only_by_force() {
    let mut setup = Setup::new();
    let eni = setup.create(&[]);
    let attachment = setup.attach(&eni, "1");
    let id = ("AttachmentId", attachment.as_str());
    setup.ok("DetachNetworkInterface", &[id]);
    let (code, _) = setup.refused("DetachNetworkInterface", &[id]);
    assert_eq!(code, "IncorrectState");
    let (code, _) = setup.refused("DetachNetworkInterface", &[id, ("Force", "false")]);
    assert_eq!(code, "IncorrectState");
    setup.ok("DetachNetworkInterface", &[id, ("Force", "true")]);
    setup.pass(Duration::from_secs(5));
    assert_eq!(all(&setup.eni(&eni), "status"), ["available"]);
    let (code, _) = setup.refused("DetachNetworkInterface", &[id]);
    assert_eq!(code, "InvalidAttachmentID.NotFound");
    let (code, _) = setup.refused("DetachNetworkInterface", &[("AttachmentId", "eni-1")]);
    assert_eq!(code, "InvalidNetworkInterfaceAttachmentId.Malformed");
}
