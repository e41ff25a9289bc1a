//! What people, other controllers and EC2 itself do behind the backs of those who call.

mod planned;

use std::time::Duration;

use aws_sim::events::{Fragments, Step};
use aws_sim::{Event, EventError, Knobs, Latencies, Throttling};

use crate::ipv6::dual_stack;
use crate::{Setup, addresses, all, first};

impl Setup {
    #[track_caller]
    fn happens(&mut self, event: &Event) -> aws_sim::Happened {
        let happened = self.world.happen(self.now, event).unwrap();
        self.world.check_invariants().unwrap();
        happened
    }

    #[track_caller]
    fn cannot_happen(&mut self, event: &Event) -> EventError {
        let before = self.world.enis().count();
        let error = self.world.happen(self.now, event).unwrap_err();
        self.world.check_invariants().unwrap();
        assert_eq!(self.world.enis().count(), before);
        error
    }

    /// An ENI with two secondary addresses, attached at index 1.
    fn attached_eni(&mut self) -> String {
        let eni = self.create(&[("SecondaryPrivateIpAddressCount", "2")]);
        self.attach(&eni, "1");
        eni
    }

    fn status(&mut self, eni: &str) -> String {
        let id = aws_sim::EniId::from(eni);
        let eni = self.world.eni(&id);
        eni.map_or("gone", |eni| eni.status()).to_owned()
    }
}

fn tags(pairs: &[(&str, &str)]) -> aws_sim::world::Tags {
    let pairs = pairs.iter();
    pairs
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

#[test]
fn a_stolen_address_is_on_the_thief_and_no_longer_on_its_owner() {
    let mut setup = Setup::new();
    let eni = setup.attached_eni();
    let thief = setup.create(&[]);
    let stolen = addresses(&setup.eni(&eni))[1].clone();
    let free = setup.free();
    setup.happens(&Event::StealAddress {
        eni: eni.clone(),
        address: None,
        to: Some(thief.clone()),
    });
    assert!(!addresses(&setup.eni(&eni)).contains(&stolen));
    assert_eq!(addresses(&setup.eni(&thief))[1], stolen);
    assert_eq!(setup.free(), free);

    // Back to a new ENI, whose primary address it becomes.
    let happened = setup.happens(&Event::StealAddress {
        eni: thief.clone(),
        address: Some(stolen.parse().unwrap()),
        to: None,
    });
    let made = happened.made[0].to_string();
    assert_eq!(addresses(&setup.eni(&made)), [stolen.as_str()]);
    assert_eq!(setup.free(), free);

    let primary = addresses(&setup.eni(&eni))[0].parse().unwrap();
    for (from, address, to) in [
        (&eni, Some(primary), None),
        (&thief, None, None),
        (&eni, Some(stolen.parse().unwrap()), None),
        (&eni, None, Some(eni.clone())),
    ] {
        let eni = from.clone();
        setup.cannot_happen(&Event::StealAddress { eni, address, to });
    }
}

#[test]
fn a_theft_that_nobody_has_room_for_changes_nothing() {
    let mut setup = Setup::new();
    let eni = setup.attached_eni();
    let full = setup.create(&[("SecondaryPrivateIpAddressCount", "9")]);
    setup.attach(&full, "2");
    let before = setup.eni(&eni);
    let error = setup.cannot_happen(&Event::StealAddress {
        eni: eni.clone(),
        address: None,
        to: Some(full),
    });
    assert!(matches!(error, EventError::Refused(_)), "{error}");
    setup.world.config.eni_quota = 3;
    setup.cannot_happen(&Event::StealAddress {
        eni: eni.clone(),
        address: None,
        to: None,
    });
    assert_eq!(addresses(&setup.eni(&eni)), addresses(&before));
}

#[test]
fn addresses_and_prefixes_are_unassigned_behind_their_owners_back() {
    let mut setup = Setup::new();
    let free = setup.free();
    let eni = setup.attached_eni();
    setup.ok(
        "AssignPrivateIpAddresses",
        &[("NetworkInterfaceId", &eni), ("Ipv4PrefixCount", "1")],
    );
    let held = addresses(&setup.eni(&eni));
    setup.happens(&Event::Unassign {
        eni: eni.clone(),
        addresses: vec![format!("{}/32", held[2]).parse().unwrap()],
    });
    assert_eq!(addresses(&setup.eni(&eni)), held[..2]);
    let primary = format!("{}/32", held[0]).parse().unwrap();
    for not_to_be_had in [primary, "10.0.0.0/28".parse().unwrap()] {
        let addresses = vec![not_to_be_had];
        let eni = eni.clone();
        setup.cannot_happen(&Event::Unassign { eni, addresses });
    }
    setup.happens(&Event::Unassign {
        eni: eni.clone(),
        addresses: Vec::new(),
    });
    assert_eq!(addresses(&setup.eni(&eni)), held[..1]);
    assert_eq!(setup.free(), free - 1);
}

#[test]
fn an_eni_is_named_by_its_place_on_an_instance() {
    let mut setup = Setup::new();
    let eni = setup.attached_eni();
    let instance = setup.instance.to_string();
    setup.happens(&Event::AddTags {
        to: instance.clone(),
        tags: tags(&[("Name", "node-a")]),
    });
    assert_eq!(setup.world.find_eni("node-a/1").unwrap().as_str(), eni);
    assert_eq!(
        setup
            .world
            .find_eni(&format!("{instance}/1"))
            .unwrap()
            .as_str(),
        eni
    );
    let error = setup.world.find_eni("node-a/2").unwrap_err();
    assert_eq!(
        error.to_string(),
        "no ENI has the id or the Name tag \"node-a/2\""
    );
    let other = setup.create(&[]);
    for eni in [&eni, &other] {
        let (to, tags) = (eni.clone(), tags(&[("Name", "twin")]));
        setup.happens(&Event::AddTags { to, tags });
    }
    let error = setup.world.find_eni("twin").unwrap_err();
    assert!(
        error.to_string().starts_with("2 ENIs have the Name tag"),
        "{error}"
    );
}

#[test]
fn an_eni_is_detached_or_deleted_from_outside_but_not_the_primary_one() {
    let mut setup = Setup::new();
    let eni = setup.attached_eni();
    setup.happens(&Event::DetachEni { eni: eni.clone() });
    assert_eq!(setup.status(&eni), "in-use");
    assert!(setup.eni(&eni).contains("<status>detaching</status>"));
    setup.pass(Duration::from_secs(5));
    setup.call("DescribeVpcs", &[]);
    assert_eq!(setup.status(&eni), "available");
    setup.cannot_happen(&Event::DetachEni { eni: eni.clone() });
    setup.attach(&eni, "1");
    setup.happens(&Event::DeleteEni { eni: eni.clone() });
    assert_eq!(setup.status(&eni), "gone");
    let eni = format!("{}/0", setup.instance);
    setup.cannot_happen(&Event::DetachEni { eni: eni.clone() });
    setup.cannot_happen(&Event::DeleteEni { eni });
}

#[test]
fn tags_are_stripped_and_security_groups_drift() {
    let mut setup = Setup::new();
    let eni = setup.create(&[]);
    let mine = [("cluster", "a"), ("node", "i-1"), ("Name", "x")];
    setup.happens(&Event::AddTags {
        to: eni.clone(),
        tags: tags(&mine),
    });
    let keys = vec!["node".to_owned()];
    setup.happens(&Event::StripTags {
        of: "x".to_owned(),
        keys,
    });
    assert_eq!(all(&setup.eni(&eni), "key"), ["Name", "cluster"]);
    setup.happens(&Event::StripTags {
        of: eni.clone(),
        keys: Vec::new(),
    });
    assert_eq!(all(&setup.eni(&eni), "key"), [""; 0]);

    let vpc = first(&setup.eni(&eni), "vpcId");
    let params = [
        ("GroupName", "drift"),
        ("GroupDescription", "x"),
        ("VpcId", vpc.as_str()),
    ];
    let group = first(&setup.ok("CreateSecurityGroup", &params), "groupId");
    let groups = vec![group.clone()];
    setup.happens(&Event::SetGroups {
        eni: eni.clone(),
        groups,
    });
    assert_eq!(all(&setup.eni(&eni), "groupId"), [group]);
    let groups = vec!["sg-0123456789abcdef0".to_owned()];
    setup.cannot_happen(&Event::SetGroups { eni, groups });
}

#[test]
fn a_subnet_is_filled_by_others_and_emptied_again() {
    let mut setup = Setup::new();
    let free = setup.free();
    let subnet = setup.subnet.to_string();
    setup.happens(&Event::FillSubnet {
        subnet: subnet.clone(),
        leaving: 2,
    });
    assert_eq!(setup.free(), 2);
    let params = [
        ("SubnetId", subnet.as_str()),
        ("SecondaryPrivateIpAddressCount", "2"),
    ];
    let (code, _) = setup.refused("CreateNetworkInterface", &params);
    assert_eq!(code, "InsufficientFreeAddressesInSubnet");
    setup.create(&[("SecondaryPrivateIpAddressCount", "1")]);
    setup.happens(&Event::EmptySubnet { subnet });
    assert_eq!(setup.free(), free - 2);
}

#[test]
fn a_fragmented_subnet_has_addresses_but_no_prefix() {
    // Of the 16 blocks of a /24 EC2 keeps a part of the first and the last; two ENIs are somewhere.
    for (pattern, left) in [
        (Fragments::OneInEachPrefix, 235..=237),
        (Fragments::EveryOther, 122..=126),
    ] {
        let mut setup = Setup::new();
        let subnet = setup.subnet.to_string();
        let eni = setup.create(&[]);
        setup.happens(&Event::FragmentSubnet {
            subnet: subnet.clone(),
            pattern,
        });
        let after = setup.free();
        assert!(left.contains(&after), "{pattern:?}: {after}");
        let params = [
            ("NetworkInterfaceId", eni.as_str()),
            ("Ipv4PrefixCount", "1"),
        ];
        let (code, _) = setup.refused("AssignPrivateIpAddresses", &params);
        assert_eq!(code, "InsufficientCidrBlocks");
        let params = [
            ("NetworkInterfaceId", eni.as_str()),
            ("SecondaryPrivateIpAddressCount", "9"),
        ];
        setup.ok("AssignPrivateIpAddresses", &params);
    }
}

#[test]
fn an_orphan_appears_with_its_tags() {
    let mut setup = Setup::new();
    let happened = setup.happens(&Event::CreateOrphan {
        subnet: setup.subnet.to_string(),
        tags: tags(&[("node.k8s.amazonaws.com/instance_id", "i-0123456789abcdef0")]),
        description: "aws-K8S-i-0123456789abcdef0".to_owned(),
    });
    let shown = setup.eni(happened.made[0].as_str());
    assert_eq!(first(&shown, "status"), "available");
    assert_eq!(first(&shown, "value"), "i-0123456789abcdef0");
}

#[test]
fn what_is_stuck_never_ends_until_it_is_freed() {
    for (one_only, step) in [
        (true, Step::Attach),
        (false, Step::Attach),
        (false, Step::Detach),
    ] {
        let mut setup = Setup::new();
        let eni = setup.create(&[]);
        let which = one_only.then(|| eni.clone());
        if step == Step::Detach {
            let attachment = setup.attach(&eni, "1");
            setup.happens(&Event::Stick {
                step,
                eni: which.clone(),
            });
            setup.ok("DetachNetworkInterface", &[("AttachmentId", &attachment)]);
        } else {
            setup.happens(&Event::Stick {
                step,
                eni: which.clone(),
            });
            setup.attach(&eni, "1");
        }
        setup.pass(Duration::from_secs(3600));
        let stuck = match step {
            Step::Attach => "<status>attaching</status>",
            _ => "<status>detaching</status>",
        };
        assert!(setup.eni(&eni).contains(stuck));
        let other = setup.create(&[]);
        setup.attach(&other, "2");
        let others = setup.eni(&other).contains("<status>attached</status>");
        assert_eq!(others, one_only || step == Step::Detach);
        setup.happens(&Event::Unstick { step, eni: which });
        assert!(!setup.eni(&eni).contains(stuck));
    }
}

#[test]
fn instances_are_stopped_started_and_terminated_from_outside() {
    let mut setup = Setup::new();
    let instance = setup.instance.to_string();
    let eni = setup.attached_eni();
    let state = |setup: &mut Setup| {
        setup.call("DescribeVpcs", &[]);
        let (_, name) = setup
            .world
            .instance(&setup.instance)
            .unwrap()
            .state
            .code_and_name();
        name
    };
    setup.happens(&Event::StopInstance {
        instance: instance.clone(),
    });
    assert_eq!(state(&mut setup), "stopping");
    setup.pass(Duration::from_secs(60));
    assert_eq!(state(&mut setup), "stopped");
    assert_eq!(setup.look("meta-data/mac").status, 404);
    assert_eq!(setup.status(&eni), "in-use");
    setup.cannot_happen(&Event::StopInstance {
        instance: instance.clone(),
    });
    setup.happens(&Event::StartInstance {
        instance: instance.clone(),
    });
    setup.pass(Duration::from_secs(60));
    assert_eq!(state(&mut setup), "running");
    setup.happens(&Event::TerminateInstance {
        instance: instance.clone(),
    });
    setup.pass(Duration::from_secs(60));
    assert_eq!(state(&mut setup), "terminated");
    setup.cannot_happen(&Event::TerminateInstance { instance });
}

#[test]
fn the_time_of_day_jumps_and_the_past_stays_what_it_was() {
    let mut setup = Setup::new();
    let instance = setup.instance.to_string();
    let document = |setup: &mut Setup| {
        let document = setup
            .metadata("dynamic/instance-identity/document")
            .unwrap();
        let document: serde_json::Value = serde_json::from_str(&document).unwrap();
        document["pendingTime"].as_str().unwrap().to_owned()
    };
    let updated = |setup: &mut Setup| {
        let info = setup.metadata("meta-data/iam/info").unwrap();
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        info["LastUpdated"].as_str().unwrap().to_owned()
    };
    setup.pass(Duration::from_secs(10));
    let launched = document(&mut setup);
    setup.happens(&Event::StepClock {
        by: Duration::from_secs(7200),
        back: true,
    });
    assert_eq!(updated(&mut setup), "2025-12-31T22:00:10Z");
    assert_eq!(document(&mut setup), launched);
    setup.happens(&Event::StepClock {
        by: Duration::from_secs(86_400),
        back: false,
    });
    assert_eq!(updated(&mut setup), "2026-01-01T22:00:10Z");
    setup.happens(&Event::StopInstance {
        instance: instance.clone(),
    });
    setup.pass(Duration::from_secs(10));
    setup.happens(&Event::StartInstance { instance });
    assert_eq!(document(&mut setup), "2026-01-01T22:00:20Z");
}

#[test]
fn knobs_are_turned_while_the_world_runs() {
    let mut setup = Setup::new();
    setup.pass(Duration::from_secs(60));
    setup.happens(&Event::Configure(Box::new(Knobs {
        latencies: Some(Latencies::NONE),
        throttling: Some(Throttling::Off),
        describe_lag: Some(Duration::from_secs(5)),
        ..Knobs::default()
    })));
    assert_eq!(setup.world.config.imds_lag, Duration::from_secs(1));
    let eni = setup.create(&[]);
    let (code, _) = setup.refused(
        "DescribeNetworkInterfaces",
        &[("NetworkInterfaceId.1", &eni)],
    );
    assert_eq!(code, "InvalidNetworkInterfaceID.NotFound");
    assert_eq!(setup.status(&eni), "available");
    assert_eq!(setup.world.log.records().last().unwrap().tokens_left, None);
}

#[test]
fn leaked_enis_are_those_that_are_marked_and_idle_for_long() {
    let mut setup = Setup::new();
    let key = "node.k8s.amazonaws.com/instance_id";
    let (mine, gone) = (setup.instance.to_string(), "i-0123456789abcdef0");
    let marked = |setup: &mut Setup, node: &str| {
        let eni = setup.create(&[]);
        let (to, tags) = (eni.clone(), tags(&[(key, node)]));
        setup.happens(&Event::AddTags { to, tags });
        eni
    };
    let (one, other) = (marked(&mut setup, &mine), marked(&mut setup, gone));
    let used = marked(&mut setup, &mine);
    setup.create(&[]);
    let attachment = setup.attach(&used, "1");
    let grace = Duration::from_secs(30);
    let leaked = |setup: &Setup| {
        let found = setup.world.leaked_enis(setup.now, grace, key);
        let found = found
            .iter()
            .map(|leak| (leak.eni.id.to_string(), leak.node_lives));
        let mut found: Vec<(String, bool)> = found.collect();
        found.sort();
        found
    };
    assert_eq!(leaked(&setup), []);
    setup.pass(Duration::from_secs(30));
    let mut both = vec![(one, true), (other, false)];
    both.sort();
    assert_eq!(leaked(&setup), both);
    setup.ok("DetachNetworkInterface", &[("AttachmentId", &attachment)]);
    setup.pass(Duration::from_secs(30));
    setup.call("DescribeVpcs", &[]);
    assert_eq!(leaked(&setup), both);
    setup.pass(Duration::from_secs(2));
    assert_eq!(leaked(&setup).len(), 3);
}

#[test]
fn ipv6_addresses_are_stolen_and_unassigned_too() {
    let (mut setup, _) = dual_stack();
    let eni = setup.create(&[("Ipv6AddressCount", "2")]);
    let thief = setup.create(&[]);
    let ipv6 = |setup: &mut Setup, eni: &str| all(&setup.eni(eni), "ipv6Address");
    let held = ipv6(&mut setup, &eni);
    let address = Some(held[1].parse().unwrap());
    for to in [Some(thief.clone()), None] {
        let eni = if to.is_some() { &eni } else { &thief };
        let eni = eni.clone();
        setup.happens(&Event::StealAddress { eni, address, to });
    }
    assert_eq!(ipv6(&mut setup, &eni), held[..1]);
    assert_eq!(ipv6(&mut setup, &thief), [""; 0]);
    setup.ok(
        "AssignIpv6Addresses",
        &[("NetworkInterfaceId", &eni), ("Ipv6PrefixCount", "1")],
    );
    setup.happens(&Event::Unassign {
        eni: eni.clone(),
        addresses: Vec::new(),
    });
    assert_eq!(ipv6(&mut setup, &eni), [""; 0]);
    assert_eq!(all(&setup.eni(&eni), "ipv6Prefix"), [""; 0]);
}
