//! ENIs on their way in: what EC2's refusals mean for them, and for who waits for what they bring.

use super::look::{carry_out, granted, is_call, refused};
use super::world::{Fate, World, fresh, targets};
use crate::CallErrorKind::{self, *};
use crate::*;

fn creates(effect: &Effect) -> bool {
    is_call(effect, "CreateNetworkInterface")
}

/// The tokens of all creations that were asked for, and how many addresses each was to bring.
fn created(world: &World) -> Vec<(ClientToken, u32)> {
    let calls = world.asked.iter().filter_map(|call| match call {
        Call::CreateEni { token, ipv4, .. } => Some((token.clone(), ipv4.map_or(0, |it| it.1))),
        _ => None,
    });
    calls.collect()
}

fn counts(world: &World) -> Vec<u32> {
    created(world).into_iter().map(|it| it.1).collect()
}

/// A full primary, and three pods that wait for an ENI with three addresses, which is asked for.
fn asks_for_three() -> (World, [RequestId; 3]) {
    let mut world = World::new(targets(0, 0));
    world.step(fresh());
    for n in 0..3 {
        world.add(n, 600_000);
    }
    let requests = [3, 4, 5].map(|n| world.add(n, 600_000));
    world.until_to_do(creates);
    (world, requests)
}

/// Once more, when its time has come.
fn fails_again(world: &mut World, kind: CallErrorKind) {
    world.until_to_do(creates);
    carry_out(world, creates, Fate::Fails(kind));
}

#[test]
fn only_an_eni_that_the_subnet_has_not_all_addresses_for_is_asked_for_with_fewer() {
    let (mut world, requests) = asks_for_three();
    carry_out(&mut world, creates, Fate::Fails(SubnetExhausted));
    world.calm();
    assert_eq!(counts(&world)[..2], [3, 1]);
    granted(&world, requests[0]);
    for kind in [EniLimit, Refused, Other] {
        let (mut world, requests) = asks_for_three();
        carry_out(&mut world, creates, Fate::Fails(kind));
        world.calm();
        assert_eq!(counts(&world), [3], "{kind:?}");
        for request in requests {
            assert_eq!(refused(&world, request).reason, Reason::Ec2Refused);
        }
    }
}

#[test]
fn an_eni_that_may_have_been_made_is_asked_about_with_all_that_it_was_asked_for_with() {
    let (mut world, _) = asks_for_three();
    carry_out(&mut world, creates, Fate::WorksUnknown);
    fails_again(&mut world, SubnetExhausted);
    for _ in 0..12 {
        world.calm();
        world.advance(10_000);
    }
    let asked = created(&world);
    assert_eq!(asked[..2], [asked[0].clone(), asked[0].clone()]);
    assert_eq!(world.leaked(), []);
}

#[test]
fn while_a_token_that_was_used_is_asked_about_other_enis_are_made() {
    // EC2 does not show what was made until just before it is given up.
    for times in [1, 8] {
        let (mut world, requests) = asks_for_three();
        carry_out(&mut world, creates, Fate::WorksUnknown);
        for _ in 0..times {
            fails_again(&mut world, InUse);
        }
        let one_more = world.add(6, 600_000);
        world.calm();
        assert_eq!(created(&world).len(), times + 2, "{times}");
        // Who waits the longest gets what it brings.
        granted(&world, requests[0]);
        assert!(!world.answers.contains_key(&one_more));
        for _ in 0..12 {
            world.calm();
            world.advance(10_000);
        }
        assert!(requests.iter().all(|it| world.answers.contains_key(it)));
        assert_eq!(world.leaked(), [], "{times}");
    }
}

#[test]
fn what_a_used_token_has_made_is_waited_for_and_what_ec2_refuses_to_make_is_not() {
    for (kind, waits) in [
        (InUse, true),
        (Throttled, true),
        (EniLimit, false),
        (Refused, false),
    ] {
        let (mut world, requests) = asks_for_three();
        carry_out(&mut world, creates, Fate::Fails(Unknown));
        fails_again(&mut world, kind);
        world.calm();
        let answered = requests.map(|request| world.answers.contains_key(&request));
        assert_eq!(answered, [!waits; 3], "{kind:?}");
        assert_eq!(created(&world).len(), 2, "{kind:?}");
    }
}

#[test]
fn an_eni_that_is_not_found_again_and_again_is_looked_for_and_asked_about_less_often() {
    let modify = |effect: &Effect| is_call(effect, "ModifyNetworkInterfaceAttribute");
    let describes = |effect: &Effect| is_call(effect, "DescribeNetworkInterfaces");
    for (kind, is_looked_for) in [(NotFound, true), (Throttled, false)] {
        let (mut world, _) = asks_for_three();
        for nth in 1..=5 {
            world.until_to_do(modify);
            carry_out(&mut world, modify, Fate::Fails(kind));
            let looks = world.todo.iter().any(describes);
            assert_eq!(looks, is_looked_for && nth == 5, "{kind:?} {nth}");
        }
        let since = world.now;
        world.until_to_do(modify);
        assert_eq!(world.now - since > 60_000, is_looked_for, "{kind:?}");
    }
}

#[test]
fn an_eni_that_is_to_be_attached_is_shown_before_ec2_has_been_asked() {
    for (action, state, id) in [
        ("CreateNetworkInterface", EniState::Creating, None),
        ("AttachNetworkInterface", EniState::Attaching, Some("eni-1")),
    ] {
        let (mut world, _) = asks_for_three();
        world.until_to_do(|effect| is_call(effect, action));
        // All that the books of a crash in that moment need say is what is intended.
        world.disk.enis.retain(|eni| eni.id.as_str() == "eni-0");
        world.crash(false);
        let view = world.state.view();
        let shown = view.enis.iter().find(|eni| eni.place.device_index == 1);
        let shown = shown.map(|eni| (eni.state, eni.id.as_ref().map(EniId::as_str)));
        assert_eq!(shown, Some((state, id)), "{action}");
    }
}

#[test]
fn a_subnet_without_a_whole_80_is_passed_over_at_once() {
    let choice = |id: &str| SubnetChoice {
        id: SubnetId::new(id),
        groups: Vec::new(),
    };
    let mut settings = super::world::settings(Families::V6, false, Warm::Demand(Dial::Economy));
    settings.subnets = Subnets::Listed(vec![choice("subnet-2"), choice("subnet-3")]);
    let mut world = World::new(settings);
    world.step(super::world::fresh());
    world.add(0, 60_000);
    let refused = |effect: &Effect| {
        matches!(
            effect,
            Effect::Call(_, Call::Assign { .. } | Call::CreateEni { .. })
        )
    };
    let mut asked = Vec::new();
    for _ in 0..3 {
        world.until_to_do(refused);
        let nth = world.todo.iter().position(refused).expect("to do");
        if let Effect::Call(_, Call::CreateEni { subnet, .. }) = &world.todo[nth] {
            asked.push((subnet.as_str().to_owned(), world.now));
        }
        world.carry_out(nth, Fate::Fails(CallErrorKind::PrefixesExhausted));
    }
    let now = world.now;
    assert_eq!(
        asked,
        [("subnet-2".to_owned(), now), ("subnet-3".to_owned(), now)]
    );
}

#[test]
fn a_subnet_that_had_all_that_it_was_asked_for_is_asked_for_twice_as_many() {
    let mut node = super::world::node();
    node.limits.ipv4_slots_per_eni = 21;
    let mut world = World::on(node, targets(0, 0));
    world.step(fresh());
    world.calm();
    for n in 0..8 {
        world.add(n, 600_000);
    }
    // The first pod's own call; then the others' seven, of which the subnet has not even three.
    carry_out(&mut world, assigns, Fate::Works);
    for _ in 0..2 {
        world.until_to_do(assigns);
        carry_out(&mut world, assigns, Fate::Fails(SubnetExhausted));
    }
    world.calm();
    let asked = |world: &World| -> Vec<u32> {
        let calls = world.asked.iter().filter_map(|call| match call {
            Call::Assign { count, .. } => Some(*count),
            _ => None,
        });
        calls.collect()
    };
    assert_eq!(asked(&world), [1, 7, 3, 1, 2, 4]);
    // Less than it may have was wanted, so the next burst is asked for whole.
    for n in 8..20 {
        world.add(n, 600_000);
    }
    world.calm();
    assert_eq!(asked(&world)[6..], [1, 11]);
}

fn assigns(effect: &Effect) -> bool {
    is_call(effect, "AssignPrivateIpAddresses")
}

/// A pool whose subnet had no address left a while ago, with so many pods.
fn lacked(settings: Settings, pods: u32) -> World {
    let mut world = World::new(settings);
    world.step(Event::SetMode(Some(Mode::AllocateOnly)));
    world.step(fresh());
    for n in 0..pods {
        world.add(n, 600_000);
        world.calm();
    }
    world.calm();
    let lacks = |effect: &Effect| assigns(effect) || creates(effect);
    let pod = world.add(90, 600_000);
    world.until_to_do(lacks);
    carry_out(&mut world, lacks, Fate::Fails(SubnetExhausted));
    world.calm();
    assert_eq!(refused(&world, pod).reason, Reason::SubnetExhausted);
    world.advance(600_000);
    world.calm();
    world.asked.clear();
    world
}

#[test]
fn what_a_subnet_has_left_is_asked_for_on_an_eni_that_is_there_before_another_is_made() {
    // One at a time, with the last place on its way; and all at once.
    let mut world = lacked(targets(0, 0), 2);
    for n in 10..12 {
        world.add(n, 600_000);
    }
    assert!(world.todo.iter().any(assigns));
    assert!(counts(&world).is_empty());
    world.calm();
    assert_eq!(counts(&world), [1]);
    let mut world = lacked(targets(8, 0), 0);
    world.step(Event::SetMode(None));
    world.advance(60_000);
    world.until_to_do(assigns);
    assert!(counts(&world).is_empty());
    world.calm();
    world.advance(60_000);
    world.calm();
    assert_eq!(world.held_by_ec2(), 8);
}

#[test]
fn where_the_enis_are_full_another_is_made_though_the_subnet_had_nothing_left() {
    let mut world = lacked(targets(0, 0), 3);
    let pod = world.add(10, 600_000);
    world.calm();
    granted(&world, pod);
    assert_eq!(counts(&world), [1]);
}

#[test]
fn where_a_subnet_has_no_whole_28_the_next_eni_is_made_with_addresses() {
    let nothing = WarmTargets {
        ip: Some(0),
        minimum_ip: Some(0),
        ..WarmTargets::default()
    };
    let settings = super::world::settings(Families::V4, true, Warm::Targets(nothing));
    let mut world = World::new(settings);
    world.step(fresh());
    // Three /28 fit on the primary.
    for n in 0..48 {
        world.add(n, 600_000);
        world.calm();
    }
    let one_more = world.add(48, 600_000);
    world.until_to_do(creates);
    carry_out(&mut world, creates, Fate::Fails(PrefixesExhausted));
    world.calm();
    granted(&world, one_more);
    let kinds = world.asked.iter().filter_map(|call| match call {
        Call::CreateEni { ipv4, .. } => ipv4.map(|(kind, _)| kind),
        _ => None,
    });
    let kinds: Vec<SlotKind> = kinds.collect();
    assert_eq!(kinds, [SlotKind::Prefix, SlotKind::Address]);
}

/// Books and IMDS agree, so that no Describe tells what has come of it.
#[test]
fn an_eni_that_was_being_made_at_a_crash_is_asked_about_with_its_token_whatever_ec2_refuses_first()
{
    let (mut world, _) = asks_for_three();
    world.imds = true;
    world.crash(true);
    for n in 3..6 {
        world.add(n, 600_000);
    }
    world.until_to_do(creates);
    carry_out(&mut world, creates, Fate::Fails(SubnetExhausted));
    for _ in 0..12 {
        world.calm();
        world.advance(10_000);
    }
    let asked = created(&world);
    assert_eq!(asked[0], asked[1], "{asked:?}");
    assert_eq!(asked[0], asked[2], "{asked:?}");
    assert_eq!(world.leaked(), []);
}

/// kubelet and ipamd may be up before EC2 calls the instance running.
#[test]
fn an_eni_waits_for_the_instance_to_be_running_and_so_do_the_pods() {
    let (mut world, requests) = asks_for_three();
    let attaches = |effect: &Effect| is_call(effect, "AttachNetworkInterface");
    for _ in 0..5 {
        world.until_to_do(attaches);
        carry_out(&mut world, attaches, Fate::Fails(InstanceNotReady));
        assert!(requests.iter().all(|it| !world.answers.contains_key(it)));
    }
    world.calm();
    world.go_on_until(|world| requests.iter().all(|it| world.answers.contains_key(it)));
    for request in requests {
        granted(&world, request);
    }
    assert_eq!(created(&world).len(), 1, "the same ENI");
    let lasted = world.now / 1000;
    assert!(lasted < 40, "{lasted} s");
}
