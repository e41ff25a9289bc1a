//! One node against its share, and fleets against the buckets of an account.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use proptest::prelude::*;

use super::{
    AGAIN_WITHIN, Bucket, GATHER_AT_MOST, Governor, Haste, HeldBy, PATIENCE, RECOVERY, SLOWEST,
    Share, account,
};
use crate::Time;

const ASSIGN: &str = "AssignPrivateIpAddresses";
const ATTACH: &str = "AttachNetworkInterface";
const DESCRIBE: &str = "DescribeNetworkInterfaces";
const HOUR: u64 = 3_600_000;

/// The bucket of an account, as EC2 keeps it.
struct Account {
    capacity: f64,
    refill: f64,
    tokens: f64,
    at: u64,
}

impl Account {
    fn of(action: &str) -> Self {
        let (capacity, refill) = account(action);
        Self {
            capacity,
            refill,
            tokens: capacity,
            at: 0,
        }
    }

    fn take(&mut self, now: u64) -> bool {
        let passed = Time(now).since(Time(self.at)).as_secs_f64();
        self.tokens = (self.tokens + passed * self.refill).min(self.capacity);
        self.at = now;
        let there = self.tokens >= 1.0;
        if there {
            self.tokens -= 1.0;
        }
        there
    }
}

/// What came of a fleet that started at one moment.
#[derive(Debug)]
struct Came {
    served: u64,
    throttled: u64,
    /// When the last call was served.
    last: u64,
}

/// So many nodes start at once, believe that the cluster has so many, and want so many calls each as soon as may be.
fn fleet(nodes: u64, believed: u32, calls: u64, action: &'static str, until: u64) -> Came {
    let mut account = Account::of(action);
    let mut governors: Vec<Governor> = (0..nodes)
        .map(|n| Governor::new(believed, &format!("i-{n:017x}")))
        .collect();
    let mut left = vec![calls; governors.len()];
    let mut queue: BinaryHeap<Reverse<(u64, usize)>> =
        (0..governors.len()).map(|n| Reverse((0, n))).collect();
    let mut came = Came {
        served: 0,
        throttled: 0,
        last: 0,
    };
    while let Some(Reverse((now, n))) = queue.pop() {
        if now > until {
            break;
        }
        let governor = &mut governors[n];
        match governor.ready(action, Haste::Waiting, Time(now)) {
            Err(held) => queue.push(Reverse((held.until.0.max(now + 1), n))),
            Ok(()) => {
                governor.take(action, Time(now));
                if account.take(now) {
                    came.served += 1;
                    came.last = now;
                    left[n] -= 1;
                } else {
                    came.throttled += 1;
                    governor.throttled(action, Time(now));
                }
                if left[n] > 0 {
                    queue.push(Reverse((now + 200, n)));
                }
            }
        }
    }
    came
}

/// When the last of so many calls can be served at the earliest, in seconds.
fn bound(calls: f64, action: &str) -> f64 {
    let (capacity, refill) = account(action);
    (calls - capacity) / refill
}

#[test]
fn a_fleet_that_starts_at_once_is_not_throttled_and_is_done_within_a_quarter_more_than_ec2_allows()
{
    for nodes in [1_000_u32, 5_000] {
        for action in [ASSIGN, ATTACH, DESCRIBE] {
            let came = fleet(nodes.into(), nodes, 1, action, u64::MAX);
            assert_eq!(came.served, u64::from(nodes));
            assert!(
                came.throttled * 1000 <= came.served,
                "{nodes} {action}: {came:?}"
            );
            let last = Time(came.last).since(Time(0)).as_secs_f64();
            let bound = bound(nodes.into(), action);
            assert!(
                last <= 1.25 * bound,
                "{nodes} {action}: {last} s, bound {bound} s"
            );
        }
    }
}

#[test]
fn a_fleet_that_always_wants_more_gets_most_of_what_ec2_allows() {
    for nodes in [1_u32, 7, 40, 300, 1_000] {
        let came = fleet(nodes.into(), nodes, u64::MAX, ASSIGN, HOUR);
        assert!(came.throttled * 100 <= came.served, "{nodes}: {came:?}");
        // 5 a second for an hour, and the first hundred.
        assert!(came.served * 100 >= 18_100 * 85, "{nodes}: {came:?}");
    }
}

#[test]
fn a_fleet_of_fifty_times_the_nodes_that_were_said_is_throttled_but_comes_through() {
    let came = fleet(1_000, 20, 1, ASSIGN, HOUR);
    assert_eq!(came.served, 1_000);
    let last = Time(came.last).since(Time(0)).as_secs_f64();
    assert!(last <= 3.0 * bound(1_000.0, ASSIGN), "{last} s");
    assert!(came.throttled <= 6_000, "{came:?}");
}

/// EC2's documentation gives the account's, decision 0014 the parts.
#[test]
fn a_share_is_the_accounts_divided_by_the_nodes() {
    for (nodes, action, burst, depth, every, turns) in [
        (1, ASSIGN, 70.0, 71.0, 1.0 / 4.75, 0.0),
        (20, ASSIGN, 3.5, 5.0, 20.0 / 4.75, 0.0),
        (70, ASSIGN, 1.0, 5.0, 70.0 / 4.75, 0.0),
        (100, ASSIGN, 0.5, 5.0, 100.0 / 4.75, 50.0 / 4.75),
        (100, DESCRIBE, 0.8, 5.0, 100.0 / 19.0, 20.0 / 19.0),
        (10, DESCRIBE, 7.0, 8.0, 10.0 / 19.0, 0.0),
        (35, ATTACH, 1.0, 5.0, 35.0 / 4.75, 0.0),
        (100, ATTACH, 0.25, 5.0, 100.0 / 4.75, 75.0 / 4.75),
        (
            100,
            "DetachNetworkInterface",
            0.25,
            5.0,
            100.0 / 4.75,
            75.0 / 4.75,
        ),
        (
            100,
            "DeleteNetworkInterface",
            0.5,
            5.0,
            100.0 / 4.75,
            50.0 / 4.75,
        ),
    ] {
        let share = Governor::new(nodes, "i-1").share(action);
        let got = [share.burst, share.depth, 1.0 / share.rate, share.turns];
        let same = got.iter().zip([burst, depth, every, turns]);
        assert!(
            same.into_iter()
                .all(|(got, want)| (got - want).abs() < 1e-9),
            "{nodes} nodes, {action}: {share:?}"
        );
    }
}

#[test]
fn what_comes_back_while_the_pace_mends_is_what_its_mean_gives() {
    let share = Share {
        burst: 1.0,
        depth: 10_000.0,
        rate: 2.0,
        turns: 0.0,
    };
    let slowed = Bucket {
        tokens: 3.0,
        pace: 0.5,
        at: Time(0),
        not_before: Time(0),
        gathers: None,
        turn: None,
        held: None,
    };
    // It takes 300 s from half to all.
    for (at, tokens, pace) in [
        (120_000, 3.0 + 2.0 * 120.0 * 0.6, 0.7),
        (300_000, 3.0 + 2.0 * 300.0 * 0.75, 1.0),
        (400_000, 3.0 + 2.0 * (300.0 * 0.75 + 100.0), 1.0),
    ] {
        let mut bucket = slowed;
        bucket.refill(share, Time(at));
        assert!((bucket.tokens - tokens).abs() < 1e-6, "{at}: {bucket:?}");
        assert!((bucket.pace - pace).abs() < 1e-9, "{at}: {bucket:?}");
    }
}

#[test]
fn what_a_node_had_before_it_began_is_no_supply() {
    let mut governor = Governor::new(1_000, "i-1");
    let day = Time(24 * HOUR);
    governor.begin(day);
    assert!(governor.ready(ASSIGN, Haste::Waiting, day).is_err());
}

#[test]
fn a_throttled_call_is_repeated_soon_without_another_token_and_not_by_all_at_once() {
    let mut moments: Vec<f64> = (0..200)
        .map(|n| {
            let mut governor = Governor::new(70, &format!("i-{n}"));
            assert_eq!(governor.ready(ASSIGN, Haste::Waiting, Time(0)), Ok(()));
            governor.take(ASSIGN, Time(0));
            governor.throttled(ASSIGN, Time(0));
            let held = governor.ready(ASSIGN, Haste::Waiting, Time(0)).unwrap_err();
            assert_eq!(held.cause, HeldBy::Throttled);
            assert_eq!(governor.ready(ASSIGN, Haste::Waiting, held.until), Ok(()));
            held.until.since(Time(0)).as_secs_f64()
        })
        .collect();
    moments.sort_by(f64::total_cmp);
    // The pace is halved.
    let within = 2.0 * AGAIN_WITHIN;
    assert!(moments[0] < 0.1 * within, "{}", moments[0]);
    assert!(
        (0.9 * within..=within).contains(&moments[199]),
        "{}",
        moments[199]
    );
}

#[test]
fn a_node_that_was_throttled_waits_longer_for_the_next_token_and_gathers_longer() {
    let throttled = || {
        let mut governor = Governor::new(70, "i-3");
        governor.take(ASSIGN, Time(0));
        governor.throttled(ASSIGN, Time(0));
        let held = governor.ready(ASSIGN, Haste::Waiting, Time(0)).unwrap_err();
        (governor, held.until)
    };
    let seconds = |to: Time, from: Time| to.since(from).as_secs_f64();
    let every = 70.0 / 4.75;
    let (mut governor, again) = throttled();
    governor.take(ASSIGN, again);
    let next = governor.ready(ASSIGN, Haste::Waiting, again).unwrap_err();
    let wait = seconds(next.until, again);
    // A little has come back meanwhile.
    assert!((1.3 * every..=2.0 * every).contains(&wait), "{wait}");
    let (mut governor, again) = throttled();
    let held = governor.ready(ASSIGN, Haste::Gathering, again).unwrap_err();
    assert_eq!(held.cause, HeldBy::Gathering);
    let gathers = seconds(held.until, again);
    assert!(
        (1.3 * every..=2.0 * every).contains(&(16.0 * gathers)),
        "{gathers}"
    );
}

#[test]
fn a_node_of_a_small_cluster_may_ask_several_times_at_once() {
    for n in 0..200 {
        let mut governor = Governor::new(20, &format!("i-{n}"));
        governor.begin(Time(5_000));
        for action in [ASSIGN, ASSIGN, ASSIGN, ATTACH, DESCRIBE] {
            assert_eq!(governor.ready(action, Haste::Waiting, Time(5_000)), Ok(()));
            governor.take(action, Time(5_000));
        }
        assert_eq!(governor.ready(ATTACH, Haste::Waiting, Time(10_000)), Ok(()));
    }
}

#[test]
fn a_call_that_can_take_more_gathers_for_a_moment_where_the_next_is_far() {
    let first = |nodes, at| {
        let mut governor = Governor::new(nodes, "i-3");
        let verdict = governor.ready(ASSIGN, Haste::Gathering, at);
        (governor, verdict)
    };
    let day = Time(24 * HOUR);
    for (nodes, at) in [(20, Time(0)), (1_000, day), (5_000, day)] {
        assert_eq!(first(nodes, at).1, Ok(()), "{nodes} nodes at {at:?}");
    }
    // One token for each node; the next comes after up to 15 s.
    let (mut governor, verdict) = first(70, Time(0));
    let held = verdict.unwrap_err();
    assert_eq!(held.cause, HeldBy::Gathering);
    assert!((100..=1_000).contains(&held.until.0), "{held:?}");
    assert_eq!(governor.ready(ASSIGN, Haste::Waiting, Time(0)), Ok(()));
    let before = Time(held.until.0 - 100);
    assert!(governor.ready(ASSIGN, Haste::Gathering, before).is_err());
    assert_eq!(governor.ready(ASSIGN, Haste::Gathering, held.until), Ok(()));
    // Who has waited for the turn has gathered long enough.
    governor.take(ASSIGN, held.until);
    let turn = governor.ready(ASSIGN, Haste::Gathering, held.until);
    let turn = turn.unwrap_err().until;
    assert_eq!(governor.ready(ASSIGN, Haste::Gathering, turn), Ok(()));
}

#[test]
fn what_nobody_waits_for_leaves_a_token_for_a_pod() {
    let mut governor = Governor::new(20, "i-1");
    let now = Time(0);
    while governor.ready(ASSIGN, Haste::Later, now).is_ok() {
        governor.take(ASSIGN, now);
    }
    assert_eq!(governor.ready(ASSIGN, Haste::Waiting, now), Ok(()));
    governor.take(ASSIGN, now);
    let held = governor.ready(ASSIGN, Haste::Waiting, now).unwrap_err();
    let HeldBy::Share { nodes: 20, every } = held.cause else {
        panic!("{held:?}");
    };
    assert_eq!(every.as_millis(), 4210);
    assert!(held.until <= now.after(every), "{held:?}");
    assert_eq!(governor.held(now).collect::<Vec<_>>(), [held]);
    assert_eq!(governor.held(held.until).count(), 0);
    assert_eq!(governor.ready(ASSIGN, Haste::Waiting, held.until), Ok(()));
    assert_eq!(governor.held(now).count(), 0);
}

#[test]
fn what_nobody_waits_for_lets_pods_go_first_for_four_turns() {
    let mut governor = Governor::new(20, "i-1");
    let mut now = Time(0);
    while governor.ready(ASSIGN, Haste::Waiting, now).is_ok() {
        governor.take(ASSIGN, now);
    }
    // Pods take every token that comes.
    while governor.ready(ASSIGN, Haste::Later, now).is_err() {
        if governor.ready(ASSIGN, Haste::Waiting, now).is_ok() {
            governor.take(ASSIGN, now);
        }
        now = Time(now.0 + 100);
    }
    let turn = 20_000.0 / 4.75;
    let turns = now.since(Time(0)).as_secs_f64() * 1000.0 / turn;
    assert!((4.0..=5.1).contains(&turns), "{turns}");
}

#[test]
fn nodes_that_tidy_up_at_one_moment_do_it_one_after_the_other() {
    // Long after their start, with all that they may save up.
    let day = Time(24 * HOUR);
    let mut account = Account::of("UnassignPrivateIpAddresses");
    let mut moments: Vec<u64> = (0..1_000)
        .map(|n| {
            let mut governor = Governor::new(1_000, &format!("i-{n:017x}"));
            match governor.ready("UnassignPrivateIpAddresses", Haste::Later, day) {
                Ok(()) => day.0,
                Err(held) => {
                    assert_eq!(held.cause, HeldBy::Turn);
                    held.until.0
                }
            }
        })
        .collect();
    moments.sort_unstable();
    assert!(moments.iter().all(|at| account.take(*at)), "throttled");
}

#[test]
fn a_node_that_is_always_throttled_asks_ever_more_slowly() {
    let mut governor = Governor::new(1, "i-1");
    let (mut now, mut calls) = (Time(0), 0);
    while now < Time(HOUR) {
        match governor.ready(ASSIGN, Haste::Waiting, now) {
            Ok(()) => {
                calls += 1;
                governor.take(ASSIGN, now);
                governor.throttled(ASSIGN, now);
            }
            Err(held) => now = held.until,
        }
    }
    assert!((20..200).contains(&calls), "{calls} calls in an hour");
}

#[test]
fn without_a_cluster_size_nothing_is_held_back() {
    let mut governor = Governor::new(0, "i-1");
    for _ in 0..1_000 {
        assert_eq!(governor.ready(ATTACH, Haste::Later, Time(0)), Ok(()));
        governor.take(ATTACH, Time(0));
        governor.throttled(ATTACH, Time(0));
    }
    assert_eq!(governor.held(Time(0)).count(), 0);
}

/// What a pool may do at some moment.
#[derive(Clone, Copy, Debug)]
struct Moment {
    after: u64,
    haste: Haste,
    /// If it is let through, EC2 throttles it.
    throttles: bool,
}

fn any_haste() -> impl Strategy<Value = Haste> {
    prop_oneof![
        Just(Haste::Waiting),
        Just(Haste::Gathering),
        Just(Haste::Later)
    ]
}

fn moments() -> impl Strategy<Value = Vec<Moment>> {
    let haste = any_haste();
    let after = prop_oneof![0_u64..50, 0_u64..5_000, 0_u64..600_000];
    let moment =
        (after, haste, prop::bool::weighted(0.1)).prop_map(|(after, haste, throttles)| Moment {
            after,
            haste,
            throttles,
        });
    prop::collection::vec(moment, 1..400)
}

fn play(governor: &mut Governor, moments: &[Moment], now: &mut Time) -> Vec<Time> {
    let mut served = Vec::new();
    for moment in moments {
        *now = Time(now.0 + moment.after);
        if governor.ready(ASSIGN, moment.haste, *now).is_ok() {
            governor.take(ASSIGN, *now);
            if moment.throttles {
                governor.throttled(ASSIGN, *now);
            } else {
                served.push(*now);
            }
        }
    }
    served
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_history_gets_more_than_the_share(
        nodes in 1_u32..10_000, seed in 0_u32..1_000, moments in moments(),
    ) {
        let mut governor = Governor::new(nodes, &seed.to_string());
        let share = governor.share(ASSIGN);
        let served = play(&mut governor, &moments, &mut Time(0));
        for (first, begin) in served.iter().enumerate() {
            for (last, end) in served.iter().enumerate().skip(first) {
                let calls = f64::from(u32::try_from(last - first + 1).unwrap());
                let most = share.depth + share.rate * end.since(*begin).as_secs_f64();
                prop_assert!(calls <= most + 1e-6, "{calls} calls from {begin:?} to {end:?}, not {most}");
            }
        }
    }

    #[test]
    fn who_asks_when_told_is_let_through_in_time(
        nodes in 1_u32..10_000, seed in 0_u32..1_000, moments in moments(), haste in any_haste(),
    ) {
        let mut governor = Governor::new(nodes, &seed.to_string());
        let mut now = Time(0);
        play(&mut governor, &moments, &mut now);
        let share = governor.share(ASSIGN);
        let begun = now;
        let mut asked = 0;
        while let Err(held) = governor.ready(ASSIGN, haste, now) {
            prop_assert!(held.until > now);
            now = held.until;
            asked += 1;
            prop_assert!(asked < 10, "asked in vain: {held:?}");
        }
        // The turn, the time after a throttled call or to gather, and two tokens at the slowest pace.
        let most = share.turns + GATHER_AT_MOST + 4.0 / SLOWEST + 2.0 / share.rate / SLOWEST;
        prop_assert!(now.since(begun).as_secs_f64() <= most + 1.0);
    }

    /// Whoever waits asks first, whenever a token may be there.
    #[test]
    fn what_nobody_waits_for_has_its_turn_beside_pods_that_take_every_token(
        nodes in 1_u32..2_000, seed in 0_u32..1_000, period in 1_u64..1_000,
    ) {
        let mut governor = Governor::new(nodes, &seed.to_string());
        let share = governor.share(ASSIGN);
        let most = share.turns + (PATIENCE + 2.0) / share.rate + 2.0;
        let mut now = Time(0);
        let mut waited = false;
        while now.since(Time(0)).as_secs_f64() < most {
            if governor.ready(ASSIGN, Haste::Later, now).is_ok() {
                waited = true;
                break;
            }
            if governor.ready(ASSIGN, Haste::Waiting, now).is_ok() {
                governor.take(ASSIGN, now);
            }
            now = Time(now.0 + period.max(seconds_to_millis(0.05 / share.rate)));
        }
        prop_assert!(waited, "starved for {most} s");
    }

    #[test]
    fn after_all_troubles_a_node_is_as_quick_as_one_that_had_none(
        nodes in 1_u32..5_000, seed in 0_u32..1_000, moments in moments(),
    ) {
        let mut troubled = Governor::new(nodes, &seed.to_string());
        let mut now = Time(0);
        play(&mut troubled, &moments, &mut now);
        let share = troubled.share(ASSIGN);
        // Until the pace is mended, and then until all is saved up.
        let mended = 4.0 / SLOWEST + RECOVERY + share.depth / share.rate + 1.0;
        now = Time(now.0 + seconds_to_millis(mended));
        let mut calls = 0.0;
        while troubled.ready(ASSIGN, Haste::Waiting, now).is_ok() {
            troubled.take(ASSIGN, now);
            calls += 1.0;
        }
        prop_assert_eq!(calls, share.depth.floor());
        let held = troubled.ready(ASSIGN, Haste::Waiting, now).unwrap_err();
        let wait = held.until.since(now).as_secs_f64();
        prop_assert!(wait <= 1.0 / share.rate + 0.002, "{} s", wait);
    }
}

fn seconds_to_millis(seconds: f64) -> u64 {
    u64::try_from(super::seconds(seconds).as_millis()).unwrap()
}
