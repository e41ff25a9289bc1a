//! What the searches found, one rule each.

use super::look::{carry_out, granted, is_call, second};
use super::world::{COOLDOWN, Fate, World, fresh, targets};
use crate::*;

/// Two of three addresses are on their way out; what is to be done first is to take their routes away.
fn about_to_unroute() -> World {
    let mut world = World::started(targets(1, 0));
    for n in 0..2 {
        world.add(n, 60_000);
    }
    world.calm();
    for n in 0..2 {
        world.del(n);
    }
    world.until_to_do(is_unroute);
    world
}

fn is_unroute(effect: &Effect) -> bool {
    matches!(effect, Effect::Unroute { .. })
}

#[test]
fn routes_that_cannot_be_removed_are_tried_again_and_the_eni_serves_on() {
    let mut world = about_to_unroute();
    carry_out(&mut world, is_unroute, Fate::Fails(CallErrorKind::Other));
    world.advance(749);
    world.step(Event::PodsBound(0));
    assert!(!world.todo.iter().any(is_unroute));
    world.advance(251);
    assert!(world.todo.iter().any(is_unroute));
    for _ in 0..60 {
        world.advance(10_000);
        world.calm();
    }
    let view = world.state.view();
    assert_eq!((view.ipv4.leaving, view.ipv4.held), (0, 1));
    assert_eq!(view.enis[0].trouble, None);
    assert_eq!(world.held_by_ec2(), 1);
}

#[test]
fn an_eni_is_out_of_trouble_when_what_could_not_be_routed_is_gone() {
    let mut world = World::started(targets(1, 0));
    world.add(1, 60_000);
    let assign = |effect: &Effect| matches!(effect, Effect::Call(..));
    carry_out(&mut world, assign, Fate::Works);
    let route = |effect: &Effect| matches!(effect, Effect::Route { .. });
    let began = world.now;
    while world.now < began + COOLDOWN || world.todo.iter().any(route) {
        match world.todo.iter().position(route) {
            Some(at) => world.carry_out(at, Fate::Fails(CallErrorKind::Other)),
            None => world.advance(1_000),
        }
    }
    // Before it is tried again, somebody takes the address away.
    let slots = world.state.view().enis[0].slots.clone();
    let mut unrouted = slots.iter();
    let unrouted = unrouted.find(|slot| slot.state == AddressState::Preparing);
    world.take_away(unrouted.unwrap().slot.addr());
    world.step(Event::Doubt);
    let describe = |effect: &Effect| is_call(effect, "DescribeNetworkInterfaces");
    carry_out(&mut world, describe, Fate::Works);
    for _ in 0..10 {
        world.calm();
        world.advance(10_000);
    }
    assert_eq!(world.state.view().enis[0].trouble, None);
    for n in 2..9 {
        let request = world.add(n, 60_000);
        world.calm();
        granted(&world, request);
    }
}

#[test]
fn an_eni_that_is_ready_stays_so_when_the_reply_to_its_attachment_comes_late() {
    let mut world = World::started(targets(0, 0));
    let requests = [1, 2, 3, 4].map(|n| world.add(n, 60_000));
    let attach = |effect: &Effect| is_call(effect, "AttachNetworkInterface");
    world.until_to_do(attach);
    let at = world.todo.iter().position(attach).unwrap();
    world.carry_out(at, Fate::Works);
    world.step(Event::Doubt);
    let describe = |effect: &Effect| is_call(effect, "DescribeNetworkInterfaces");
    carry_out(&mut world, describe, Fate::Works);
    while !world.todo.is_empty() {
        world.carry_out(0, Fate::Works);
    }
    assert_eq!(world.state.view().enis[1].state, EniState::Ready);
    granted(&world, requests[3]);
    let attached = |event: &Event| {
        let Event::CallDone { outcome, .. } = event else {
            return false;
        };
        matches!(outcome, Ok(CallReply::Attached(_)))
    };
    let late = world.replies.iter().position(attached).unwrap();
    world.deliver(late);
    assert_eq!(world.state.view().enis[1].state, EniState::Ready);
    world.calm();
    assert_eq!(world.leaked(), []);
}

#[test]
fn an_eni_of_addresses_that_ec2_refuses_for_want_of_prefixes_is_not_asked_for_again_at_once() {
    let mut world = World::new(targets(4, 0));
    world.step(fresh());
    world.until_to_do(|effect| is_call(effect, "CreateNetworkInterface"));
    let mut asked = 0;
    for _ in 0..20 {
        while let Some(nth) =
            (world.todo.iter()).position(|it| is_call(it, "CreateNetworkInterface"))
        {
            asked += 1;
            world.carry_out(nth, Fate::Fails(CallErrorKind::PrefixesExhausted));
            world.deliver(world.replies.len() - 1);
        }
        while !world.todo.is_empty() && !is_call(&world.todo[0], "CreateNetworkInterface") {
            world.carry_out(0, Fate::Works);
        }
        world.advance(1_000);
    }
    assert_eq!(asked, 1);
}

#[test]
fn an_eni_that_is_shown_and_not_found_is_asked_about_less_and_less_often() {
    let mut world = World::new(targets(4, 0));
    world.step(fresh());
    let modify = "ModifyNetworkInterfaceAttribute";
    world.until_to_do(|effect| is_call(effect, modify));
    let before = world.asked.len();
    for _ in 0..1_800 {
        second(&mut world, |it| {
            if is_call(it, modify) {
                Fate::Fails(CallErrorKind::NotFound)
            } else {
                Fate::Works
            }
        });
    }
    let asked = world.asked.len() - before;
    assert!(asked < 60, "{asked} calls in half an hour");
}
