//! What leaves, while something else goes on.

use ipnet::IpNet;

use super::look::{carry_out, is_call, only};
use super::world::{COOLDOWN, Fate, World, sandbox, targets};
use crate::CallErrorKind::*;
use crate::*;

fn is_unroute(effect: &Effect) -> bool {
    matches!(effect, Effect::Unroute { .. })
}

fn gives_back(effect: &Effect) -> bool {
    is_call(effect, "UnassignPrivateIpAddresses")
}

fn describes(effect: &Effect) -> bool {
    is_call(effect, "DescribeNetworkInterfaces")
}

fn prepares(effect: &Effect) -> bool {
    matches!(effect, Effect::PrepareNode(_))
}

/// The slots that are routed next.
fn to_route(world: &World) -> Option<Vec<IpNet>> {
    world.todo.iter().find_map(|effect| match effect {
        Effect::Route { slots, .. } => Some(slots.clone()),
        _ => None,
    })
}

fn leaving(world: &World) -> Vec<IpNet> {
    let enis = world.state.view().enis;
    let slots = enis.into_iter().flat_map(|eni| eni.slots);
    let leaving = slots.filter(|slot| slot.state == AddressState::Leaving);
    leaving.map(|slot| slot.slot).collect()
}

/// One of two addresses of the primary is about to be given back.
fn about_to_give_back() -> World {
    let mut world = World::started(targets(1, 0));
    world.add(1, 60_000);
    world.calm();
    world.del(1);
    world.until_to_do(is_unroute);
    world
}

/// Each ENI is full; then one pod of each goes. One address of the second and one of the third are about to be given
/// back, in this order.
fn about_to_give_back_of_two() -> (World, IpNet, IpNet) {
    let mut world = World::started(targets(1, 0));
    for n in 0..9 {
        world.add(n, 60_000);
    }
    world.calm();
    world.advance(60_000);
    world.calm();
    for index in 0..3 {
        let on = |n: &u32| {
            let grant = world.state.grant_of(&sandbox(*n));
            grant.is_some_and(|grant| only(&grant).place.device_index == index)
        };
        let one = (0..9).find(on).expect("three");
        world.del(one);
    }
    world.until_to_do(is_unroute);
    let on = |world: &mut World, id: &str| {
        let slots = world.eni(id).slots.clone();
        let left = leaving(world);
        slots
            .into_iter()
            .find(|net| left.contains(net))
            .expect("it leaves")
    };
    let (second, third) = (on(&mut world, "eni-1"), on(&mut world, "eni-2"));
    (world, second, third)
}

#[test]
fn an_eni_that_others_detach_takes_what_left_it_along_and_nothing_else() {
    let (mut world, _, third) = about_to_give_back_of_two();
    world.advance(40_000);
    world.eni("eni-1").attachment = None;
    world.step(Event::Doubt);
    carry_out(&mut world, describes, Fate::Works);
    assert_eq!(leaving(&world), [third]);
    for _ in 0..12 {
        world.calm();
        world.advance(10_000);
    }
    assert_eq!(world.state.ledger().tombstones, []);
    assert!(!world.eni("eni-2").slots.contains(&third));
}

#[test]
fn what_was_to_leave_an_eni_and_has_come_to_another_one_stays_there() {
    let (mut world, _, third) = about_to_give_back_of_two();
    world.advance(40_000);
    world.eni("eni-2").slots.retain(|net| *net != third);
    world.eni("eni-1").slots.push(third);
    world.step(Event::Doubt);
    carry_out(&mut world, describes, Fate::Works);
    assert!(!leaving(&world).contains(&third));
    world.calm();
    let enis = world.state.view().enis;
    let mut slots = enis.iter().flat_map(|eni| &eni.slots);
    let moved = slots.find(|slot| slot.slot == third).expect("held");
    assert_eq!(moved.state, AddressState::Free);
}

#[test]
fn nothing_is_given_back_while_the_pool_is_frozen() {
    let mut world = about_to_give_back();
    world.step(Event::SetMode(Some(Mode::Frozen)));
    for _ in 0..12 {
        world.calm();
        world.advance(10_000);
    }
    assert_eq!(leaving(&world).len(), 1);
    let calls = world.asked.iter();
    assert!(
        !calls
            .map(Call::action)
            .any(|it| it == "UnassignPrivateIpAddresses")
    );
    world.step(Event::SetMode(None));
    world.until_to_do(gives_back);
}

#[test]
fn nothing_is_unrouted_while_the_node_is_prepared() {
    let mut world = World::started(targets(1, 0));
    for n in 0..3 {
        world.add(n, 60_000);
    }
    world.calm();
    for n in 1..3 {
        world.del(n);
    }
    world.calm();
    // Somebody takes a pod's address away: the node is prepared anew, and that takes its time.
    let taken = world.owned[&sandbox(0)].0[0];
    world.take_away(taken);
    world.advance(40_000);
    world.step(Event::Doubt);
    carry_out(&mut world, describes, Fate::Works);
    assert!(world.todo.iter().any(prepares), "{:?}", world.todo);
    for _ in 0..12 {
        while let Some(at) = world.todo.iter().position(|it| !prepares(it)) {
            assert!(!is_unroute(&world.todo[at]));
            world.carry_out(at, Fate::Works);
        }
        while !world.replies.is_empty() {
            world.deliver(0);
        }
        world.advance(10_000);
    }
    assert_ne!(leaving(&world), []);
    carry_out(&mut world, prepares, Fate::Works);
    assert!(world.todo.iter().any(is_unroute));
}

#[test]
fn what_leaves_does_not_count_to_the_minimum() {
    let mut world = World::started(targets(1, 2));
    for n in 0..2 {
        world.add(n, 60_000);
    }
    world.calm();
    for n in 0..2 {
        world.del(n);
    }
    world.until_to_do(is_unroute);
    // Of the two that stay somebody takes one away.
    let left = leaving(&world);
    let slots = world.eni("eni-0").slots.clone();
    let stays = slots.iter().find(|net| !left.contains(net)).expect("two");
    world.take_away(stays.addr());
    world.advance(40_000);
    world.step(Event::Doubt);
    carry_out(&mut world, describes, Fate::Works);
    world.advance(3_000);
    let assigns = |effect: &Effect| is_call(effect, "AssignPrivateIpAddresses");
    assert!(world.todo.iter().any(assigns), "{:?}", world.todo);
}

#[test]
fn what_leaves_and_what_ec2_took_is_not_routed_again_with_what_comes() {
    let mut world = about_to_give_back();
    world.until_to_do(gives_back);
    let left = leaving(&world);
    // EC2 does not take it; meanwhile a pod comes, and with it another address.
    carry_out(&mut world, gives_back, Fate::Fails(Refused));
    world.add(2, 60_000);
    let assigns = |effect: &Effect| is_call(effect, "AssignPrivateIpAddresses");
    world.advance(3_000);
    world.go_on_until(|world| world.todo.iter().any(assigns));
    carry_out(&mut world, assigns, Fate::Works);
    let routed = to_route(&world).expect("something comes");
    assert!(left.iter().all(|net| !routed.contains(net)), "{routed:?}");

    let mut world = World::started(targets(1, 0));
    world.add(1, 60_000);
    world.calm();
    let taken = world.owned[&sandbox(1)].0[0];
    world.take_away(taken);
    world.advance(40_000);
    world.step(Event::Doubt);
    world.calm();
    assert_eq!(world.state.view().ipv4.quarantined, 1);
    world.add(2, 60_000);
    world.advance(3_000);
    world.go_on_until(|world| to_route(world).is_some());
    let routed = to_route(&world).expect("something comes");
    assert!(routed.iter().all(|net| !net.contains(&taken)), "{routed:?}");
}

#[test]
fn an_eni_does_not_go_before_it_would_go_with_the_instance() {
    let mut world = World::started(targets(1, 0));
    for n in 0..4 {
        world.add(n, 60_000);
    }
    let modify = |effect: &Effect| is_call(effect, "ModifyNetworkInterfaceAttribute");
    let detaches = |effect: &Effect| is_call(effect, "DetachNetworkInterface");
    world.until_to_do(modify);
    for n in 0..4 {
        world.del(n);
    }
    let began = world.now;
    while world.now < began + 4 * COOLDOWN {
        match world.todo.iter().position(modify) {
            Some(at) => carry_out_failing(&mut world, at),
            None if !world.todo.is_empty() => world.carry_out(0, Fate::Works),
            None if !world.replies.is_empty() => world.deliver(0),
            None => world.advance(1_000),
        }
        assert!(!world.todo.iter().any(detaches), "{:?}", world.todo);
    }
    world.until_to_do(detaches);
}

fn carry_out_failing(world: &mut World, at: usize) {
    world.carry_out(at, Fate::Fails(Other));
    world.deliver(world.replies.len() - 1);
}

#[test]
fn what_others_take_while_it_leaves_is_forgotten_in_time() {
    let mut world = World::started(super::world::targets(1, 0));
    for n in 0..3 {
        world.add(n, 90_000);
    }
    world.calm();
    for n in 0..3 {
        world.del(n);
    }
    world.until_to_do(|effect| matches!(effect, Effect::Unroute { .. }));
    let leaving = world.todo.iter().find_map(|effect| match effect {
        Effect::Unroute { slots, .. } => Some(slots[0]),
        _ => None,
    });
    let leaving = leaving.expect("one leaves");
    world.take_away(leaving.addr());
    world.step(Event::Doubt);
    for _ in 0..60 {
        world.calm();
        world.advance(10_000);
    }
    assert_eq!(world.state.ledger().tombstones, []);
}

#[test]
fn an_eni_does_not_go_while_a_route_of_it_is_being_made() {
    let mut world = World::started(targets(0, 0));
    for n in 0..4 {
        world.add(n, 40_000);
    }
    let routes =
        |effect: &Effect| matches!(effect, Effect::Route { eni, .. } if eni.as_str() == "eni-1");
    world.until_to_do(routes);
    world.step(Event::SetMode(Some(Mode::Normal)));
    for n in 0..4 {
        world.del(n);
    }
    // All goes on but that one.
    let until = world.now + 600_000;
    while world.now < until {
        let other = world.todo.iter().position(|effect| !routes(effect));
        if let Some(nth) = other {
            world.carry_out(nth, Fate::Works);
        } else if world.replies.is_empty() {
            world.advance(1_000);
        } else {
            world.deliver(0);
        }
    }
    let goes = |call: &Call| matches!(call, Call::DetachEni { eni, .. } if eni.as_str() == "eni-1");
    assert!(!world.asked.iter().any(goes), "{:?}", world.asked);
    world.go_on_until(|world| world.asked.iter().any(goes));
}
