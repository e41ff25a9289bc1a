//! Short ways to bring a world somewhere and to look at it.

use std::time::Duration;

use super::world::{Fate, World, settings, targets};
use crate::*;

pub(super) fn granted(world: &World, request: RequestId) -> Grant {
    match world.answers.get(&request) {
        Some(Answer::Granted(grant)) => grant.clone(),
        other => panic!("not granted: {other:?}"),
    }
}

pub(super) fn refused(world: &World, request: RequestId) -> Refusal {
    match world.answers.get(&request) {
        Some(Answer::Refused(refusal)) => refusal.clone(),
        other => panic!("not refused: {other:?}"),
    }
}

/// All nine addresses owned.
pub(super) fn full() -> World {
    let mut world = World::started(targets(0, 0));
    for n in 0..9 {
        world.add(n, 60_000);
    }
    world.calm();
    world
}

/// So many ENIs more than pods need.
pub(super) fn warm_enis(eni: u32) -> Warm {
    Warm::Targets(WarmTargets {
        eni: Some(eni),
        ..WarmTargets::default()
    })
}

/// Four pods, which took two ENIs, have just gone, and nothing is kept warm: one ENI is too much. With what EC2 showed
/// while they were there.
pub(super) fn one_eni_too_many() -> (World, [EniFacts; 2]) {
    let mut settings = settings(Families::V4, false, warm_enis(0));
    settings.cooldown = Duration::ZERO;
    let mut world = World::started(settings);
    for n in 0..4 {
        world.add(n, 90_000);
    }
    world.calm();
    let before = ["eni-0", "eni-1"].map(|id| world.eni(id).clone());
    for n in 0..4 {
        world.del(n);
    }
    (world, before)
}

/// Carries out the first thing to do that this is true of.
pub(super) fn carry_out(world: &mut World, what: impl Fn(&Effect) -> bool, fate: Fate) {
    let at = world.todo.iter().position(what).expect("to be done");
    world.carry_out(at, fate);
    world.deliver(world.replies.len().wrapping_sub(1));
}

/// A second in which all that is to do is done, each with its fate, and all replies come.
pub(super) fn second(world: &mut World, fate: impl Fn(&Effect) -> Fate) {
    while let Some(effect) = world.todo.first() {
        let fate = fate(effect);
        world.carry_out(0, fate);
    }
    while !world.replies.is_empty() {
        world.deliver(0);
    }
    world.advance(1_000);
}

pub(super) fn is_call(effect: &Effect, action: &str) -> bool {
    matches!(effect, Effect::Call(_, call) if call.action() == action)
}

/// Of a node with one family.
pub(super) fn only(grant: &Grant) -> &GrantedAddress {
    let [address] = grant.addresses.as_slice() else {
        panic!("not one address: {grant:?}");
    };
    address
}
