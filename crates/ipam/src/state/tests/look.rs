//! Short ways to bring a world somewhere and to look at it.

use super::world::{Fate, World, targets};
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

/// Carries out the first thing to do that this is true of.
pub(super) fn carry_out(world: &mut World, what: impl Fn(&Effect) -> bool, fate: Fate) {
    let at = world.todo.iter().position(what).expect("to be done");
    world.carry_out(at, fate);
    world.deliver(world.replies.len().wrapping_sub(1));
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
