//! ENIs that nobody will delete, and those that only look so.

use std::time::Duration;

use super::*;

const HOUR: Duration = Duration::from_hours(1);

fn in_cluster() -> Settings {
    Settings {
        cluster_size: 1,
        sweep: Sweep::Cluster("one".to_owned()),
        ..targets(1, 0)
    }
}

/// Of an instance that is gone, an hour old; of the cluster that the node is in.
fn orphan(id: &str) -> LooseEni {
    LooseEni {
        id: EniId::new(id),
        vpc_id: node().vpc_id,
        available: true,
        going: false,
        description: "aws-K8S-i-gone".to_owned(),
        instance: Some(InstanceId::new("i-gone")),
        cluster: Some("one".to_owned()),
        owner: Some("amazon-vpc-cni".to_owned()),
        token: None,
        no_manage: false,
        age: Some(HOUR),
    }
}

fn world(settings: Settings, loose: &[LooseEni]) -> World {
    let mut world = World::started(settings);
    loose.iter().for_each(|eni| world.leave_loose(eni.clone()));
    world
}

fn looks(world: &World) -> usize {
    let looks = |call: &&Call| matches!(call, Call::DescribeOrphans(_));
    world.asked.iter().filter(looks).count()
}

fn deletions(world: &World) -> Vec<&str> {
    let deleted = world.asked.iter().filter_map(|call| match call {
        Call::DeleteOrphan { eni } => Some(eni.as_str()),
        _ => None,
    });
    deleted.collect()
}

/// Up to the first look.
fn look(world: &mut World) {
    let before = looks(world);
    for _ in 0..24 * 60 {
        if looks(world) > before {
            return;
        }
        world.calm();
        world.advance(60_000);
    }
    panic!("it does not look within a day");
}

/// #69 (open since 2018), #608, #1223, #1927: ENIs of nodes that are gone filled the subnet.
#[test]
fn an_eni_of_an_instance_that_is_gone_is_deleted_when_it_was_seen_twice() {
    let mut world = world(in_cluster(), &[orphan("eni-left")]);
    look(&mut world);
    let first = world.now;
    world.calm();
    minutes(&mut world, 4);
    assert_eq!((looks(&world), deletions(&world).len()), (1, 0));
    minutes(&mut world, 2);
    assert_eq!(deletions(&world), ["eni-left"]);
    assert!(world.now - first <= 7 * 60_000);
    assert_eq!(world.loose.len(), 0);
    assert_eq!(looks(&world), 2);
}

/// #1109, #69: a sweeper deleted the ENI that another node was about to attach.
#[test]
fn an_eni_that_another_node_is_about_to_attach_is_not_deleted() {
    // Attached seconds after it was seen, or minutes; also where somebody's clock is wrong, and it looks old.
    for (seconds, age) in [
        (3, Some(Duration::ZERO)),
        (3, Some(HOUR)),
        (240, Some(HOUR)),
        (3, None),
    ] {
        let eni = LooseEni {
            age,
            ..orphan("eni-young")
        };
        let mut world = world(in_cluster(), &[]);
        for _ in 0..2 {
            look(&mut world);
            world.leave_loose(eni.clone());
            world.calm();
            world.advance(seconds * 1_000);
            world.loose.clear();
            minutes(&mut world, 20);
        }
        assert_eq!(deletions(&world), [] as [&str; 0], "{seconds} {age:?}");
    }
}

/// #1109, #69: the same, where its Attach fails for minutes.
#[test]
fn an_eni_that_is_younger_than_ten_minutes_is_not_deleted_however_often_it_was_seen() {
    let mut world = world(in_cluster(), &[]);
    look(&mut world);
    world.leave_loose(LooseEni {
        age: Some(Duration::ZERO),
        ..orphan("eni-young")
    });
    world.calm();
    minutes(&mut world, 9);
    assert_eq!((looks(&world), deletions(&world).len()), (2, 0));
    minutes(&mut world, 3);
    assert_eq!(deletions(&world), ["eni-young"]);
}

/// #2856: `createdAt` could not be read, and the ENI was deleted at once. Here its age counts from when it was first seen.
#[test]
fn an_eni_without_a_readable_age_is_deleted_ten_minutes_after_it_was_first_seen() {
    let eni = LooseEni {
        age: None,
        ..orphan("eni-odd")
    };
    let mut world = world(in_cluster(), &[eni]);
    look(&mut world);
    world.calm();
    minutes(&mut world, 9);
    assert_eq!((looks(&world), deletions(&world).len()), (2, 0));
    minutes(&mut world, 3);
    assert_eq!((looks(&world), deletions(&world).len()), (3, 1));
}

/// #2856, cilium's docs: the search was for the whole VPC, or the whole account.
#[test]
fn an_eni_with_the_same_tags_in_another_vpc_or_of_another_cluster_is_ignored() {
    let others = [
        LooseEni {
            vpc_id: VpcId::new("vpc-2"),
            ..orphan("eni-of-another-vpc")
        },
        LooseEni {
            cluster: Some("two".to_owned()),
            ..orphan("eni-of-another-cluster")
        },
        LooseEni {
            cluster: None,
            ..orphan("eni-of-no-cluster")
        },
        LooseEni {
            owner: Some("somebody".to_owned()),
            ..orphan("eni-of-another-owner")
        },
        LooseEni {
            description: "mine".to_owned(),
            ..orphan("eni-by-hand")
        },
        LooseEni {
            available: false,
            ..orphan("eni-in-use")
        },
    ];
    left_alone(&others);
}

/// #726, #1607, #3660: ENIs that people had marked as theirs, or never given to the CNI, were taken.
#[test]
fn an_eni_with_no_manage_or_without_our_tags_is_never_deleted() {
    let others = [
        LooseEni {
            no_manage: true,
            ..orphan("eni-no-manage")
        },
        LooseEni {
            instance: None,
            ..orphan("eni-untagged")
        },
        LooseEni {
            instance: None,
            cluster: None,
            owner: None,
            ..orphan("eni-bare")
        },
    ];
    left_alone(&others);
}

fn left_alone(others: &[LooseEni]) {
    let mut world = world(in_cluster(), others);
    // Nobody's eyes are on its own instance's alone.
    world.step(Event::Doubt);
    look(&mut world);
    world.calm();
    minutes(&mut world, 60);
    assert_eq!(deletions(&world), [] as [&str; 0]);
    assert_eq!(
        looks(&world),
        1,
        "nothing is suspect, so nothing is seen twice"
    );
}

#[test]
fn what_the_nodes_own_intents_name_is_not_left_over() {
    for (action, first) in [
        (
            "AttachNetworkInterface",
            Fate::Fails(CallErrorKind::Throttled),
        ),
        // Made, and nobody knows: only its token tells whose it is.
        ("CreateNetworkInterface", Fate::WorksUnknown),
    ] {
        let mut world = world(in_cluster(), &[]);
        for n in 0..4 {
            world.add(n, 60_000);
        }
        let waits = |it: &Effect| is_call(it, action);
        world.until_to_do(waits);
        let at = world.todo.iter().position(waits).unwrap();
        world.carry_out(at, first);
        world.deliver(0);
        // Who made it may have used another token, as in a life before.
        if action == "AttachNetworkInterface" {
            world.forget_tokens();
        }
        // The next try is not answered for as long.
        let mut later = 0;
        while later < 20 {
            later += u32::from(looks(&world) > 0);
            world.calm_but(waits);
            world.advance(60_000);
        }
        assert_eq!(deletions(&world), [] as [&str; 0], "{action}");
        minutes(&mut world, 20);
        assert_eq!(deletions(&world), [] as [&str; 0], "{action}");
        assert_eq!(world.state.view().enis.len(), 2, "{action}");
    }
}

/// #2854, #2987: some want no sweep at all (`DISABLE_LEAKED_ENI_CLEANUP`); without a cluster's name, others' can't be told.
#[test]
fn a_node_sweeps_only_as_far_as_it_may() {
    for (sweep, mode, draining, expected) in [
        (Sweep::Off, None, false, 0),
        (Sweep::Own, None, false, 0),
        (in_cluster().sweep, Some(Mode::AllocateOnly), false, 0),
        (in_cluster().sweep, Some(Mode::Frozen), false, 0),
        (in_cluster().sweep, None, true, 0),
        (in_cluster().sweep, None, false, 1),
    ] {
        let settings = Settings {
            sweep: sweep.clone(),
            ..in_cluster()
        };
        let mut world = world(settings, &[orphan("eni-left")]);
        world.step(Event::SetMode(mode));
        world.step(Event::Draining(draining));
        minutes(&mut world, 20 * 60);
        let name = format!("{sweep:?} {mode:?} {draining}");
        assert_eq!(deletions(&world).len(), expected, "{name}");
        assert_eq!(looks(&world) > 0, expected > 0, "{name}");
    }
}

/// What was seen before somebody said stop is not acted upon after.
#[test]
fn a_mode_that_stops_the_sweep_makes_it_begin_anew() {
    let mut world = world(in_cluster(), &[orphan("eni-left")]);
    look(&mut world);
    world.calm();
    world.step(Event::SetMode(Some(Mode::Frozen)));
    minutes(&mut world, 30);
    world.step(Event::SetMode(None));
    world.calm();
    assert_eq!((looks(&world), deletions(&world).len()), (2, 0));
    minutes(&mut world, 6);
    assert_eq!(deletions(&world), ["eni-left"]);
}

#[test]
fn a_deletion_that_is_refused_is_told_once_and_does_no_harm_to_the_pool() {
    let mut world = world(in_cluster(), &[orphan("eni-left")]);
    look(&mut world);
    let is_deletion = |it: &Effect| is_call(it, "DeleteNetworkInterface");
    for tries in 1..=3 {
        world.until_to_do(is_deletion);
        world.carry_out(0, Fate::Fails(CallErrorKind::Refused));
        world.deliver(0);
        assert_eq!(world.told.len(), tries / 3, "{:?}", world.told);
    }
    assert!(
        world.told[0].contains("eni-left is left over"),
        "{:?}",
        world.told
    );
    minutes(&mut world, 20);
    assert_eq!(deletions(&world).len(), 3);
    assert_eq!(world.state.view().mode, Mode::Normal);
    let requests: Vec<_> = (0..3).map(|n| world.add(n, 60_000)).collect();
    world.calm();
    for request in requests {
        granted(&world, request);
    }
}

#[test]
fn a_look_that_fails_is_repeated_a_few_times_and_then_left_to_others() {
    let mut world = world(in_cluster(), &[orphan("eni-left")]);
    for _ in 0..4 {
        let is_look = |it: &Effect| matches!(it, Effect::Call(_, Call::DescribeOrphans(_)));
        while !world.todo.iter().any(is_look) {
            world.calm_but(is_look);
            world.advance(60_000);
        }
        world.carry_out(0, Fate::Fails(CallErrorKind::Unavailable));
        world.deliver(0);
    }
    let before = world.now;
    minutes(&mut world, 20);
    assert_eq!(looks(&world), 4, "in the same hour");
    look(&mut world);
    assert!(world.now > before);
    minutes(&mut world, 10);
    assert_eq!(deletions(&world), ["eni-left"]);
}

/// #66, #1447: what was being made when the state was lost was forgotten.
#[test]
fn what_lost_books_alone_knew_is_found_and_deleted() {
    for sweep in [Sweep::Own, in_cluster().sweep] {
        for crash_again in [false, true] {
            let mut world = World::started(Settings {
                sweep: sweep.clone(),
                ..targets(1, 0)
            });
            for n in 0..4 {
                world.add(n, 60_000);
            }
            world.until_to_do(|it| is_call(it, "AttachNetworkInterface"));
            world.crash_with_books_that_are_not_trusted();
            world.calm();
            if crash_again {
                minutes(&mut world, 6);
                world.crash(false);
                world.calm();
            }
            assert_eq!(world.leaked().len(), 1);
            let seen = looks(&world);
            minutes(&mut world, 20);
            assert_eq!(world.leaked(), []);
            assert!(looks(&world) - seen <= 4);
            let asked = world.asked.len();
            minutes(&mut world, 60);
            let later = &world.asked[asked..];
            assert!(!later.contains(&Call::DescribeOrphans(Whose::Instance)));
            assert!(!world.state.ledger().orphans);
        }
    }
}

/// A detach that takes an hour (aws-node gave up after four minutes).
#[test]
fn what_is_stuck_on_its_way_off_the_node_is_waited_for_more_and_more_seldom() {
    let mut world = World::new(Settings {
        sweep: Sweep::Own,
        ..targets(1, 0)
    });
    world.crash_with_books_that_are_not_trusted();
    let stuck = LooseEni {
        available: false,
        going: true,
        instance: Some(node().instance_id),
        ..orphan("eni-stuck")
    };
    world.leave_loose(stuck.clone());
    minutes(&mut world, 180);
    assert!((9..13).contains(&looks(&world)), "{}", looks(&world));
    world.leave_loose(LooseEni {
        available: true,
        going: false,
        ..stuck
    });
    minutes(&mut world, 100);
    assert_eq!(deletions(&world), ["eni-stuck"]);
    let before = looks(&world);
    minutes(&mut world, 120);
    assert_eq!(looks(&world), before);
}

/// Only the node that takes an ENI off knows that it comes off in the end.
#[test]
fn what_is_on_its_way_off_another_node_is_not_waited_for() {
    let going = LooseEni {
        available: false,
        going: true,
        ..orphan("eni-going")
    };
    left_alone(&[going]);
}

#[test]
fn what_could_not_be_deleted_of_the_nodes_own_is_looked_for_again() {
    for sweep in [Sweep::Own, in_cluster().sweep] {
        let mut world = World::new(Settings {
            sweep,
            ..targets(1, 0)
        });
        world.crash_with_books_that_are_not_trusted();
        world.leave_loose(LooseEni {
            instance: Some(node().instance_id),
            ..orphan("eni-own")
        });
        let is_deletion = |it: &Effect| is_call(it, "DeleteNetworkInterface");
        for _ in 0..3 {
            world.until_to_do(is_deletion);
            let deleted = deletions(&world).len();
            carry_out(&mut world, is_deletion, Fate::Fails(CallErrorKind::Refused));
            assert!(!world.todo.iter().any(is_deletion), "at once");
            assert_eq!(deletions(&world).len(), deleted);
        }
        minutes(&mut world, 120);
        assert_eq!(world.loose.len(), 0);
        assert!(!world.state.ledger().orphans);
    }
}

#[test]
fn a_look_for_the_nodes_own_that_fails_is_repeated_until_ec2_tells() {
    let mut world = World::new(Settings {
        sweep: Sweep::Own,
        ..targets(1, 0)
    });
    world.crash_with_books_that_are_not_trusted();
    world.leave_loose(LooseEni {
        instance: Some(node().instance_id),
        ..orphan("eni-own")
    });
    let is_look = |it: &Effect| matches!(it, Effect::Call(_, Call::DescribeOrphans(_)));
    for _ in 0..6 {
        world.until_to_do(is_look);
        carry_out(&mut world, is_look, Fate::Fails(CallErrorKind::Unavailable));
    }
    minutes(&mut world, 180);
    assert_eq!(world.loose.len(), 0);
}

#[test]
fn a_node_that_drains_leaves_its_own_to_the_others() {
    let mut world = World::new(Settings {
        sweep: Sweep::Own,
        ..targets(1, 0)
    });
    world.crash_with_books_that_are_not_trusted();
    world.step(Event::Draining(true));
    minutes(&mut world, 60);
    assert_eq!(looks(&world), 0);
    world.step(Event::Draining(false));
    minutes(&mut world, 60);
    assert!(looks(&world) > 0);
}

/// The books are gone without a trace: what EC2 shows, or the kernel, tells that this is not the first start.
#[test]
fn a_start_without_books_on_a_node_that_has_enis_of_ours_looks_once_for_what_is_left() {
    for (enis, left) in [(0, 1), (1, 0)] {
        let mut world = World::new(Settings {
            sweep: Sweep::Own,
            ..targets(0, 1)
        });
        if enis > 0 {
            attach(&mut world, true, 1);
        }
        world.make_eni(None, None, 0);
        world.step(fresh());
        minutes(&mut world, 60);
        assert_eq!(world.leaked().len(), left);
        assert_eq!(looks(&world) > 0, left == 0);
    }
}

/// Somebody takes an ENI off the node and leaves it there.
#[test]
fn an_eni_of_ours_that_others_detached_is_deleted() {
    let mut world = World::started(Settings {
        sweep: Sweep::Own,
        ..targets(1, 0)
    });
    for n in 0..4 {
        world.add(n, 60_000);
    }
    world.calm();
    for n in 0..4 {
        world.del(n);
    }
    let asked = world.asked.len();
    world.eni("eni-1").attachment = None;
    world.advance(40_000);
    world.step(Event::Doubt);
    minutes(&mut world, 30);
    assert_eq!(world.leaked(), []);
    assert!(world.asked[asked..].contains(&Call::DeleteOrphan {
        eni: EniId::new("eni-1")
    }));
}
