//! Small worlds, to the end: every order in which all that can happen to two sandboxes, two ENIs and a few addresses
//! does happen, with one crash and one fault wherever they hurt. The promises of [`World`] are checked at every state.
//!
//! Histories are random and long; these are short and complete. A state that was met before is not gone on from, so
//! that the search ends ([`World::fingerprint`] says which states are the same).

#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "it shows how much it searched, and the way to what is wrong"
)]

use std::collections::BTreeSet;
use std::time::Instant;

use super::world::{Fate, World, fresh, node, targets};
use crate::{CallErrorKind, Effect, InstanceLimits, Settings};

/// Longer than an address cools: a waiter may outwait it.
const PATIENCE: u64 = 40_000;

#[derive(Clone, Copy, Debug)]
enum Act {
    Add(usize),
    Del(usize),
    CarryOut(usize, Fate),
    Deliver(usize),
    /// Of the calls that were not carried out, none arrives.
    Crash {
        written: bool,
        imds: bool,
    },
    /// Somebody gives the primary ENI other groups.
    Regroup,
    /// Time goes on to the next moment that the pool waits for.
    Wait,
}

/// What may still happen.
#[derive(Clone, Copy, Debug)]
struct Left {
    adds: [u8; 2],
    dels: [u8; 2],
    crashes: u8,
    faults: u8,
    /// Waits while there was something to do: the world is slow. When there is not, time just goes on.
    slowness: u8,
    regroups: u8,
}

struct Step {
    act: Option<Act>,
    world: World,
    left: Left,
    /// What was not tried yet.
    next: Vec<Act>,
}

/// Depth first.
struct Search {
    stack: Vec<Step>,
    seen: BTreeSet<(u64, u64)>,
    transitions: u64,
    depth: usize,
    ends: u64,
    /// What EC2 was asked for.
    called: BTreeSet<&'static str>,
    trying: Option<Act>,
}

impl Drop for Search {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let acts = self.stack.iter().skip(1).map(|step| step.act);
            for (step, act) in self.stack.iter().zip(acts.chain([self.trying])) {
                let what = match act {
                    Some(Act::CarryOut(at, _)) => format!("{:?}", step.world.todo.get(at)),
                    Some(Act::Deliver(at)) => format!("{:?}", step.world.replies.get(at)),
                    _ => String::new(),
                };
                eprintln!("{:>6} ms: {act:?} {what}", step.world.now);
            }
            if let Some(step) = self.stack.last() {
                eprintln!("{:#?}", step.world.state.view());
            }
        }
    }
}

impl Search {
    fn run(world: World, left: Left) -> Self {
        let mut search = Self {
            stack: Vec::new(),
            seen: BTreeSet::new(),
            transitions: 0,
            depth: 0,
            ends: 0,
            called: BTreeSet::new(),
            trying: None,
        };
        search.enter(None, world, left);
        while let Some(step) = search.stack.last_mut() {
            let Some(act) = step.next.pop() else {
                search.stack.pop();
                continue;
            };
            let (mut world, mut left) = (step.world.clone(), step.left);
            search.trying = Some(act);
            left.pay(act, &world);
            play(&mut world, act);
            search.transitions += 1;
            search.enter(Some(act), world, left);
        }
        search
    }

    fn enter(&mut self, act: Option<Act>, mut world: World, left: Left) {
        self.called
            .extend(world.asked.drain(..).map(|call| call.action()));
        world.told.clear();
        world.answers.clear();
        if !self.seen.insert((world.fingerprint(), left.number())) {
            return;
        }
        if is_idle(&world) && world.wake.is_none() {
            self.ends += 1;
            assert_quiet(&world);
        }
        let next = acts(&world, &left);
        self.stack.push(Step {
            act,
            world,
            left,
            next,
        });
        self.depth = self.depth.max(self.stack.len());
    }
}

impl Left {
    fn pay(&mut self, act: Act, world: &World) {
        match act {
            Act::Add(n) => self.adds[n] -= 1,
            Act::Del(n) => self.dels[n] -= 1,
            Act::CarryOut(_, Fate::Works) | Act::Deliver(_) => {}
            Act::CarryOut(..) => self.faults -= 1,
            Act::Crash { .. } => self.crashes -= 1,
            Act::Regroup => self.regroups -= 1,
            Act::Wait if is_idle(world) => {}
            Act::Wait => self.slowness -= 1,
        }
    }

    fn number(&self) -> u64 {
        let Self {
            adds: [a, b],
            dels: [c, d],
            crashes,
            faults,
            slowness,
            regroups,
        } = *self;
        u64::from_be_bytes([regroups, a, b, c, d, crashes, faults, slowness])
    }
}

fn is_idle(world: &World) -> bool {
    world.todo.is_empty() && world.replies.is_empty()
}

fn acts(world: &World, left: &Left) -> Vec<Act> {
    let mut acts = Vec::new();
    if world.wake.is_some() && (is_idle(world) || left.slowness > 0) {
        acts.push(Act::Wait);
    }
    if left.crashes > 0 {
        let writes = world.todo.contains(&Effect::WriteBooks);
        for written in [false, true] {
            for imds in [false, true] {
                if writes || !written {
                    acts.push(Act::Crash { written, imds });
                }
            }
        }
    }
    if left.regroups > 0 {
        acts.push(Act::Regroup);
    }
    for n in 0..2 {
        if left.adds[n] > 0 {
            acts.push(Act::Add(n));
        }
        // One more DEL than ADDs, or before them, is a DEL of nobody.
        if left.dels[n] > left.adds[n] {
            acts.push(Act::Del(n));
        }
    }
    for (at, effect) in world.todo.iter().enumerate() {
        acts.push(Act::CarryOut(at, Fate::Works));
        if left.faults == 0 {
            continue;
        }
        let fates: &[Fate] = match effect {
            Effect::Call(..) => &[
                Fate::WorksUnknown,
                Fate::Fails(CallErrorKind::Unknown),
                Fate::Fails(CallErrorKind::Throttled),
                Fate::Fails(CallErrorKind::Refused),
            ],
            _ => &[Fate::Fails(CallErrorKind::Other)],
        };
        acts.extend(fates.iter().map(|fate| Act::CarryOut(at, *fate)));
    }
    acts.extend((0..world.replies.len()).map(Act::Deliver));
    acts
}

fn play(world: &mut World, act: Act) {
    match act {
        Act::Add(n) => drop(world.add(u32::try_from(n).unwrap(), PATIENCE)),
        Act::Del(n) => drop(world.del(u32::try_from(n).unwrap())),
        Act::CarryOut(at, fate) => world.carry_out(at, fate),
        Act::Deliver(at) => world.deliver(at),
        Act::Crash { written, imds } => {
            world.imds = imds;
            if written {
                world.crash_after_write();
            } else {
                world.crash(false);
            }
        }
        Act::Regroup => world.regroup(&["sg-2"], true),
        Act::Wait => world.advance(world.wake.unwrap() - world.now),
    }
}

/// Nothing is to be done, and nothing is waited for.
fn assert_quiet(world: &World) {
    assert_eq!(world.leaked(), []);
    let view = world.state.view();
    assert_eq!(view.pending_calls, []);
    assert_eq!(view.waiters, []);
    assert_eq!(view.ipv4.held, world.held_by_ec2());
    assert_eq!(world.groups_in_ec2(), view.node.security_groups);
    assert_eq!(view.ipv4.held, view.ipv4.owned + view.ipv4.free);
}

fn small(settings: Settings, ipv4_slots_per_eni: u32) -> World {
    let mut node = node();
    node.limits = InstanceLimits {
        enis_per_card: vec![2],
        ipv4_slots_per_eni,
        ..node.limits
    };
    let mut world = World::on(node, settings);
    world.step(fresh());
    world
}

/// Two ENIs of so many slots each, their own addresses included.
fn search(name: &str, slots: u32, warm: u32, left: Left) -> Search {
    let began = Instant::now();
    // Without a warm target, one address stays: aws-node's targets can't say fewer.
    let world = small(targets(warm, u32::from(warm == 0)), slots);
    let search = Search::run(world, left);
    println!(
        "{name}: {} states, {} transitions, at most {} acts deep, {} quiet ends, {:.0?}",
        search.seen.len(),
        search.transitions,
        search.depth - 1,
        search.ends,
        began.elapsed()
    );
    search
}

const NOTHING_WRONG: Left = Left {
    adds: [1, 1],
    dels: [1, 1],
    crashes: 0,
    faults: 0,
    slowness: 0,
    regroups: 0,
};

#[test]
fn two_sandboxes_in_every_order() {
    let search = search("two sandboxes", 2, 0, NOTHING_WRONG);
    // Nothing that there is to ask of EC2 was left out.
    assert_eq!(search.called.len(), 8, "{:?}", search.called);
}

#[test]
fn one_sandbox_with_a_crash_and_a_fault_in_every_order() {
    let left = Left {
        adds: [1, 0],
        dels: [1, 0],
        crashes: 1,
        faults: 1,
        ..NOTHING_WRONG
    };
    search("one sandbox, a crash and a fault", 2, 0, left);
}

#[test]
fn one_sandbox_and_other_security_groups_with_a_fault_in_every_order() {
    let left = Left {
        adds: [1, 0],
        dels: [1, 0],
        faults: 1,
        regroups: 1,
        ..NOTHING_WRONG
    };
    search("one sandbox, other groups and a fault", 2, 0, left);
}

#[test]
#[ignore = "minutes: cargo test --release -p ipam -- --ignored --nocapture exhaustive"]
fn two_sandboxes_with_a_crash_or_a_fault_or_a_slow_world_in_every_order() {
    let nothing = NOTHING_WRONG;
    for (name, slots, warm, left) in [
        (
            "a crash",
            2,
            0,
            Left {
                crashes: 1,
                ..nothing
            },
        ),
        (
            "a fault",
            2,
            0,
            Left {
                faults: 1,
                ..nothing
            },
        ),
        (
            "a slow world",
            2,
            0,
            Left {
                slowness: 2,
                ..nothing
            },
        ),
        ("more addresses", 3, 1, nothing),
        (
            "more addresses, a crash",
            3,
            1,
            Left {
                crashes: 1,
                ..nothing
            },
        ),
    ] {
        search(name, slots, warm, left);
    }
}
