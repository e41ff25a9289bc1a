//! Views of EC2 and IMDS that are behind: what they lack is there, and what they show may have gone.

use super::*;

/// #3887, #1479: IMDS still lists an address that was unassigned, ipamd restarts, and a pod gets it.
#[test]
fn imds_that_still_lists_what_was_given_back_supplies_no_address() {
    // While the tombstone is kept, and after.
    for later in [0, 60_000] {
        let GaveBack {
            mut world,
            gone,
            seen,
            ..
        } = gave_back();
        world.advance(later);
        world.calm();
        world.restart(Some(seen));
        let requests = [10, 11, 12].map(|n| world.add(n, 60_000));
        world.calm();
        for request in requests {
            let ip = address(&world, request);
            assert!(!gone.contains(&IpNet::from(ip)), "{ip} is dead");
        }
    }
}

/// #3887: an address was unassigned, EC2 gave it to another node, and an older view still shows it here.
#[test]
fn a_describe_that_still_lists_what_was_given_back_supplies_no_address() {
    let GaveBack {
        mut world, facts, ..
    } = gave_back();
    // The last one: EC2 does not take longer than half a minute to see its own changes.
    let tombstones = world.state.ledger().tombstones;
    let gone = tombstones.last().unwrap().slot;
    for restarts in [false, true] {
        if restarts {
            world.restart(None);
        } else {
            world.step(Event::Doubt);
        }
        describe(&mut world, std::slice::from_ref(&facts));
        let view = world.state.view();
        assert!(view.enis[0].slots.iter().all(|it| it.slot != gone));
    }
}

/// #1177, #1148: a view of EC2 that is behind lacks an address that was just assigned, and a pod loses it.
#[test]
fn an_older_view_takes_nothing_away_that_a_reply_gave() {
    let mut world = World::started(targets(1, 0));
    let before = world.eni("eni-0").clone();
    let request = world.add(1, 60_000);
    world.calm();
    let ip = address(&world, request);
    world.step(Event::Doubt);
    describe(&mut world, &[before]);
    world.calm();
    let totals = world.state.view().ipv4;
    assert_eq!((totals.owned, totals.free, totals.quarantined), (1, 1, 0));
    assert_eq!(world.held_by_ec2(), 2, "nothing was asked for again");
    let again = world.add(1, 60_000);
    world.calm();
    assert_eq!(address(&world, again), ip);
}

/// A /28 was given back, and an address of it has come alone since: a view that is behind shows the /28 still.
#[test]
fn an_older_view_puts_no_prefix_where_a_reply_gave_an_address() {
    let mut world = World::started(targets(1, 0));
    let request = world.add(1, 60_000);
    world.calm();
    let ip = address(&world, request);
    let mut before = world.eni("eni-0").clone();
    let around = IpNet::new(ip, 28).unwrap().trunc();
    before.slots.retain(|net| !around.contains(net));
    before.slots.push(around);
    world.step(Event::Doubt);
    describe(&mut world, &[before]);
    let view = world.state.view();
    assert!(view.enis[0].slots.iter().all(|it| it.slot != around));
    assert_eq!((view.ipv4.owned, view.ipv4.quarantined), (1, 0));
}

/// An ENI was detached, and a view of EC2 that is behind shows it on the instance still.
#[test]
fn an_older_view_keeps_no_eni_that_was_detached() {
    let (mut world, before) = one_eni_too_many();
    let to_be_deleted = |world: &World| {
        let intents = world.state.ledger().intents;
        let deletes = |it: &EniIntent| matches!(it.stage, IntentStage::Delete(_));
        intents.iter().any(deletes)
    };
    world.go_on_until(to_be_deleted);
    world.step(Event::Doubt);
    describe(&mut world, &before);
    assert!(to_be_deleted(&world), "{:?}", world.state.ledger().intents);
    world.calm();
    let left: Vec<_> = world.leaked().into_iter().map(|eni| eni.id).collect();
    assert_eq!(left, []);
    minutes(&mut world, 3);
    let known = world.state.view().enis;
    assert_eq!(known.len(), 1, "{known:#?}");
}

/// A view was asked for, and its answer comes only after an ENI that it shows was detached and deleted.
#[test]
fn an_older_view_brings_no_eni_back_that_was_deleted() {
    let (mut world, before) = one_eni_too_many();
    world.go_on_until(|world| world.state.view().enis.len() == 1);
    world.calm();
    assert_eq!(world.leaked().len(), 0);
    world.step(Event::Doubt);
    describe(&mut world, &before);
    let known: Vec<_> = world
        .state
        .view()
        .enis
        .into_iter()
        .map(|it| it.id)
        .collect();
    assert_eq!(known, [Some(EniId::new("eni-0"))]);
    // EC2 does not lag for so long: it is there after all.
    world.advance(40_000);
    world.step(Event::Doubt);
    describe(&mut world, &before);
    assert_eq!(world.state.view().enis.len(), 2);
}

/// An ENI that was going is gone, and the same view shows another, with as many addresses that nobody needs.
#[test]
fn what_comes_as_something_else_goes_is_given_back_too() {
    let (mut world, _) = one_eni_too_many();
    // EC2 takes its time, and nothing else is too much.
    let detaches = |effect: &Effect| is_call(effect, "DetachNetworkInterface");
    world.until_to_do(detaches);
    for _ in 0..24 {
        world.advance(5_000);
        world.calm_but(detaches);
    }
    let slots = u32::try_from(world.eni("eni-1").slots.len()).unwrap();
    let late = world.make_eni(None, Some((SlotKind::Address, slots)), 0);
    let mut attachment = world.eni("eni-1").attachment.take().unwrap();
    attachment.id = AttachmentId::new("attach-late");
    attachment.place.device_index = 2;
    world.eni(late.id.as_str()).attachment = Some(attachment);
    world.step(Event::Doubt);
    world.calm_but(detaches);
    assert_eq!(world.state.view().enis.len(), 2);
    minutes(&mut world, 4);
    assert_eq!(world.leaked(), []);
    let known = world.state.view().enis;
    assert_eq!(known.len(), 1, "{known:#?}");
}

/// #1479, #1339, #1340: IMDS lists an ENI for more than 80 s after it was deleted.
#[test]
fn an_eni_that_imds_still_lists_after_its_end_does_not_come_back() {
    let mut world = World::started(targets(1, 0));
    for n in 0..3 {
        world.add(n, 60_000);
    }
    world.calm();
    let seen = world.seen();
    assert_eq!(seen.len(), 2);
    for n in 0..3 {
        world.del(n);
    }
    minutes(&mut world, 5);
    assert_eq!(called(&world, "DeleteNetworkInterface"), 1);
    world.restart(Some(seen));
    minutes(&mut world, 1);
    assert_eq!(world.state.view().enis.len(), 1);
    assert_eq!(called(&world, "DeleteNetworkInterface"), 1);
}

/// #1967: IMDS left out a live ENI after a restart, and it was freed under its pods.
#[test]
fn an_eni_with_pods_that_imds_omits_is_kept() {
    let mut world = full();
    let mut seen = world.seen();
    seen.truncate(2);
    world.restart(Some(seen));
    minutes(&mut world, 10);
    assert_eq!(called(&world, "DetachNetworkInterface"), 0);
    let view = world.state.view();
    assert_eq!((view.enis.len(), view.ipv4.owned), (3, 9));
}
