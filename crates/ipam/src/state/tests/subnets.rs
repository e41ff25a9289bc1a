//! Subnets by tags, and custom networking.

use std::collections::BTreeMap;

use super::look::{carry_out, granted, is_call, only, refused};
use super::world::{Fate, World, node, sandbox, targets};
use crate::*;

const ROLE: &str = "kubernetes.io/role/cni";

fn tagged() -> Settings {
    Settings {
        subnets: Subnets::Tagged {
            cluster: Some("mine".to_owned()),
        },
        ..targets(1, 0)
    }
}

fn subnet(id: &str, free: u32, tags: &[(&str, &str)]) -> SubnetFacts {
    let tags = tags
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    SubnetFacts {
        id: SubnetId::new(id),
        free,
        tags: tags.collect::<BTreeMap<_, _>>(),
    }
}

fn in_zone(zone: Vec<SubnetFacts>) -> World {
    let mut world = World::new(tagged());
    world.zone = zone;
    world.step(super::world::fresh());
    world.calm();
    world
}

/// Pods, one after the other, each with all the time that it needs.
fn pods(world: &mut World, pods: std::ops::Range<u32>) {
    for n in pods {
        world.add(n, 60_000);
        world.calm();
    }
}

fn created(world: &World) -> Vec<&str> {
    let made = world.asked.iter().filter_map(|call| match call {
        Call::CreateEni { subnet, .. } => Some(subnet.as_str()),
        _ => None,
    });
    made.collect()
}

fn looks(world: &World) -> usize {
    let calls = world.asked.iter();
    calls.filter(|call| **call == Call::DescribeSubnets).count()
}

fn is_look(effect: &Effect) -> bool {
    is_call(effect, "DescribeSubnets")
}

#[test]
fn subnets_are_looked_at_once_and_only_when_an_eni_is_to_be_made() {
    let zone = vec![
        subnet("subnet-1", 50, &[]),
        subnet("subnet-2", 90, &[(ROLE, "1")]),
        subnet("subnet-3", 70, &[(ROLE, "1")]),
        subnet("subnet-4", 99, &[]),
    ];
    let mut world = in_zone(zone);
    pods(&mut world, 0..2);
    assert_eq!(looks(&world), 0, "there is room on the primary ENI");
    pods(&mut world, 2..7);
    assert_eq!(created(&world), ["subnet-2", "subnet-2"]);
    assert_eq!(looks(&world), 1);
    world.restart(None);
    world.calm();
    assert_eq!(looks(&world), 1, "the books remember");
}

#[test]
fn a_subnet_that_is_full_gives_way_to_the_next_by_free_addresses() {
    let zone = vec![
        subnet("subnet-1", 50, &[]),
        subnet("subnet-2", 90, &[(ROLE, "1")]),
        subnet("subnet-3", 70, &[(ROLE, "1")]),
    ];
    let mut world = in_zone(zone);
    world.exhausted = ["subnet-2", "subnet-3"].map(SubnetId::new).into();
    pods(&mut world, 0..5);
    assert_eq!(created(&world), ["subnet-2", "subnet-3", "subnet-1"]);
    assert_eq!(looks(&world), 1);
}

/// The primary ENI's subnet is exhausted before anything is known of others: the pod waits for the look, and is not refused.
#[test]
fn pods_wait_for_the_tags_when_the_nodes_own_subnet_is_exhausted() {
    let mut world = World::new(tagged());
    world.zone = vec![
        subnet("subnet-1", 0, &[]),
        subnet("subnet-2", 90, &[(ROLE, "1")]),
    ];
    world.exhausted = [SubnetId::new("subnet-1")].into();
    world.step(super::world::fresh());
    world.calm();
    let pod = world.add(0, 60_000);
    world.calm();
    granted(&world, pod);
    assert_eq!(created(&world), ["subnet-2"]);
}

#[test]
fn tags_mean_what_they_mean_to_aws_node() {
    let mine = "cni.networking.k8s.aws/cluster/mine";
    let other = "cni.networking.k8s.aws/cluster/other";
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], bool);
    let table: &[Case<'_>] = &[
        ("subnet-1", &[], true),
        ("subnet-1", &[(ROLE, "1")], true),
        ("subnet-1", &[(ROLE, "0")], false),
        ("subnet-1", &[(ROLE, "")], true),
        ("subnet-1", &[(ROLE, "1"), (other, "")], false),
        ("subnet-1", &[(other, "")], true),
        ("subnet-2", &[], false),
        ("subnet-2", &[(ROLE, "")], false),
        ("subnet-2", &[(ROLE, "0")], false),
        ("subnet-2", &[(ROLE, "1")], true),
        ("subnet-2", &[(ROLE, "true")], true),
        ("subnet-2", &[(ROLE, "1"), (mine, "")], true),
        ("subnet-2", &[(ROLE, "1"), (other, "1")], false),
        ("subnet-2", &[(ROLE, "1"), (other, "1"), (mine, "0")], true),
        ("subnet-2", &[(mine, "1")], false),
        (
            "subnet-2",
            &[("kubernetes.io/cluster/mine", "owned")],
            false,
        ),
    ];
    for (id, tags, is_used) in table {
        // The other one is for pods and has less room.
        let sure = subnet("subnet-9", 1, &[(ROLE, "1")]);
        let mut world = in_zone(vec![subnet(id, 90, tags), sure]);
        pods(&mut world, 0..4);
        let made = created(&world);
        assert_eq!(
            made.first(),
            Some(&if *is_used { *id } else { "subnet-9" }),
            "{id} {tags:?}"
        );
    }
}

#[test]
fn where_the_tags_cannot_be_read_enis_are_made_in_the_nodes_own_subnet_and_a_person_is_told() {
    for kind in [
        CallErrorKind::Refused,
        CallErrorKind::Unavailable,
        CallErrorKind::Throttled,
    ] {
        let mut world = in_zone(vec![subnet("subnet-2", 90, &[(ROLE, "1")])]);
        pods(&mut world, 0..2);
        world.add(2, 60_000);
        let pod = world.add(3, 60_000);
        world.until_to_do(is_look);
        carry_out(&mut world, is_look, Fate::Fails(kind));
        world.calm();
        granted(&world, pod);
        assert_eq!(created(&world).first(), Some(&"subnet-1"), "{kind:?}");
        let told =
            |it: &&String| it.contains("can't be read") && it.contains("ec2:DescribeSubnets");
        assert_eq!(
            world.told.iter().filter(told).count(),
            1,
            "{:?}",
            world.told
        );
        assert_eq!(world.state.mode(), Mode::Normal);
    }
}

#[test]
fn a_look_that_does_not_come_back_holds_an_eni_up_for_five_seconds() {
    let mut world = in_zone(vec![subnet("subnet-2", 90, &[(ROLE, "1")])]);
    pods(&mut world, 0..2);
    world.add(2, 60_000);
    let pod = world.add(3, 60_000);
    world.until_to_do(is_look);
    let before = world.now;
    for _ in 0..100 {
        if world.answers.contains_key(&pod) {
            break;
        }
        if let Some(at) = world.todo.iter().position(|effect| !is_look(effect)) {
            world.carry_out(at, Fate::Works);
        } else if !world.replies.is_empty() {
            world.deliver(0);
        } else {
            world.advance(1_000);
        }
    }
    assert_eq!(created(&world), ["subnet-1"]);
    let waited = world.now - before;
    assert!((5_000..=6_000).contains(&waited), "{waited}");
    granted(&world, pod);
}

#[test]
fn the_tags_are_looked_at_anew_when_a_subnet_has_gone() {
    let mut world = in_zone(vec![subnet("subnet-2", 90, &[(ROLE, "1")])]);
    pods(&mut world, 0..4);
    assert_eq!((looks(&world), created(&world)), (1, vec!["subnet-2"]));
    world.zone = vec![subnet("subnet-3", 90, &[(ROLE, "1")])];
    pods(&mut world, 4..5);
    world.add(5, 60_000);
    let pod = world.add(6, 60_000);
    let create = |effect: &Effect| is_call(effect, "CreateNetworkInterface");
    world.until_to_do(create);
    carry_out(&mut world, create, Fate::Fails(CallErrorKind::NotFound));
    world.go_on_until(|world| looks(world) == 2);
    world.calm();
    granted(&world, pod);
    assert_eq!(created(&world).last(), Some(&"subnet-3"));
}

#[test]
fn what_tags_said_is_looked_at_anew_when_an_hour_has_passed_and_an_eni_is_to_be_made() {
    let mut world = in_zone(vec![subnet("subnet-2", 90, &[(ROLE, "1")])]);
    pods(&mut world, 0..4);
    world.zone = vec![subnet("subnet-3", 90, &[(ROLE, "1")])];
    world.advance(2 * 3_600_000);
    world.calm();
    assert_eq!(looks(&world), 1, "no ENI is to be made");
    pods(&mut world, 4..7);
    assert_eq!(
        (looks(&world), created(&world)),
        (2, vec!["subnet-2", "subnet-3"])
    );
}

/// As the README of aws-node has it: `kubernetes.io/role/cni=0` on the node's own subnet keeps pods off it.
#[test]
fn no_pod_gets_an_address_of_a_subnet_that_is_tagged_as_not_for_pods() {
    let mut world = in_zone(vec![
        subnet("subnet-1", 50, &[(ROLE, "0")]),
        subnet("subnet-2", 90, &[(ROLE, "1")]),
    ]);
    pods(&mut world, 0..4);
    assert_eq!(created(&world), ["subnet-2"]);
    assert!(
        world.told.iter().any(|it| it.contains("not for pods")),
        "{:?}",
        world.told
    );
    world.del(0);
    world.go_on_until(|world| world.state.view().ipv4.cooling == 0);
    let pod = world.add(9, 60_000);
    world.calm();
    assert_ne!(only(&granted(&world, pod)).eni, EniId::new("eni-0"));
    // What the pod has left goes back, and pods that are there stay.
    world.go_on_until(|world| world.state.view().enis[0].slots.len() == 2);
    world.calm();
    for n in 1..3 {
        assert!(world.state.grant_of(&sandbox(n)).is_some());
    }
    // So it is after a restart.
    world.restart(None);
    world.calm();
    for n in 10..12 {
        let pod = world.add(n, 60_000);
        world.calm();
        assert_ne!(only(&granted(&world, pod)).eni, EniId::new("eni-0"));
    }
    assert_eq!(looks(&world), 1);
}

#[test]
fn an_eni_in_a_subnet_that_is_no_longer_for_pods_goes_when_its_last_pod_has_left() {
    let mut world = in_zone(vec![
        subnet("subnet-1", 50, &[(ROLE, "1")]),
        subnet("subnet-2", 90, &[(ROLE, "1")]),
    ]);
    pods(&mut world, 0..4);
    assert_eq!(created(&world), ["subnet-2"]);
    world.zone = vec![
        subnet("subnet-1", 50, &[(ROLE, "1")]),
        subnet("subnet-2", 90, &[(ROLE, "0")]),
    ];
    world.advance(2 * 3_600_000);
    // One on the ENI that is there, and one for which another is made.
    pods(&mut world, 4..7);
    assert_eq!(created(&world), ["subnet-2", "subnet-1"]);
    let gone = EniId::new("eni-1");
    let left = |world: &World| {
        world
            .state
            .view()
            .enis
            .iter()
            .all(|eni| eni.id.as_ref() != Some(&gone))
    };
    for n in 0..7 {
        let grant = world.state.grant_of(&sandbox(n)).expect("granted");
        if only(&grant).eni == gone {
            assert!(!left(&world));
            world.del(n);
        }
    }
    for _ in 0..30 {
        world.calm();
        world.advance(10_000);
    }
    assert!(left(&world), "{:?}", world.state.view().enis);
    assert_eq!(world.leaked(), []);
}

#[test]
fn where_no_subnet_is_for_pods_the_refusal_says_which_tags_say_so() {
    let mut world = in_zone(vec![subnet("subnet-1", 50, &[(ROLE, "0")])]);
    pods(&mut world, 0..3);
    let pod = world.add(3, 60_000);
    world.calm();
    let refusal = refused(&world, pod);
    assert_eq!(refusal.reason, Reason::PoolExhausted);
    for words in ["subnet-1", "eu-west-1a"] {
        assert!(refusal.message.contains(words), "{refusal:?}");
    }
    assert!(
        refusal.remedy.contains("kubernetes.io/role/cni=1"),
        "{refusal:?}"
    );
    assert!(created(&world).is_empty());
    // Somebody tags one: a pod that comes later finds it.
    world.zone = vec![subnet("subnet-2", 50, &[(ROLE, "1")])];
    world.advance(5 * 60_000);
    let pod = world.add(4, 60_000);
    world.calm();
    granted(&world, pod);
}

/// How often a person was told this.
fn told(world: &World, what: &str) -> usize {
    world.told.iter().filter(|it| it.contains(what)).count()
}

#[test]
fn people_are_told_once_which_tags_keep_pods_away() {
    let (not_for_pods, nowhere) = ("is tagged as not for pods", "no ENI is made");
    let mut world = in_zone(vec![subnet("subnet-1", 50, &[(ROLE, "1")])]);
    pods(&mut world, 0..4);
    assert_eq!(looks(&world), 1);
    assert_eq!((told(&world, not_for_pods), told(&world, nowhere)), (0, 0));
    // The tag is turned, and each hour somebody wants more than there is.
    world.zone = vec![subnet("subnet-1", 50, &[(ROLE, "0")])];
    for hour in 0..3 {
        world.advance(2 * 3_600_000);
        world.calm();
        for n in 10..20 {
            world.add(hour * 10 + n, 1_000);
        }
        world.calm();
        world.advance(1_000);
        world.calm();
    }
    assert_eq!(looks(&world), 4);
    assert_eq!((told(&world, not_for_pods), told(&world, nowhere)), (1, 1));
}

#[test]
fn what_tags_said_is_believed_for_an_hour_where_subnets_have_room() {
    let mut world = in_zone(vec![subnet("subnet-2", 90, &[(ROLE, "1")])]);
    pods(&mut world, 0..4);
    world.advance(3_000_000);
    world.calm();
    pods(&mut world, 4..7);
    assert_eq!(
        (looks(&world), created(&world)),
        (1, vec!["subnet-2", "subnet-2"])
    );
}

fn custom(groups: &[&str]) -> Settings {
    Settings {
        subnets: Subnets::Custom(SubnetChoice {
            id: SubnetId::new("subnet-7"),
            groups: groups.iter().map(|id| SecurityGroupId::new(*id)).collect(),
        }),
        ..targets(1, 0)
    }
}

/// #3277, karpenter#2273: with custom networking the primary ENI counts for nothing, and the node becomes ready all the same.
#[test]
fn with_custom_networking_the_primary_eni_gives_nothing_and_the_first_pod_waits_for_the_first_eni()
{
    let mut world = World::new(custom(&["sg-7"]));
    world.step(super::world::fresh());
    world.until_to_do(|effect| is_call(effect, "DescribeNetworkInterfaces"));
    let pod = world.add(0, 60_000);
    world.calm();
    let given = granted(&world, pod);
    assert_eq!(only(&given).place.device_index, 1);
    assert!(world.state.readiness(Time(world.now)).is_ok());
    let first = world
        .asked
        .iter()
        .find(|call| matches!(call, Call::CreateEni { .. }));
    let Some(Call::CreateEni { subnet, groups, .. }) = first else {
        panic!("no ENI was made");
    };
    assert_eq!(
        (subnet.as_str(), groups.as_slice()),
        ("subnet-7", &[SecurityGroupId::new("sg-7")][..])
    );
    let on_primary = |call: &&Call| call.eni().is_some_and(|eni| eni.as_str() == "eni-0");
    assert_eq!(world.asked.iter().find(on_primary), None);
    assert_eq!(looks(&world), 0);
}

/// Capacity is that of the ENIs that pods may use: two of three, of three addresses each.
#[test]
fn with_custom_networking_a_full_node_says_what_the_primary_eni_has_to_do_with_it() {
    let mut world = World::new(custom(&[]));
    world.step(super::world::fresh());
    world.calm();
    pods(&mut world, 0..6);
    assert_eq!(world.state.view().ipv4.owned, 6);
    let pod = world.add(6, 60_000);
    world.calm();
    let refusal = refused(&world, pod);
    assert_eq!(refusal.reason, Reason::PoolExhausted);
    assert!(refusal.message.contains("all 6 addresses"), "{refusal:?}");
    assert!(
        refusal.message.contains("1 more give pods nothing"),
        "{refusal:?}"
    );
    let groups = world.asked.iter().filter_map(|call| match call {
        Call::CreateEni { groups, .. } => Some(groups.clone()),
        _ => None,
    });
    assert!(
        groups.into_iter().all(|it| it == node().security_groups),
        "the primary's"
    );
}

/// A node on which custom networking is switched on: pods that are on the primary ENI stay there, and what they leave goes back.
#[test]
fn what_the_primary_eni_held_before_custom_networking_goes_back_as_pods_leave_it() {
    let mut world = World::started(targets(1, 0));
    pods(&mut world, 0..2);
    world.restart_with(custom(&[]));
    world.calm();
    let pod = world.add(2, 60_000);
    world.calm();
    assert_eq!(only(&granted(&world, pod)).place.device_index, 1);
    world.del(0);
    world.go_on_until(|world| world.state.view().enis[0].slots.len() == 1);
    assert!(world.state.grant_of(&sandbox(1)).is_some());
    world.del(1);
    world.go_on_until(|world| world.state.view().enis[0].slots.is_empty());
    world.calm();
}

/// MANAGE_UNTAGGED_ENI: an ENI that somebody else made serves pods, and is never taken off the node.
#[test]
fn a_borrowed_eni_serves_pods_and_is_neither_detached_nor_changed() {
    let mut world = World::started(targets(1, 0));
    let eni = world.make_eni(None, Some((SlotKind::Address, 2)), 0).id;
    let facts = world.eni(eni.as_str());
    facts.borrowed = true;
    facts.attachment = Some(Attachment {
        id: AttachmentId::new("attach-borrowed"),
        place: Place {
            card: 0,
            device_index: 1,
        },
        complete: true,
        delete_on_termination: false,
    });
    world.step(Event::Doubt);
    world.calm();
    pods(&mut world, 0..5);
    let on_it = |n: &u32| {
        let grant = world.state.grant_of(&sandbox(*n));
        grant.is_some_and(|grant| grant.addresses.iter().any(|it| it.eni == eni))
    };
    assert!((0..5).any(|n| on_it(&n)));
    for n in 0..5 {
        world.del(n);
    }
    world.advance(10 * 60_000);
    for _ in 0..60 {
        world.calm();
        world.advance(30_000);
    }
    let touched = world.asked.iter().filter(|call| {
        let ends = matches!(
            call,
            Call::DetachEni { .. } | Call::DeleteEni { .. } | Call::DeleteOnTermination { .. }
        );
        ends && call.eni() == Some(&eni)
    });
    assert_eq!(touched.collect::<Vec<_>>(), Vec::<&Call>::new());
    assert!(
        world
            .state
            .view()
            .enis
            .iter()
            .any(|it| it.id.as_ref() == Some(&eni))
    );
}
