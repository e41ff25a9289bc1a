//! Who waited for what does not come, or was refused what comes.

use super::*;

#[test]
fn an_add_that_nobody_was_told_of_moves_when_its_eni_is_not_ours_any_more() {
    let mut world = World::started(targets(0, 0));
    for n in 0..6 {
        world.add(n, 90_000);
    }
    world.calm();
    // Two come free on the primary, one on the other, which is the fuller one now.
    for n in [0, 1, 3] {
        world.del(n);
    }
    world.calm();
    world.advance(40_000);
    world.calm();
    world.eni("eni-1").managed = false;
    world.step(Event::Doubt);
    world.carry_out(0, Fate::Works);
    let last = world.add(6, 5_000);
    world.deliver(0);
    world.calm();
    let answer = world.answers.get(&last);
    let Some(Answer::Granted(grant)) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(grant.addresses[0].eni.as_str(), "eni-0");
}

#[test]
fn a_subnet_that_may_lack_prefixes_or_addresses_is_asked_for_addresses() {
    let mut world = World::started(settings(Families::V4, true, warm_ips(0, 0)));
    for n in 0..3 {
        world.add(n, 90_000);
    }
    // The primary gets addresses, and is full.
    world.carry_out(0, Fate::Fails(CallErrorKind::Refused));
    world.calm();
    let last = world.add(3, 90_000);
    world.go_on_until(|world| {
        matches!(
            world.todo.first(),
            Some(Effect::Call(_, Call::CreateEni { .. }))
        )
    });
    world.carry_out(0, Fate::Fails(CallErrorKind::SubnetExhausted));
    world.calm();
    let answer = world.answers.get(&last);
    assert!(matches!(answer, Some(Answer::Granted(_))), "{answer:?}");
}

#[test]
fn who_waits_for_addresses_of_an_eni_that_ec2_does_not_see_yet_is_not_refused() {
    // No other ENI can give any.
    let mut settings = targets(0, 0);
    settings.max_enis_per_card = Some(1);
    let mut world = World::new(settings);
    world.step(fresh());
    let first = world.add(0, 60_000);
    world.until_to_do(|effect| matches!(effect, Effect::Call(_, Call::Assign { .. })));
    let assign = |effect: &Effect| matches!(effect, Effect::Call(_, Call::Assign { .. }));
    let nth = world.todo.iter().position(assign).expect("to do");
    world.carry_out(nth, Fate::Fails(CallErrorKind::NotFound));
    for _ in 0..10 {
        world.calm();
        world.advance(1_000);
    }
    let answer = world.answers.get(&first);
    assert!(matches!(answer, Some(Answer::Granted(_))), "{answer:?}");
}

#[test]
fn a_pool_that_nobody_asks_anything_of_finds_out_that_ec2_works_again() {
    for minutes in [4, 15] {
        let mut world = World::started(targets(2, 0));
        world.add(0, 60_000);
        for _ in 0..minutes * 60 {
            second(&mut world, |effect| match effect {
                Effect::Call(..) => Fate::Fails(CallErrorKind::Unavailable),
                _ => Fate::Works,
            });
        }
        assert_ne!(world.state.view().mode, Mode::Normal);
        for _ in 0..30 {
            world.calm();
            world.advance(10_000);
        }
        let view = world.state.view();
        assert_eq!((view.mode, view.ipv4.free), (Mode::Normal, 2));
    }
}
