//! Random histories: whatever happens in whatever order, the invariants of [`World`] hold after every step.

use proptest::prelude::*;

use super::world::{Fate, World, fresh, sandbox, settings};
use crate::{CallErrorKind, Dial, Event, Families, Mode, Warm, WarmTargets};

const SANDBOXES: u32 = 12;

#[derive(Clone, Debug)]
pub(super) enum Act {
    Add { sandbox: u32, patience: u64 },
    Del(u32),
    Cancel(usize),
    Gc(Vec<u32>),
    Advance(u64),
    CarryOut(usize, Fate),
    Deliver(usize),
    Crash { arrive: bool, imds: bool },
    Subnet(u32),
    Fragment(bool),
    Bound(u32),
    Drain(bool),
    SetMode(Option<Mode>),
    Doubt,
}

fn fate() -> impl Strategy<Value = Fate> {
    let kind = prop::sample::select(vec![
        CallErrorKind::Throttled,
        CallErrorKind::SubnetExhausted,
        CallErrorKind::EniLimit,
        CallErrorKind::AddressLimit,
        CallErrorKind::NotFound,
        CallErrorKind::InUse,
        CallErrorKind::Refused,
        CallErrorKind::Unavailable,
        CallErrorKind::Unknown,
        CallErrorKind::Other,
    ]);
    prop_oneof![
        6 => Just(Fate::Works),
        1 => kind.prop_map(Fate::Fails),
        1 => Just(Fate::WorksUnknown),
    ]
}

pub(super) fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0..SANDBOXES, 1..90_000u64)
            .prop_map(|(sandbox, patience)| Act::Add { sandbox, patience }),
        4 => (0..SANDBOXES).prop_map(Act::Del),
        1 => (0..4usize).prop_map(Act::Cancel),
        1 => prop::collection::vec(0..SANDBOXES, 0..12).prop_map(Act::Gc),
        3 => prop_oneof![1..200u64, 1_000..40_000u64].prop_map(Act::Advance),
        16 => (0..3usize, fate()).prop_map(|(nth, fate)| Act::CarryOut(nth, fate)),
        10 => (0..2usize).prop_map(Act::Deliver),
        1 => any::<(bool, bool)>().prop_map(|(arrive, imds)| Act::Crash { arrive, imds }),
        1 => (0..30u32).prop_map(Act::Subnet),
        1 => any::<bool>().prop_map(Act::Fragment),
        1 => (0..12u32).prop_map(Act::Bound),
        1 => any::<bool>().prop_map(Act::Drain),
        1 => prop::sample::select(vec![
            None,
            Some(Mode::Normal),
            Some(Mode::AllocateOnly),
            Some(Mode::Frozen),
        ])
        .prop_map(Act::SetMode),
        1 => Just(Act::Doubt),
    ]
}

pub(super) fn play(world: &mut World, act: Act) {
    match act {
        Act::Add { sandbox, patience } => drop(world.add(sandbox, patience)),
        Act::Del(n) => drop(world.del(n)),
        Act::Cancel(nth) => world.cancel(nth),
        Act::Gc(valid) => drop(world.gc(valid.into_iter().map(sandbox).collect())),
        Act::Advance(millis) => world.advance(millis),
        Act::CarryOut(nth, fate) => world.carry_out(nth, fate),
        Act::Deliver(nth) => world.deliver(nth),
        Act::Crash { arrive, imds } => {
            world.imds = imds;
            world.crash(arrive);
        }
        Act::Subnet(left) => world.subnet_left = left,
        Act::Fragment(fragmented) => world.fragmented = fragmented,
        Act::Bound(pods) => world.step(Event::PodsBound(pods)),
        Act::Drain(draining) => world.step(Event::Draining(draining)),
        Act::SetMode(mode) => world.step(Event::SetMode(mode)),
        Act::Doubt => world.step(Event::Doubt),
    }
}

pub(super) fn warm() -> impl Strategy<Value = Warm> {
    let dials = vec![Dial::Economy, Dial::Balanced, Dial::Latency];
    let some = |most: u32| prop::option::of(0..most);
    prop_oneof![
        prop::sample::select(dials).prop_map(Warm::Demand),
        (some(3), some(4), some(6), some(3)).prop_map(|(eni, ip, minimum_ip, prefix)| {
            Warm::Targets(WarmTargets {
                eni,
                ip,
                minimum_ip,
                prefix,
            })
        }),
    ]
}

proptest! {
    // `PROPTEST_CASES` asks for more.
    #[test]
    fn no_history_breaks_the_promises(
        families in prop::sample::select(vec![Families::V4, Families::V4, Families::Dual, Families::V6]),
        delegation in any::<bool>(),
        warm in warm(),
        acts in prop::collection::vec(act(), 1..120),
    ) {
        let mut world = World::new(settings(families, delegation, warm));
        world.step(fresh());
        for act in acts {
            play(&mut world, act);
        }
        // Then all is well for an hour.
        world.step(Event::SetMode(None));
        world.step(Event::Draining(false));
        world.subnet_left = 900;
        world.fragmented = false;
        for _ in 0..360 {
            world.calm();
            world.advance(10_000);
        }
        world.calm();
        prop_assert_eq!(world.leaked(), []);
        let view = world.state.view();
        prop_assert_eq!(&view.pending_calls, &[]);
        prop_assert_eq!(&view.waiters, &[]);
        prop_assert_eq!(view.ipv4.held, world.held_by_ec2());
        let unquiet = view.ipv4.preparing + view.ipv4.cooling + view.ipv4.quarantined + view.ipv4.leaving;
        prop_assert_eq!(unquiet, 0);
        prop_assert!(world.state.pool.is_even(), "an ENI is odd for no reason");
        prop_assert_eq!(world.wake, None);
        // Nothing is asked for or given back any more.
        let asked = world.asked.len();
        for _ in 0..60 {
            world.advance(10_000);
            world.calm();
        }
        prop_assert_eq!(&world.asked[asked..], &[]);
    }
}
