//! Random histories: whatever happens in whatever order, the invariants of [`World`] hold after every step.

use proptest::prelude::*;

use super::world::{Fate, World, sandbox, targets};
use crate::{CallErrorKind, Event};

const SANDBOXES: u32 = 12;

#[derive(Clone, Debug)]
enum Act {
    Add { sandbox: u32, patience: u64 },
    Del(u32),
    Cancel(usize),
    Gc(Vec<u32>),
    Advance(u64),
    CarryOut(usize, Fate),
    Deliver(usize),
    Crash { arrive: bool },
    Subnet(u32),
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

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0..SANDBOXES, 1..90_000u64)
            .prop_map(|(sandbox, patience)| Act::Add { sandbox, patience }),
        4 => (0..SANDBOXES).prop_map(Act::Del),
        1 => (0..4usize).prop_map(Act::Cancel),
        1 => prop::collection::vec(0..SANDBOXES, 0..12).prop_map(Act::Gc),
        3 => prop_oneof![1..200u64, 1_000..40_000u64].prop_map(Act::Advance),
        16 => (0..3usize, fate()).prop_map(|(nth, fate)| Act::CarryOut(nth, fate)),
        10 => (0..2usize).prop_map(Act::Deliver),
        1 => any::<bool>().prop_map(|arrive| Act::Crash { arrive }),
        1 => (0..30u32).prop_map(Act::Subnet),
    ]
}

fn play(world: &mut World, act: Act) {
    match act {
        Act::Add { sandbox, patience } => drop(world.add(sandbox, patience)),
        Act::Del(n) => drop(world.del(n)),
        Act::Cancel(nth) => world.cancel(nth),
        Act::Gc(valid) => drop(world.gc(valid.into_iter().map(sandbox).collect())),
        Act::Advance(millis) => world.advance(millis),
        Act::CarryOut(nth, fate) => world.carry_out(nth, fate),
        Act::Deliver(nth) => world.deliver(nth),
        Act::Crash { arrive } => world.crash(arrive),
        Act::Subnet(left) => world.subnet_left = left,
    }
}

proptest! {
    // `PROPTEST_CASES` asks for more.
    #[test]
    fn no_history_breaks_the_promises(
        warm in 0..4u32, minimum in 0..6u32, acts in prop::collection::vec(act(), 1..120),
    ) {
        let mut world = World::new(targets(warm, minimum));
        world.step(Event::Start(None));
        for act in acts {
            play(&mut world, act);
        }
        // Then all is well for half an hour.
        world.subnet_left = 900;
        for _ in 0..180 {
            world.calm();
            world.advance(10_000);
        }
        world.calm();
        prop_assert_eq!(world.leaked(), []);
        let view = world.state.view();
        prop_assert_eq!(&view.pending_calls, &[]);
        prop_assert_eq!(&view.waiters, &[]);
        prop_assert_eq!(view.totals.held as usize, world.held_by_ec2());
        prop_assert_eq!(view.totals.preparing + view.totals.cooling + view.totals.quarantined, 0);
        let most = 9;
        prop_assert!(view.totals.free >= warm.min(most - view.totals.owned), "{:?}", view.totals);
        prop_assert!(view.totals.held >= minimum.min(most));
    }
}
