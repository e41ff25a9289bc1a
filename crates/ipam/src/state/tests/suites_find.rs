//! What the end-to-end suites found.

use super::look::{carry_out, is_call, refused};
use super::world::{Fate, World, targets};
use crate::*;

#[test]
fn a_frozen_pool_says_that_it_is_frozen_and_not_that_the_instance_is_full() {
    let mut world = World::started(targets(0, 0));
    world.step(Event::SetMode(Some(Mode::Frozen)));
    let request = world.add(1, 10_000);
    world.calm();
    let refusal = refused(&world, request);
    assert_eq!(refusal.reason, Reason::PoolFrozen);
    assert!(refusal.message.contains("frozen"), "{refusal}");
    assert!(refusal.remedy.contains("WEIR_MODE"), "{refusal:?}");
    let readiness = world.state.readiness(Time(world.now));
    assert_eq!(readiness.unwrap_err().reason, Reason::PoolFrozen);
}

#[test]
fn a_full_instance_is_full_also_when_the_pool_is_frozen() {
    let mut world = super::look::full();
    world.step(Event::SetMode(Some(Mode::Frozen)));
    let request = world.add(100, 10_000);
    world.calm();
    assert_eq!(refused(&world, request).reason, Reason::PoolExhausted);
}

#[test]
fn a_pool_never_changes_its_mode_without_a_word() {
    let mut world = World::started(targets(5, 0));
    // The refill is throttled.
    world.add(1, 60_000);
    world.calm();
    let mut normal = true;
    for _ in 0..600 {
        world.advance(500);
        while let Some(at) = world
            .todo
            .iter()
            .position(|it| matches!(it, Effect::Call(..)))
        {
            world.carry_out(at, Fate::Fails(CallErrorKind::Throttled));
        }
        world.calm();
        let mode = world.state.view().mode;
        let said = world.told.iter().any(|what| what.contains(mode.as_str()));
        assert_eq!(mode != Mode::Normal, said, "{mode}: {:?}", world.told);
        normal &= mode == Mode::Normal;
    }
    assert!(!normal, "five minutes of throttling changed nothing");
}

#[test]
fn imds_agrees_with_the_pool_until_somebody_else_changes_what_it_holds() {
    let mut world = World::started(targets(2, 0));
    world.add(1, 10_000);
    world.calm();
    assert!(world.state.agrees_with(&world.seen()));
    let taken = world.eni("eni-0").slots.pop();
    assert!(taken.is_some() && !world.state.agrees_with(&world.seen()));
}

/// Else the node keeps to itself what it should send to the new owner.
#[test]
fn what_others_took_goes_from_the_kernel_before_anything_else_comes() {
    let mut world = World::started(targets(2, 0));
    world.advance(60_000);
    let taken = world.eni("eni-0").slots.pop().expect("two are held");
    world.step(Event::Doubt);
    let describes = |effect: &Effect| is_call(effect, "DescribeNetworkInterfaces");
    carry_out(&mut world, describes, Fate::Works);
    let prepares = |world: &World| {
        let held = world.todo.iter().find_map(|effect| match effect {
            Effect::PrepareNode(held) => Some(held.clone()),
            _ => None,
        });
        held.map(|held| held.iter().any(|eni| eni.slots.contains(&taken)))
    };
    assert_eq!(prepares(&world), Some(false));
    // It would undo a route that is made meanwhile.
    world.advance(3_000);
    let assigns = |effect: &Effect| is_call(effect, "AssignPrivateIpAddresses");
    carry_out(&mut world, assigns, Fate::Works);
    let routes = |effect: &Effect| matches!(effect, Effect::Route { .. });
    assert!(!world.todo.iter().any(routes), "{:?}", world.todo);
    world.calm();
    assert_eq!(world.state.view().ipv4.free, 2);
}

#[test]
fn a_pool_that_froze_by_itself_tries_every_two_minutes_and_thaws_with_the_first_success() {
    let mut world = World::started(targets(5, 0));
    let throttle = |world: &mut World| {
        while let Some(at) = world
            .todo
            .iter()
            .position(|it| matches!(it, Effect::Call(..)))
        {
            world.carry_out(at, Fate::Fails(CallErrorKind::Throttled));
        }
        world.calm();
    };
    world.add(1, 60_000);
    let (mut asked, mut before) = (Vec::new(), world.asked.len());
    for _ in 0..3_600 {
        throttle(&mut world);
        world.advance(1_000);
        if world.asked.len() > before {
            asked.push(world.now / 1_000);
        }
        before = world.asked.len();
        // Somebody always waits.
        if world.state.view().waiters.is_empty() {
            world.add(u32::try_from(world.now / 1_000).unwrap(), 30_000);
        }
    }
    assert_eq!(world.state.view().mode, Mode::Frozen);
    let late: Vec<u64> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let frozen = &late[late.len() - 10..];
    assert!(
        frozen.iter().all(|gap| (119..=125).contains(gap)),
        "{late:?}"
    );
    world.told.clear();
    // That it may be read says nothing of whether it may be changed.
    world.step(Event::Doubt);
    let reads = |it: &Effect| is_call(it, "DescribeNetworkInterfaces");
    while !world.todo.iter().any(reads) {
        assert!(world.now < 7_200_000, "{:?}", world.todo);
        world.advance(1_000);
    }
    carry_out(&mut world, reads, Fate::Works);
    assert_eq!(world.state.view().mode, Mode::Frozen);
    world.advance(125_000);
    world.calm();
    world.add(100_000, 30_000);
    world.calm();
    assert_eq!(world.state.view().mode, Mode::Normal);
    let thawed = |what: &String| what.contains("EC2 works again");
    assert_eq!(world.told.iter().filter(|what| thawed(what)).count(), 1);
}
