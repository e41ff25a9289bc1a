//! What a Describe, or IMDS, shows of ENIs that are on their way or that others have changed.

use super::look::{carry_out, full, is_call};
use super::world::{Fate, World, fresh, settings, targets};
use crate::CallErrorKind::*;
use crate::*;

fn describes(effect: &Effect) -> bool {
    is_call(effect, "DescribeNetworkInterfaces")
}

fn detaches(effect: &Effect) -> bool {
    is_call(effect, "DetachNetworkInterface")
}

fn place(device_index: u32) -> Place {
    Place {
        card: 0,
        device_index,
    }
}

/// The second ENI is to be detached.
fn about_to_detach() -> World {
    let mut world = World::started(targets(1, 0));
    for n in 0..4 {
        world.add(n, 60_000);
    }
    world.calm();
    for n in 0..4 {
        world.del(n);
    }
    world.until_to_do(detaches);
    world.advance(40_000);
    world
}

#[test]
fn a_doubt_is_looked_into_again_when_ec2_could_not_be_asked() {
    let mut world = World::started(targets(1, 0));
    world.step(Event::Doubt);
    carry_out(&mut world, describes, Fate::Fails(Throttled));
    world.advance(749);
    assert!(!world.todo.iter().any(describes));
    world.advance(251);
    assert!(world.todo.iter().any(describes));
}

#[test]
fn an_eni_with_a_change_of_unknown_outcome_is_asked_for_more_only_once_ec2_has_shown_it() {
    let mut world = World::started(targets(0, 0));
    world.add(1, 60_000);
    let assigns = |effect: &Effect| is_call(effect, "AssignPrivateIpAddresses");
    carry_out(&mut world, assigns, Fate::WorksUnknown);
    // The Describe takes its time.
    for _ in 0..10 {
        world.advance(1_000);
        assert!(!world.todo.iter().any(assigns), "{:?}", world.todo);
    }
    world.calm();
    assert_eq!(world.state.view().ipv4.owned, 1);
}

#[test]
fn a_slot_that_was_lost_and_came_back_is_there_since_then() {
    let mut world = World::started(targets(1, 0));
    world.add(1, 60_000);
    world.calm();
    let slot = world.disk.grants[0].addresses[0].slot;
    let describe_after = |world: &mut World| {
        world.advance(40_000);
        world.step(Event::Doubt);
        carry_out(world, describes, Fate::Works);
        world.calm();
    };
    world.take_away(slot.addr());
    describe_after(&mut world);
    assert_eq!(world.state.view().ipv4.quarantined, 1);

    world.eni("eni-0").slots.push(slot);
    describe_after(&mut world);
    let view = world.state.view();
    let mut slots = view.enis.iter().flat_map(|eni| &eni.slots);
    let since = slots.find(|it| it.slot == slot).map(|it| it.since);
    assert_eq!(since, Some(Time(world.now)), "{view:?}");
}

#[test]
fn where_an_eni_is_now_is_in_the_books() {
    let mut world = full();
    let moved = world.eni("eni-2");
    moved.attachment.as_mut().expect("attached").place = place(7);
    world.advance(40_000);
    world.step(Event::Doubt);
    carry_out(&mut world, describes, Fate::Works);
    world.calm();
    let mut entries = world.disk.enis.iter();
    let entry = entries.find(|eni| eni.id.as_str() == "eni-2");
    assert_eq!(entry.map(|eni| eni.place), Some(place(7)));
}

#[test]
fn a_describe_that_shows_nothing_new_writes_nothing() {
    let mut world = about_to_detach();
    // EC2 is slow to detach.
    carry_out(&mut world, detaches, Fate::Fails(Throttled));
    let before = world.state.ledger();
    world.step(Event::Doubt);
    carry_out(&mut world, describes, Fate::Works);
    assert_eq!(world.state.ledger(), before);
}

#[test]
fn an_eni_that_was_attached_anew_is_detached_as_it_is_now() {
    let mut world = about_to_detach();
    let eni = world.eni("eni-1");
    eni.attachment.as_mut().expect("attached").id = AttachmentId::new("attach-anew");
    // Its answer is long in coming; a Describe is quicker.
    let at = world.todo.iter().position(detaches).expect("to do");
    world.carry_out(at, Fate::Works);
    let late = world.replies.pop().expect("a reply");
    world.step(Event::Doubt);
    carry_out(&mut world, describes, Fate::Works);
    let before = world.state.ledger().intents;
    world.step(late);
    assert_eq!(world.state.ledger().intents, before, "until it is settled");
    for _ in 0..30 {
        world.calm();
        world.advance(10_000);
    }
    assert_eq!(world.leaked(), []);
    assert_eq!(world.state.view().enis.len(), 1);
    assert_eq!(world.state.ledger().intents, []);
}

#[test]
fn an_eni_that_a_describe_sees_detached_first_is_deleted_all_the_same() {
    let mut world = about_to_detach();
    let at = world.todo.iter().position(detaches).expect("to do");
    world.carry_out(at, Fate::Works);
    let late = world.replies.pop().expect("a reply");
    world.step(Event::Doubt);
    carry_out(&mut world, describes, Fate::Works);
    world.step(late);
    for _ in 0..6 {
        world.calm();
        world.advance(10_000);
    }
    assert_eq!(world.leaked(), []);
    assert_eq!(world.state.ledger().intents, []);
}

#[test]
fn all_enis_that_would_outlive_the_instance_are_told_to_go_with_it() {
    let mut world = World::new(targets(0, 0));
    for n in 1..3 {
        let eni = world.make_eni(None, Some((SlotKind::Address, 2)), 0).id;
        world.eni(eni.as_str()).attachment = Some(Attachment {
            id: AttachmentId::new(format!("attach-{n}")),
            place: place(n),
            complete: true,
            delete_on_termination: false,
        });
    }
    world.step(fresh());
    world.calm();
    assert_eq!(world.leaked(), []);
    let told = world.asked.iter();
    let told = told.filter(|call| matches!(call, Call::DeleteOnTermination { .. }));
    assert_eq!(told.count(), 2);
}

#[test]
fn imds_does_not_agree_where_an_eni_has_moved_be_it_ours_or_not() {
    for managed in [true, false] {
        let mut world = full();
        world.eni("eni-2").managed = managed;
        world.advance(40_000);
        world.step(Event::Doubt);
        world.calm();
        assert!(world.state.agrees_with(&world.seen()));
        let moved = world.eni("eni-2");
        moved.attachment.as_mut().expect("attached").place = place(7);
        assert!(!world.state.agrees_with(&world.seen()), "ours: {managed}");
        // What another has on its ENI is its own affair.
        let back = world.eni("eni-2");
        back.attachment.as_mut().expect("attached").place = place(2);
        back.slots.pop();
        assert_eq!(world.state.agrees_with(&world.seen()), !managed);
    }
}

#[test]
fn what_is_free_on_an_eni_that_is_not_ours_any_more_is_nobodys_and_what_is_free_on_ours_stays() {
    let warm = Warm::Targets(WarmTargets {
        eni: Some(1),
        ..WarmTargets::default()
    });
    let mut world = World::started(settings(Families::V4, false, warm));
    world.add(1, 60_000);
    world.advance(3_000);
    world.calm();
    world.eni("eni-1").managed = false;
    world.advance(40_000);
    world.step(Event::Doubt);
    carry_out(&mut world, describes, Fate::Works);
    let view = world.state.view();
    let slots = |id: &str| {
        let mut enis = view.enis.iter();
        let eni = enis.find(|eni| eni.id.as_ref().is_some_and(|it| it.as_str() == id));
        eni.expect("shown").slots.clone()
    };
    assert_eq!(slots("eni-1"), []);
    let ours = slots("eni-0");
    assert_eq!(ours.len(), 3);
    assert!(ours.iter().all(|slot| slot.state == AddressState::Free));
}
