//! Why a sandbox waits, and what it is told when it has waited in vain.

use super::look::{carry_out, full, is_call, refused};
use super::world::{COOLDOWN, Fate, World, fresh, sandbox, targets};
use crate::*;

fn why(world: &World, n: u32) -> Why {
    world.state.why(&sandbox(n)).expect("it waits")
}

/// What it waits for, as people read it, and what time changes first.
fn told(world: &World, n: u32) -> (Vec<String>, Option<u64>) {
    let why = why(world, n);
    let next = why.next(Time(world.now)).map(|(_, at)| at.0 - world.now);
    (
        why.waits_for.iter().map(ToString::to_string).collect(),
        next,
    )
}

fn described(world: &mut World) {
    let describe = |effect: &Effect| is_call(effect, "DescribeNetworkInterfaces");
    carry_out(world, describe, Fate::Works);
}

#[test]
fn who_does_not_wait_has_no_reason_and_who_does_says_since_and_until_when() {
    let mut world = World::started(targets(0, 0));
    assert_eq!(world.state.why(&sandbox(1)), None);
    world.add(1, 5_000);
    world.advance(1_000);
    world.add(1, 10_000);
    let why = why(&world, 1);
    assert_eq!((why.since, why.until), (Time(1_000), Time(12_000)));
    world.calm();
    assert_eq!(world.state.why(&sandbox(1)), None);
}

#[test]
fn from_its_start_to_its_answer_a_sandbox_waits_for_one_thing_after_the_other() {
    let mut world = World::new(targets(0, 0));
    world.step(fresh());
    world.add(1, 60_000);
    let one = |what: &str| (vec![what.to_owned()], None);
    assert_eq!(told(&world, 1), one("EC2's word on what this node holds"));
    described(&mut world);
    let (now, _) = told(&world, 1);
    let growth = "AssignPrivateIpAddresses of eni-0".to_owned();
    assert_eq!(
        now,
        [
            growth.clone(),
            "the link of eni-0".to_owned(),
            "the node's network".to_owned()
        ]
    );
    let prepare = |effect: &Effect| matches!(effect, Effect::PrepareNode(_));
    carry_out(&mut world, prepare, Fate::Works);
    let set_up = |effect: &Effect| matches!(effect, Effect::SetUpEni(_));
    carry_out(&mut world, set_up, Fate::Works);
    assert_eq!(told(&world, 1), (vec![growth], None));
    let call = |effect: &Effect| matches!(effect, Effect::Call(..));
    carry_out(&mut world, call, Fate::Works);
    assert_eq!(told(&world, 1), one("the routes of eni-0"));
    let route = |effect: &Effect| matches!(effect, Effect::Route { .. });
    carry_out(&mut world, route, Fate::Works);
    assert_eq!(told(&world, 1), one("the books on disk"));
    world.calm();
    assert_eq!(world.state.why(&sandbox(1)), None);
}

#[test]
fn throttling_and_refusals_say_what_ec2_said_and_when_it_is_asked_again() {
    for (kind, reason, longest) in [
        (CallErrorKind::Throttled, Reason::Ec2Throttled, 1_000),
        (CallErrorKind::Unavailable, Reason::Ec2Unavailable, 1_000),
    ] {
        let mut world = World::started(targets(0, 0));
        let request = world.add(1, 700);
        let call = |effect: &Effect| matches!(effect, Effect::Call(..));
        carry_out(&mut world, call, Fate::Fails(kind));
        let why = why(&world, 1);
        let (first, at) = why.next(Time(world.now)).expect("a time");
        let WaitsFor::Ec2(retry) = first else {
            panic!("{first:?}");
        };
        assert_eq!((retry.error.kind, retry.at), (kind, at));
        assert!((at.0 - world.now) * 4 >= longest * 3 && at.0 - world.now <= longest);
        assert_eq!(why.waits_for.first(), Some(first));
        // In vain: it is told the same.
        world.advance(700);
        let refusal = refused(&world, request);
        assert_eq!(refusal.reason, reason);
        assert!(
            refusal.message.contains(&retry.error.to_string()),
            "{refusal}"
        );
    }
}

#[test]
fn what_fails_on_the_node_says_what_the_kernel_said_and_when_it_is_tried_again() {
    let mut world = World::started(targets(0, 0));
    let request = world.add(1, 900);
    let call = |effect: &Effect| matches!(effect, Effect::Call(..));
    carry_out(&mut world, call, Fate::Works);
    let route = |effect: &Effect| matches!(effect, Effect::Route { .. });
    carry_out(&mut world, route, Fate::Fails(CallErrorKind::Other));
    let (what, next) = told(&world, 1);
    assert_eq!(
        what[0],
        "the routes of eni-0, which failed: its slots could not be routed: no luck"
    );
    assert!(next.is_some_and(|next| (750..=1_000).contains(&next)));
    world.advance(900);
    assert_eq!(refused(&world, request).reason, Reason::EniFailed);
}

#[test]
fn who_waits_for_an_address_that_cools_knows_when() {
    let mut world = full();
    world.del(3);
    world.calm();
    world.advance(10_000);
    world.add(20, 60_000);
    let cooled = why(&world, 20);
    let until = Time(world.now + COOLDOWN - 10_000);
    assert_eq!(cooled.waits_for, [WaitsFor::Cooling { until }]);
    assert_eq!(told(&world, 20).1, Some(COOLDOWN - 10_000));
}

#[test]
fn while_the_disk_fails_what_waits_for_the_books_says_so() {
    let mut world = full();
    world.del(3);
    world.calm();
    world.add(20, 60_000);
    let writes = |effect: &Effect| *effect == Effect::WriteBooks;
    world.advance(COOLDOWN);
    let one = |world: &World| why(world, 20).waits_for;
    assert_eq!(one(&world), [WaitsFor::Books(None)]);
    carry_out(&mut world, writes, Fate::Fails(CallErrorKind::Other));
    let refusal = world.answers.values().next_back();
    let Some(Answer::Refused(refusal)) = refusal else {
        panic!("{refusal:?}");
    };
    assert_eq!(refusal.reason, Reason::BooksFailed);
    assert!(refusal.message.ends_with("no luck"), "{refusal}");
}

#[test]
fn who_is_late_while_the_books_are_being_written_is_not_told_that_they_could_not_be() {
    let mut world = World::started(targets(1, 0));
    world.calm();
    let request = world.add(1, 10);
    world.advance(10);
    let refusal = refused(&world, request);
    assert_eq!(refusal.reason, Reason::DeadlineExceeded);
    assert!(
        refusal.message.contains("no address came within 0 s")
            && refusal.message.contains("still being written to the books"),
        "{refusal}"
    );
    assert!(refusal.remedy.contains("file system of the books"));
}

#[test]
fn what_waits_for_calls_is_refused_with_all_of_them() {
    let mut world = World::started(targets(0, 0));
    let requests = [1, 2, 3, 4].map(|n| world.add(n, 1_000));
    world.advance(1_000);
    for request in requests {
        let refusal = refused(&world, request);
        assert_eq!(refusal.reason, Reason::DeadlineExceeded);
        assert_eq!(
            refusal.message,
            "no address came within 1 s; the pool waits for AssignPrivateIpAddresses of eni-0, CreateNetworkInterface"
        );
    }
}
