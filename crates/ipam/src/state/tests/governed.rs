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
