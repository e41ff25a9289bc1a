//! A pool that keeps to its share of what the account may ask of EC2.

use super::look::{carry_out, granted, is_call, refused};
use super::world::{Fate, World, fresh, sandbox, targets};
use crate::*;

fn among(nodes: u32) -> Settings {
    Settings {
        cluster_size: nodes,
        ..targets(0, 0)
    }
}

fn waits_for(world: &World, n: u32) -> Vec<WaitsFor> {
    world.state.why(&sandbox(n)).expect("it waits").waits_for
}

fn is_share(it: &WaitsFor) -> bool {
    matches!(
        it,
        WaitsFor::Governor(HeldBack {
            cause: HeldBy::Share { .. },
            ..
        })
    )
}

/// Started; the turn to ask what the node holds has come and gone.
fn started(nodes: u32) -> World {
    let mut world = World::new(among(nodes));
    world.step(fresh());
    while world.asked.is_empty() {
        assert!(world.now < 300_000, "5,000 nodes, 20 a second");
        world.advance(100);
    }
    world.calm();
    world
}

#[test]
fn in_a_large_cluster_who_waits_is_told_for_which_turn_and_one_call_serves_all_who_came_meanwhile()
{
    let mut world = started(1_000);
    let first = world.add(1, 400_000);
    world.calm();
    let waits = waits_for(&world, 1);
    assert!(waits.iter().any(is_share), "{waits:?}");
    let told = waits.first().expect("something").to_string();
    assert!(
        told.contains("ask EC2 for AssignPrivateIpAddresses")
            && told.contains("one of 1000 nodes (WEIR_CLUSTER_SIZE)"),
        "{told}"
    );
    let lines = world.told.iter().filter(|it| it.contains("AssignPrivate"));
    assert_eq!(lines.count(), 1, "once: {:?}", world.told);
    world.advance(5_000);
    let last = (2..4).map(|n| world.add(n, 400_000)).last().unwrap();
    let (_, turn) = world
        .state
        .why(&sandbox(1))
        .and_then(|why| why.next(Time(world.now)).map(|(it, at)| (it.clone(), at)))
        .expect("a turn");
    world.advance(turn.0 - world.now - 1);
    assert_eq!(world.asked.len(), 1, "only the Describe: {:?}", world.asked);
    world.advance(1);
    world.calm();
    granted(&world, first);
    granted(&world, last);
    assert_eq!(world.asked.len(), 2, "{:?}", world.asked);
}

#[test]
fn pods_that_come_together_share_one_call_where_the_next_is_far() {
    let mut world = started(70);
    let asked = world.asked.len();
    let mut requests = Vec::new();
    for n in 1..4 {
        requests.push(world.add(n, 60_000));
        world.calm();
        world.advance(30);
        world.calm();
    }
    let waits = waits_for(&world, 1);
    let told = waits.first().expect("something").to_string();
    assert!(told.contains("who comes meanwhile"), "{waits:?}");
    world.advance(2_000);
    world.calm();
    for request in requests {
        granted(&world, request);
    }
    assert_eq!(world.asked.len(), asked + 1, "{:?}", world.asked);
}

#[test]
fn a_subnet_that_has_little_left_is_not_asked_for_new_enis_while_one_that_is_there_takes_it() {
    let mut world = started(1);
    world.subnet_left = 1;
    let asked = world.asked.len();
    // Three fit on the primary; six need two ENIs more.
    for n in 0..9 {
        world.add(n, 30_000);
    }
    for _ in 0..20 {
        world.calm();
        world.advance(1_000);
    }
    let actions: Vec<_> = world.asked.iter().skip(asked).map(Call::action).collect();
    let created = actions.iter().filter(|it| **it == "CreateNetworkInterface");
    assert!(created.count() <= 2, "{actions:?}");
}

#[test]
fn who_waits_in_vain_for_the_nodes_turn_is_told_of_the_setting() {
    let mut world = started(5_000);
    let request = world.add(1, 10_000);
    world.advance(10_000);
    let refusal = refused(&world, request);
    assert_eq!(refusal.reason, Reason::DeadlineExceeded);
    assert!(
        refusal.message.contains("as one of 5000 nodes")
            && refusal.remedy.contains("WEIR_CLUSTER_SIZE"),
        "{refusal:?}"
    );
}

#[test]
fn an_eni_is_begun_only_when_it_can_be_finished() {
    let mut world = started(1_000);
    for n in 0..9 {
        world.add(n, 3_600_000);
    }
    while !world
        .asked
        .iter()
        .any(|it| matches!(it, Call::CreateEni { .. }))
    {
        assert!(world.now < 3_600_000, "{:?}", world.asked);
        world.calm();
        world.advance(1_000);
    }
    let begun = world.now;
    world.calm();
    world.advance(1_000);
    world.calm();
    let actions: Vec<_> = world.asked.iter().map(Call::action).collect();
    assert!(
        actions.contains(&"AttachNetworkInterface")
            && actions.contains(&"ModifyNetworkInterfaceAttribute"),
        "not within {} ms: {actions:?}",
        world.now - begun
    );
}

#[test]
fn a_throttled_call_slows_down_its_action_alone() {
    let mut world = started(20);
    world.add(1, 60_000);
    let assign = |effect: &Effect| is_call(effect, "AssignPrivateIpAddresses");
    carry_out(&mut world, assign, Fate::Fails(CallErrorKind::Throttled));
    let now = Time(world.now);
    let governor = &mut world.state.governor;
    let held = governor.ready("AssignPrivateIpAddresses", Haste::Waiting, now);
    assert_eq!(held.map_err(|held| held.cause), Err(HeldBy::Throttled));
    assert_eq!(
        governor.ready("CreateNetworkInterface", Haste::Waiting, now),
        Ok(())
    );
}

/// Takes what the node may ask of an action now, but for what is left to pods.
fn use_up(world: &mut World, action: &'static str, haste: Haste) {
    let now = Time(world.now);
    let governor = &mut world.state.governor;
    while governor.ready(action, haste, now).is_ok() {
        governor.take(action, now);
    }
}

fn asked_for(world: &World, action: &str) -> usize {
    let actions = world.asked.iter().map(Call::action);
    actions.filter(|asked| *asked == action).count()
}

#[test]
fn no_eni_is_begun_while_it_could_not_be_attached() {
    let mut world = started(20);
    use_up(&mut world, "AttachNetworkInterface", Haste::Waiting);
    for n in 0..6 {
        world.add(n, 60_000);
    }
    world.calm();
    assert_eq!(asked_for(&world, "CreateNetworkInterface"), 0);
    // 20 nodes, 4.75 a second.
    world.advance(4_300);
    world.calm();
    assert_eq!(asked_for(&world, "CreateNetworkInterface"), 1);
    assert_eq!(asked_for(&world, "AttachNetworkInterface"), 1);
}

/// A node with two ENIs whose pods all go: one ENI is too much, as soon as it is old enough.
fn with_an_eni_too_much() -> World {
    let mut settings = Settings {
        warm: Warm::Targets(WarmTargets {
            eni: Some(0),
            ..WarmTargets::default()
        }),
        ..among(5_000)
    };
    settings.cooldown = std::time::Duration::ZERO;
    let mut world = World::new(settings);
    world.step(fresh());
    for n in 0..4 {
        world.add(n, 24 * 3_600_000);
    }
    while world.state.view().ipv4.owned < 4 {
        assert!(world.now < 12 * 3_600_000, "{:?}", world.asked);
        world.calm();
        world.advance(10_000);
    }
    world.advance(6 * 3_600_000);
    world.calm();
    world
}

#[test]
fn an_eni_is_taken_off_the_node_only_when_it_can_be_deleted_too() {
    let mut world = with_an_eni_too_much();
    use_up(&mut world, "DeleteNetworkInterface", Haste::Waiting);
    for n in 0..4 {
        world.del(n);
    }
    let begun = world.now;
    while asked_for(&world, "DetachNetworkInterface") == 0 {
        // 5,000 nodes, 4.75 a second: the next after 1,053 s.
        assert!(world.now - begun < 2_400_000, "{:?}", world.asked);
        world.calm();
        world.advance(1_000);
    }
    assert!(world.now - begun > 500_000, "{} ms", world.now - begun);
    world.calm();
    world.advance(5_000);
    world.calm();
    assert_eq!(asked_for(&world, "DeleteNetworkInterface"), 1);
    assert_eq!(world.leaked(), []);
}

#[test]
fn the_last_detach_that_the_node_may_ask_for_is_left_to_what_cannot_wait() {
    let mut world = with_an_eni_too_much();
    use_up(&mut world, "DetachNetworkInterface", Haste::Waiting);
    // One token, and a little.
    world.advance(1_100_000);
    world.calm();
    for n in 0..4 {
        world.del(n);
    }
    for _ in 0..60 {
        world.advance(10_000);
        world.calm();
    }
    let detaches = |it: &EniIntent| matches!(it.stage, IntentStage::Detach(..));
    assert!(world.disk.intents.iter().any(detaches), "{:?}", world.disk);
    assert_eq!(asked_for(&world, "DetachNetworkInterface"), 0);
}

#[test]
fn the_last_describe_that_the_node_may_ask_for_is_left_to_a_pod_that_waits() {
    let mut world = started(5_000);
    world.advance(6 * 3_600_000);
    world.calm();
    use_up(&mut world, "DescribeNetworkInterfaces", Haste::Waiting);
    // 5,000 nodes, 19 a second.
    world.advance(270_000);
    let asked = asked_for(&world, "DescribeNetworkInterfaces");
    world.step(Event::Doubt);
    world.calm();
    assert_eq!(asked_for(&world, "DescribeNetworkInterfaces"), asked);
    world.add(1, 60_000);
    world.calm();
    assert_eq!(asked_for(&world, "DescribeNetworkInterfaces"), asked + 1);
}

#[test]
fn a_pod_that_was_turned_away_for_want_of_a_turn_is_expected_back_for_half_a_minute() {
    let mut world = started(5_000);
    let request = world.add(1, 2_000);
    world.advance(2_000);
    refused(&world, request);
    assert_eq!(world.state.expected(0), 1);
    world.advance(29_000);
    assert_eq!(world.state.expected(1), 2, "with one that waits");
    world.advance(2_000);
    world.step(Event::Wake);
    assert_eq!(world.state.expected(1), 1);
}

#[test]
fn who_waits_in_vain_for_what_ec2_throttles_is_not_told_of_the_setting() {
    let mut world = started(20);
    let request = world.add(1, 1_000);
    let assign = |effect: &Effect| is_call(effect, "AssignPrivateIpAddresses");
    carry_out(&mut world, assign, Fate::Fails(CallErrorKind::Throttled));
    world.advance(1_000);
    let refusal = refused(&world, request);
    assert!(!refusal.remedy.contains("WEIR_CLUSTER_SIZE"), "{refusal:?}");
}

#[test]
fn who_waits_for_an_address_does_not_wait_for_a_turn_to_give_back() {
    let mut world = started(5_000);
    world.add(1, 400_000);
    world.calm();
    let now = Time(world.now);
    let governor = &mut world.state.governor;
    let held = governor.ready("UnassignPrivateIpAddresses", Haste::Later, now);
    assert!(held.is_err());
    let waits = waits_for(&world, 1);
    let told: Vec<String> = waits.iter().map(ToString::to_string).collect();
    assert!(told.iter().all(|it| !it.contains("Unassign")), "{told:?}");
}
