//! ENIs keep up with the primary ENI's security groups.

use super::look::{carry_out, granted, is_call};
use super::world::{Fate, World, fresh, targets};
use crate::*;

/// Three pods of each ENI, and warm addresses on two ENIs beside the primary.
fn three_enis(settings: Settings) -> World {
    let mut world = World::started(settings);
    for n in 0..5 {
        world.add(n, 60_000);
        world.calm();
    }
    world.go_on_until(|world| {
        let view = world.state.view();
        view.enis.len() == 3 && view.enis.iter().all(|eni| eni.state == EniState::Ready)
    });
    world.calm();
    world
}

/// Which ENIs were given which groups.
fn set(world: &World) -> Vec<(&str, Vec<&str>)> {
    let calls = world.asked.iter().filter_map(|call| match call {
        Call::SetGroups { eni, groups } => Some((
            eni.as_str(),
            groups.iter().map(SecurityGroupId::as_str).collect(),
        )),
        _ => None,
    });
    calls.collect()
}

fn groups_of(world: &mut World, eni: &str) -> Vec<String> {
    let groups = world.eni(eni).security_groups.iter();
    groups.map(|it| it.as_str().to_owned()).collect()
}

fn sets(effect: &Effect) -> bool {
    matches!(effect, Effect::Call(_, Call::SetGroups { .. }))
}

#[test]
fn when_the_primarys_groups_change_each_other_eni_gets_them_with_one_call() {
    let mut world = three_enis(targets(4, 0));
    world.regroup(&["sg-1"], true);
    world.calm();
    assert_eq!(set(&world), [], "they are the same");
    world.regroup(&["sg-2", "sg-3"], true);
    world.calm();
    let both = vec!["sg-2", "sg-3"];
    assert_eq!(
        set(&world),
        [("eni-1", both.clone()), ("eni-2", both.clone())]
    );
    for _ in 0..20 {
        world.regroup(&["sg-3", "sg-2"], true);
        world.advance(30_000);
        world.calm();
    }
    assert_eq!(set(&world).len(), 2, "their order means nothing");
    world.imds = true;
    world.crash_after_write();
    world.calm();
    assert_eq!(set(&world).len(), 2, "the books remember");
}

#[test]
fn an_eni_that_is_made_after_a_change_is_made_with_the_new_groups() {
    let mut world = World::started(targets(1, 0));
    world.regroup(&["sg-2"], true);
    for n in 0..5 {
        world.add(n, 60_000);
        world.calm();
    }
    assert_eq!(groups_of(&mut world, "eni-1"), ["sg-2"]);
    assert_eq!(set(&world), []);
}

#[test]
fn wherever_a_change_meets_the_making_of_an_eni_it_has_the_new_groups_in_the_end() {
    for after in 0..24 {
        for looks in [true, false] {
            let mut world = World::started(targets(1, 0));
            for n in 0..4 {
                world.add(n, 60_000);
            }
            for _ in 0..after {
                if world.todo.is_empty() {
                    world.deliver(0);
                } else {
                    world.carry_out(0, Fate::Works);
                }
            }
            world.regroup(&["sg-2"], looks);
            if !looks {
                world.crash(true);
            }
            for _ in 0..60 {
                world.calm();
                world.advance(5_000);
            }
            let what = format!("after {after}, looks: {looks}");
            let ours = world.state.ledger().enis.into_iter().skip(1);
            for eni in ours.filter(|eni| eni.link.is_some()) {
                let groups = groups_of(&mut world, eni.id.as_str());
                assert_eq!(groups, ["sg-2"], "{what}");
            }
            assert!(set(&world).len() <= 1, "{what}: {:?}", set(&world));
        }
    }
}

#[test]
fn what_changed_while_ipamd_was_down_is_made_up_for() {
    for imds in [false, true] {
        let mut world = three_enis(targets(4, 0));
        world.regroup(&["sg-2"], false);
        world.imds = imds;
        world.crash(false);
        world.calm();
        for eni in ["eni-1", "eni-2"] {
            assert_eq!(groups_of(&mut world, eni), ["sg-2"], "IMDS: {imds}");
        }
        assert_eq!(set(&world).len(), 2, "IMDS: {imds}");
    }
}

#[test]
fn enis_whose_groups_the_books_do_not_tell_get_them_once() {
    let mut world = three_enis(targets(4, 0));
    for eni in &mut world.disk.enis {
        eni.groups.clear();
    }
    world.imds = true;
    world.crash(false);
    world.calm();
    assert_eq!(set(&world).len(), 2);
    world.crash_after_write();
    world.calm();
    assert_eq!(set(&world).len(), 2);
}

#[test]
fn groups_that_others_gave_an_eni_are_taken_back_when_ec2_tells_of_them() {
    let mut world = three_enis(targets(4, 0));
    world.eni("eni-1").security_groups = vec![SecurityGroupId::new("sg-9")];
    world.advance(60_000);
    world.step(Event::Doubt);
    world.calm();
    assert_eq!(set(&world), [("eni-1", vec!["sg-1"])]);
    assert_eq!(groups_of(&mut world, "eni-1"), ["sg-1"]);
}

/// EC2 does not always see its own changes at once.
#[test]
fn a_describe_that_is_older_than_the_change_is_not_believed() {
    let mut world = three_enis(targets(4, 0));
    world.step(Event::Doubt);
    let describes = |effect: &Effect| is_call(effect, "DescribeNetworkInterfaces");
    let at = world.todo.iter().position(describes).expect("it asks");
    world.carry_out(at, Fate::Works);
    world.regroup(&["sg-2"], true);
    while world.todo.iter().any(sets) {
        let at = world.todo.iter().position(sets).unwrap();
        world.carry_out(at, Fate::Works);
        world.deliver(1);
    }
    assert_eq!(set(&world).len(), 2);
    // The old view comes now.
    world.calm();
    assert_eq!(set(&world).len(), 2);
}

#[test]
fn with_custom_networking_groups_are_the_eni_configs_to_say() {
    for groups in [vec![], vec![SecurityGroupId::new("sg-own")]] {
        let mut world = three_enis(Settings {
            subnets: Subnets::Custom(SubnetChoice {
                id: SubnetId::new("subnet-2"),
                groups: groups.clone(),
            }),
            ..targets(1, 0)
        });
        world.regroup(&["sg-2"], true);
        world.calm();
        assert_eq!(set(&world), [], "{groups:?}");
    }
}

#[test]
fn an_eni_of_a_subnet_with_groups_of_its_own_keeps_them() {
    let own = vec![SecurityGroupId::new("sg-own")];
    let mut world = World::new(Settings {
        subnets: Subnets::Listed(vec![SubnetChoice {
            id: SubnetId::new("subnet-2"),
            groups: own,
        }]),
        ..targets(4, 0)
    });
    world.step(fresh());
    world.calm();
    world.exhausted.insert(SubnetId::new("subnet-1"));
    for n in 0..5 {
        world.add(n, 60_000);
        world.calm();
    }
    world.go_on_until(|world| world.state.view().enis.len() == 3);
    world.calm();
    world.regroup(&["sg-2"], true);
    world.calm();
    let at_home = world.eni("eni-1").subnet_id.as_str() == "subnet-1";
    assert_eq!(groups_of(&mut world, "eni-2"), ["sg-own"]);
    assert_eq!(set(&world).len(), usize::from(at_home));
}

/// Whoever made an ENI decides on its groups: one that is borrowed, and one that is not for pods at all.
#[test]
fn enis_of_others_keep_their_groups() {
    for (managed, borrowed) in [(true, true), (false, false)] {
        let mut world = World::started(targets(1, 0));
        let eni = world.make_eni(None, Some((SlotKind::Address, 2)), 0).id;
        let facts = world.eni(eni.as_str());
        (facts.managed, facts.borrowed) = (managed, borrowed);
        facts.attachment = Some(Attachment {
            id: AttachmentId::new("attach-foreign"),
            place: Place {
                card: 0,
                device_index: 1,
            },
            complete: true,
            delete_on_termination: false,
        });
        world.step(Event::Doubt);
        world.calm();
        world.regroup(&["sg-2"], true);
        world.calm();
        assert_eq!(set(&world), [], "managed: {managed}");
    }
}

/// #1341, case 59: the pool works on, and it is tried again. Told once, not each time.
#[test]
fn refused_groups_hold_no_pod_up_and_are_tried_again_more_and_more_seldom() {
    let mut world = three_enis(targets(4, 0));
    world.regroup(&["sg-2"], true);
    for _ in 0..2 {
        carry_out(&mut world, sets, Fate::Fails(CallErrorKind::Refused));
    }
    let told = |world: &World| {
        let told = world
            .told
            .iter()
            .filter(|it| it.contains("security groups"));
        told.cloned().collect::<Vec<_>>()
    };
    let [sentence] = &told(&world)[..] else {
        panic!("{:?}", world.told);
    };
    assert!(sentence.contains("EC2's own words") && sentence.contains("Allow ec2:Modify"));
    let mut tries = 0;
    let began = world.now;
    let pod = world.add(10, 60_000);
    while world.now < began + 3_600_000 {
        world.calm_but(sets);
        while world.todo.iter().any(sets) {
            tries += 1;
            carry_out(&mut world, sets, Fate::Fails(CallErrorKind::Refused));
        }
        world.advance(5_000);
    }
    granted(&world, pod);
    assert!((20..40).contains(&tries), "{tries} tries in an hour");
    assert_eq!(told(&world).len(), 1, "{:?}", world.told);
    assert_eq!(world.state.mode(), Mode::Normal, "EC2 is well");
    world.go_on_until(|world| {
        let groups = world.state.ledger().enis.into_iter().map(|eni| eni.groups);
        groups
            .skip(1)
            .all(|it| it.iter().all(|it| it.as_str() == "sg-2"))
    });
    assert_eq!(groups_of(&mut world, "eni-2"), ["sg-2"]);
}

/// A group that was deleted in between: the next one is tried at once.
#[test]
fn other_groups_are_set_at_once_where_the_ones_before_were_refused() {
    let mut world = three_enis(targets(4, 0));
    world.regroup(&["sg-gone"], true);
    for _ in 0..2 {
        carry_out(&mut world, sets, Fate::Fails(CallErrorKind::NotFound));
    }
    assert!(!world.todo.iter().any(sets));
    world.regroup(&["sg-2"], true);
    world.calm();
    assert_eq!(groups_of(&mut world, "eni-1"), ["sg-2"]);
    assert_eq!(groups_of(&mut world, "eni-2"), ["sg-2"]);
}

#[test]
fn a_call_whose_outcome_is_not_known_is_repeated_and_nothing_else_is_asked() {
    let mut world = three_enis(targets(4, 0));
    world.asked.clear();
    world.regroup(&["sg-2"], true);
    carry_out(&mut world, sets, Fate::WorksUnknown);
    world.calm();
    world.advance(5_000);
    world.calm();
    assert_eq!(set(&world).len(), 3);
    assert!(!world.asked.contains(&Call::DescribeEnis));
}

#[test]
fn a_change_waits_for_the_call_that_is_under_way_and_for_the_end_of_mode_frozen() {
    let mut world = three_enis(targets(4, 0));
    world.step(Event::SetMode(Some(Mode::Frozen)));
    world.regroup(&["sg-2"], true);
    world.advance(600_000);
    world.calm();
    assert_eq!(set(&world), []);
    world.step(Event::SetMode(None));
    assert_eq!(set(&world).len(), 2);
    // One change of an ENI at a time: the world checks it.
    world.regroup(&["sg-3"], true);
    assert_eq!(set(&world).len(), 2);
    world.calm();
    assert_eq!(set(&world).len(), 4);
    assert_eq!(groups_of(&mut world, "eni-1"), ["sg-3"]);
}

/// Each node of a fleet has a moment of its own for what nobody waits for.
#[test]
fn in_a_large_cluster_it_waits_for_its_turn() {
    let mut world = World::new(Settings {
        cluster_size: 1_000,
        ..targets(7, 0)
    });
    world.step(fresh());
    world.add(0, 3_600_000);
    world.go_on_until(|world| world.state.view().enis.len() == 3);
    world.go_on_until(|world| world.todo.is_empty() && world.state.ledger().intents.is_empty());
    world.regroup(&["sg-2"], true);
    assert_eq!(set(&world), []);
    world.go_on_until(|world| set(world).len() == 2);
}
