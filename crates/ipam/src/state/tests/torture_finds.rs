//! What the torture found, each in its smallest form.

use super::world::{World, settings};
use crate::{Families, Warm, WarmTargets};

fn warm_enis(eni: u32) -> Warm {
    Warm::Targets(WarmTargets {
        eni: Some(eni),
        ..WarmTargets::default()
    })
}

#[test]
fn an_eni_that_was_too_young_to_go_goes_when_it_is_old_enough() {
    let mut settings = settings(Families::V4, false, warm_enis(0));
    settings.cooldown = std::time::Duration::ZERO;
    let mut world = World::started(settings);
    for n in 0..4 {
        world.add(n, 90_000);
    }
    world.calm();
    for n in 0..4 {
        world.del(n);
    }
    for _ in 0..60 {
        world.calm();
        world.advance(10_000);
    }
    let held = world.state.view().ipv4.held;
    assert_eq!(held, 3, "one ENI's worth is enough");
}

#[test]
fn what_cooled_on_an_eni_that_is_not_ours_any_more_is_forgotten_when_it_has_cooled() {
    let mut world = World::started(settings(Families::V4, false, warm_enis(1)));
    for n in 0..6 {
        world.add(n, 90_000);
    }
    world.calm();
    world.advance(20_000);
    world.calm();
    for n in 0..6 {
        world.del(n);
    }
    world.calm();
    // Somebody tags it `no_manage` while its addresses cool.
    world.eni("eni-1").managed = false;
    world.advance(1_000);
    world.step(crate::Event::Doubt);
    world.calm();
    for _ in 0..60 {
        world.advance(10_000);
        world.calm();
    }
    let view = world.state.view();
    let theirs = view
        .enis
        .iter()
        .find(|eni| eni.state == crate::EniState::Unmanaged);
    assert_eq!(
        theirs.map(|eni| eni.slots.len()),
        Some(0),
        "{:?}",
        view.ipv4
    );
}
