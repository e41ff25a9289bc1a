//! How often a call on the way of an ENI is made again, by what EC2 says to it, and what comes of it in the end.

use super::look::{carry_out, is_call};
use super::world::{Fate, World, fresh, targets};
use crate::CallErrorKind::{self, *};
use crate::{Call, Effect, Event};

const CREATE: &str = "CreateNetworkInterface";
const ATTACH: &str = "AttachNetworkInterface";
const MODIFY: &str = "ModifyNetworkInterfaceAttribute";
const DETACH: &str = "DetachNetworkInterface";
const DELETE: &str = "DeleteNetworkInterface";
const DESCRIBE: &str = "DescribeNetworkInterfaces";

const KINDS: [CallErrorKind; 12] = [
    Throttled,
    SubnetExhausted,
    PrefixesExhausted,
    EniLimit,
    AddressLimit,
    NotFound,
    InUse,
    InstanceNotReady,
    Refused,
    Unavailable,
    Unknown,
    Other,
];

/// What became of a call that failed and failed.
struct Tried {
    world: World,
    /// When it was made.
    at: Vec<u64>,
    /// How many of the calls before the last were followed by a Describe before they were made again.
    described: usize,
}

/// A pool on the way to one ENI more, or to one less. The call fails with these, and then with the last again and again,
/// until it is not intended any more or was made twelve times.
fn tried(action: &str, kinds: &[CallErrorKind]) -> Tried {
    let mut world = if [DETACH, DELETE].contains(&action) {
        let mut world = World::started(targets(1, 0));
        for n in 0..4 {
            world.add(n, 60_000);
        }
        world.calm();
        for n in 0..4 {
            world.del(n);
        }
        world
    } else {
        let mut world = World::new(targets(4, 0));
        world.step(fresh());
        world
    };
    world.until_to_do(|effect| is_call(effect, action));
    let first = world.state.ledger().intents[0].token.clone();
    let intended = |world: &World| {
        let intents = world.state.ledger().intents;
        intents.iter().any(|it| it.token == first)
    };
    let (mut at, mut described, mut asked) = (Vec::new(), 0, world.asked.len());
    while at.len() < 12 && intended(&world) {
        let call = world.todo.iter().position(|it| match it {
            Effect::Call(_, Call::CreateEni { token, .. }) => action == CREATE && *token == first,
            it => is_call(it, action),
        });
        if let Some(nth) = call {
            let mut since = world.asked[asked..].iter();
            described += usize::from(since.any(|call| call.action() == DESCRIBE));
            asked = world.asked.len();
            let kind = kinds.get(at.len()).or(kinds.last()).unwrap();
            at.push(world.now);
            world.carry_out(nth, Fate::Fails(*kind));
            world.deliver(world.replies.len() - 1);
        } else if !world.todo.is_empty() {
            world.carry_out(0, Fate::Works);
        } else if !world.replies.is_empty() {
            world.deliver(0);
        } else {
            world.advance(world.wake.unwrap() - world.now);
        }
    }
    Tried {
        world,
        at,
        described,
    }
}

/// After how many tries it is given up, if ever.
fn given_up(action: &str, kind: CallErrorKind) -> Option<usize> {
    match (action, kind) {
        (CREATE | ATTACH, Throttled | Unavailable | Unknown) | (CREATE, InstanceNotReady) => None,
        // Its token was used, and no ENI shows.
        (CREATE, InUse) => Some(10),
        // EC2 may not see yet what it has made, or done.
        (ATTACH | DELETE, NotFound) => Some(5),
        (ATTACH, InUse) => Some(8),
        // It boots, or it stops: EC2 has the same words for both.
        (ATTACH, InstanceNotReady) => Some(10),
        (CREATE | ATTACH, _) => Some(1),
        _ => None,
    }
}

#[test]
fn each_call_on_the_way_of_an_eni_is_made_again_as_long_as_it_may_help() {
    for action in [CREATE, ATTACH, MODIFY, DETACH, DELETE] {
        for kind in KINDS {
            let Tried {
                mut world,
                at,
                described,
            } = tried(action, &[kind]);
            let name = format!("{action} {kind:?} {at:?}");
            assert_eq!(at.len(), given_up(action, kind).unwrap_or(12), "{name}");
            if at.len() > 1 {
                // A delete is in no hurry while the detach takes its time.
                let quick = matches!(
                    kind,
                    Throttled | Unavailable | Unknown | NotFound | InUse | InstanceNotReady
                ) && (action, kind) != (DELETE, InUse);
                let first = if quick { 750..=1_000 } else { 22_500..=30_000 };
                assert!(first.contains(&(at[1] - at[0])), "{name}");
                // What may have happened, or what EC2 does not see, is looked at before.
                let looks = match action {
                    ATTACH => matches!(kind, Unknown | InUse),
                    DETACH => matches!(kind, Unknown | InUse | NotFound),
                    DELETE => kind == InUse,
                    _ => false,
                };
                // That a detach takes its time is doubted from the second time on.
                let first = if action == DELETE { 2 } else { 1 };
                assert_eq!(described >= at.len() - first, looks, "{name} {described}");
            }
            if action == ATTACH && given_up(action, kind).is_some() {
                let told = "ENI eni-1 cannot be attached and is deleted: AttachNetworkInterface: ";
                assert!(world.told.iter().any(|it| it.starts_with(told)), "{name}");
                assert_eq!(world.leaked(), [], "{name}");
            }
            // Then all is well.
            for _ in 0..90 {
                world.calm();
                world.advance(10_000);
            }
            if (action, kind) != (DELETE, NotFound) {
                assert_eq!(world.leaked(), [], "{name}");
            }
            let wanted = if [DETACH, DELETE].contains(&action) {
                1
            } else {
                4
            };
            assert_eq!(world.state.view().ipv4.free, wanted, "{name}");
        }
    }
}

#[test]
fn an_eni_that_may_have_been_made_is_asked_for_ten_times_and_then_told_of() {
    for kind in [SubnetExhausted, EniLimit, NotFound, InUse, Other] {
        let Tried { world, at, .. } = tried(CREATE, &[Unknown, kind]);
        assert_eq!(at.len(), 10, "{kind:?} {at:?}");
        // It holds a place that others may need.
        let soon = 1_500..=2_000;
        assert!(soon.contains(&(at[2] - at[1])), "{kind:?} {at:?}");
        let told = world.told.iter();
        let mut told =
            told.filter(|it| it.starts_with("an ENI may have been made with client token "));
        assert!(
            told.next()
                .is_some_and(|it| it.contains(&format!("{kind:?}")))
        );
    }
    // It was told at once that nothing was made.
    let Tried { world, at, .. } = tried(CREATE, &[Other]);
    assert_eq!((at.len(), world.told.len()), (1, 0));
}

#[test]
fn addresses_that_could_not_be_given_back_are_given_back_later_and_doubts_are_settled_first() {
    for (kind, doubt) in [(Throttled, false), (Unknown, true)] {
        let mut world = World::started(targets(1, 0));
        for n in 0..2 {
            world.add(n, 60_000);
        }
        world.calm();
        for n in 0..2 {
            world.del(n);
        }
        let unassign = |effect: &Effect| is_call(effect, "UnassignPrivateIpAddresses");
        world.until_to_do(unassign);
        carry_out(&mut world, unassign, Fate::Fails(kind));
        let describes = |effect: &Effect| is_call(effect, DESCRIBE);
        assert_eq!(world.todo.iter().any(describes), doubt);
        world.advance(749);
        world.step(Event::PodsBound(0));
        assert!(!world.todo.iter().any(unassign));
        world.advance(251);
        assert_eq!(world.todo.iter().any(unassign), !doubt);
        world.go_on_until(|world| world.held_by_ec2() == 1);
    }
}
