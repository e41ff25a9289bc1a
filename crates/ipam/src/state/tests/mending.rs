//! Who waits for what an ENI in trouble will have, and who waits in vain.

use super::look::{carry_out, granted, refused};
use super::world::{Fate, World, fresh, node, settings, warm_ips};
use crate::CallErrorKind::Other;
use crate::*;

fn set_up(effect: &Effect) -> bool {
    matches!(effect, Effect::SetUpEni(_))
}

fn routes(effect: &Effect) -> bool {
    matches!(effect, Effect::Route { .. })
}

fn assigns(effect: &Effect) -> bool {
    matches!(effect, Effect::Call(_, Call::Assign { .. }))
}

/// Nothing but what who waits needs, on an instance that has one ENI and may have no more.
fn alone(families: Families, delegation: bool, prefixes: bool) -> World {
    let nothing = warm_ips(0, 0);
    let mut node = node();
    node.limits.enis_per_card = vec![1];
    node.limits.prefixes = prefixes;
    let mut world = World::on(node, settings(families, delegation, nothing));
    world.step(fresh());
    world
}

/// All but this is done.
fn all_but(world: &mut World, what: impl Fn(&Effect) -> bool) {
    loop {
        if let Some(at) = world.todo.iter().position(|it| !what(it)) {
            world.carry_out(at, Fate::Works);
        } else if !world.replies.is_empty() {
            world.deliver(0);
        } else {
            return;
        }
    }
}

fn answered(world: &World, requests: &[RequestId]) -> usize {
    let answered = requests.iter();
    answered.filter(|it| world.answers.contains_key(it)).count()
}

/// The node may have so many pods. Some are served; then the ENI is asked for more, and what comes with the answer to
/// what was asked for before can't be routed.
fn waits_as_far_as_there_is_room(mut world: World, served: u32, then: u32, most: u32) {
    world.calm();
    for n in 0..served {
        world.add(n, 600_000);
    }
    all_but(&mut world, routes);
    assert!(world.todo.iter().any(routes));
    let mut waiting: Vec<_> = (served..served + then)
        .map(|n| world.add(n, 600_000))
        .collect();
    assert!(world.todo.iter().any(assigns), "{:?}", world.todo);
    carry_out(&mut world, routes, Fate::Fails(Other));
    waiting.extend((served + then..most).map(|n| world.add(n, 600_000)));
    assert_eq!(answered(&world, &waiting), 0, "all may be served");
    let too_many = world.add(most, 600_000);
    assert!(matches!(
        refused(&world, too_many).reason,
        Reason::PoolExhausted | Reason::EniFailed
    ));
    assert_eq!(answered(&world, &waiting), 0, "all may be served");
    for _ in 0..6 {
        world.calm();
        world.advance(1_000);
    }
    for request in waiting {
        granted(&world, request);
    }
}

#[test]
fn as_many_wait_for_an_eni_in_trouble_as_it_has_was_asked_for_and_has_room_for() {
    waits_as_far_as_there_is_room(alone(Families::V4, false, true), 1, 1, 3);
    waits_as_far_as_there_is_room(alone(Families::V4, true, true), 16, 1, 48);
    // A type without prefixes, whatever the settings say.
    waits_as_far_as_there_is_room(alone(Families::V4, true, false), 1, 1, 3);
}

#[test]
fn a_pod_waits_for_ipv6_of_an_eni_whose_link_is_slow_to_come() {
    for (families, asked) in [
        (Families::V6, false),
        (Families::V6, true),
        (Families::Dual, false),
        (Families::Dual, true),
    ] {
        let mut world = alone(families, false, true);
        // Whether it was asked for a prefix before, or can be asked for one only then.
        let before = asked.then(|| world.add(0, 60_000));
        all_but(&mut world, |it| assigns(it) || set_up(it));
        assert_eq!(world.todo.iter().any(assigns), asked);
        carry_out(&mut world, set_up, Fate::Fails(Other));
        let after = world.add(1, 60_000);
        for _ in 0..6 {
            world.calm();
            world.advance(1_000);
        }
        for request in before.into_iter().chain([after]) {
            granted(&world, request);
        }
    }
}

#[test]
fn a_pod_does_not_wait_for_ipv6_of_an_instance_type_without_prefixes() {
    let mut world = alone(Families::V6, false, false);
    world.until_to_do(set_up);
    carry_out(&mut world, set_up, Fate::Fails(Other));
    let request = world.add(0, 60_000);
    assert!(world.answers.contains_key(&request));
}
