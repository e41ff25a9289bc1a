//! What the kernel is compared with: what was made there, and nothing that is half-way; and what it is to forget.

use super::look::{carry_out, granted};
use super::world::{Fate, World, fresh, node, sandbox, targets};
use crate::*;

fn slots(world: &World) -> Vec<ipnet::IpNet> {
    let standing = world.state.in_kernel().unwrap_or_default();
    standing.held.into_iter().flat_map(|it| it.slots).collect()
}

#[test]
fn nothing_stands_while_the_node_is_being_prepared() {
    let mut world = World::new(targets(1, 0));
    world.step(fresh());
    let prepares = |effect: &Effect| matches!(effect, Effect::PrepareNode(_));
    world.until_to_do(prepares);
    assert_eq!(world.state.in_kernel(), None);
    carry_out(&mut world, prepares, Fate::Works);
    assert!(world.state.in_kernel().is_some());
}

#[test]
fn what_is_being_routed_does_not_stand_yet_and_what_is_being_undone_not_any_more() {
    let mut world = World::started(targets(1, 0));
    let routes = |effect: &Effect| matches!(effect, Effect::Route { .. });
    let before = slots(&world);
    assert_eq!(before.len(), 1, "the one that is to be warm");
    world.add(1, 60_000);
    world.until_to_do(routes);
    assert_eq!(slots(&world), before);
    world.calm();
    assert!(slots(&world).len() > before.len());

    let unroutes = |effect: &Effect| matches!(effect, Effect::Unroute { .. });
    world.del(1);
    for _ in 0..200 {
        world.calm_but(unroutes);
        if world.todo.iter().any(unroutes) {
            break;
        }
        world.advance(10_000);
    }
    let Some(Effect::Unroute { slots: going, .. }) = world.todo.iter().find(|it| unroutes(it))
    else {
        panic!("nothing is given back: {:?}", world.todo)
    };
    let standing = slots(&world);
    assert!(going.iter().all(|net| !standing.contains(net)));
}

#[test]
fn pods_stand_with_their_addresses_and_secondary_enis_with_their_links() {
    let mut world = World::started(targets(1, 0));
    let mut granted_to = Vec::new();
    for n in 0..4 {
        let request = world.add(n, 60_000);
        world.calm();
        let grant = granted(&world, request);
        let addresses = grant.addresses.iter().map(|it| it.address).collect();
        granted_to.push((sandbox(n), addresses));
    }
    let standing = world.state.in_kernel().unwrap();
    assert_eq!(standing.pods, granted_to);
    let places: Vec<u32> = standing
        .enis
        .iter()
        .map(|it| it.place.device_index)
        .collect();
    assert_eq!(places, [1], "the primary is the operating system's");
}

#[test]
fn an_address_is_freed_when_its_pod_goes_and_again_at_a_restart_while_it_cools() {
    let mut world = World::started(targets(1, 0));
    let request = world.add(1, 60_000);
    world.calm();
    let addresses: Vec<_> = granted(&world, request)
        .addresses
        .iter()
        .map(|it| it.address)
        .collect();
    assert!(world.state.freed().is_empty());
    let now = Time(world.now);
    let mut state = world.state.clone();
    let del = Event::Del {
        request: RequestId(99),
        sandbox: sandbox(1),
    };
    state.step(now, del);
    assert_eq!(state.freed(), addresses);
    let mut again = State::new(node(), targets(1, 0), "another");
    let books = Some(state.ledger());
    state.step(now, Event::Wake);
    assert!(state.freed().is_empty(), "it is said once");
    let start = Event::Start {
        books,
        seen: None,
        lost: false,
    };
    again.step(now, start);
    assert_eq!(again.freed(), addresses);
}

#[test]
fn what_no_pod_was_told_of_is_not_freed() {
    let mut world = World::started(targets(1, 0));
    world.add(1, 60_000);
    world.cancel(0);
    assert!(world.state.freed().is_empty());
}
