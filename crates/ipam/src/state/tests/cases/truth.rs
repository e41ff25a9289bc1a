//! Which address is whose: EC2's word, IMDS's, the books'.

use std::sync::Arc;

use super::*;

/// Nobody knows what came of the call, and ipamd restarts twice: the second time before EC2 has told it what is there.
#[test]
fn an_address_that_was_to_be_given_back_before_a_restart_goes_after_it() {
    let mut world = World::started(targets(1, 0));
    for n in 0..3 {
        world.add(n, 60_000);
    }
    world.calm();
    for n in 0..2 {
        world.del(n);
    }
    let unassigns = |effect: &Effect| is_call(effect, "UnassignPrivateIpAddresses");
    world.until_to_do(unassigns);
    carry_out(&mut world, unassigns, Fate::Fails(CallErrorKind::Unknown));
    world.restart(None);
    world.del(2);
    world.calm_but(|effect| is_call(effect, "DescribeNetworkInterfaces"));
    world.restart(None);
    world.until_to_do(|effect| matches!(effect, Effect::PrepareNode(_)));
    assert_eq!(world.state.view().ipv4.leaving, 1);
    minutes(&mut world, 2);
    assert_eq!(world.held_by_ec2(), 1);
}

/// EC2 gives another ENI of the node what one has just given back, and its reply comes first.
#[test]
fn an_address_that_went_from_one_eni_to_another_stays_there_whichever_reply_comes_first() {
    let mut world = World::started(targets(1, 0));
    for n in 0..5 {
        world.add(n, 60_000);
    }
    world.calm();
    for n in 0..2 {
        world.del(n);
    }
    // Each ENI gives one back. The second has done so, and so has room.
    let unassigns = |effect: &Effect| is_call(effect, "UnassignPrivateIpAddresses");
    let assigns = |effect: &Effect| is_call(effect, "AssignPrivateIpAddresses");
    world.until_to_do(unassigns);
    carry_out(&mut world, unassigns, Fate::Works);
    world.until_to_do(unassigns);
    for n in 10..12 {
        world.add(n, 60_000);
    }
    let held = |effect: &Effect| unassigns(effect) || assigns(effect);
    world.calm_but(held);
    let call = |effect: &Effect| match effect {
        Effect::Call(id, Call::Unassign { eni, slots }) => (*id, eni.clone(), slots.clone()),
        Effect::Call(id, Call::Assign { eni, .. }) => (*id, eni.clone(), Vec::new()),
        other => panic!("{other:?}"),
    };
    let calls: Vec<_> = world.todo.iter().map(call).collect();
    let [(unassign, from, slots), (assign, to, _)] = calls.as_slice() else {
        panic!("{calls:?}");
    };
    assert_eq!((from.as_str(), to.as_str()), ("eni-0", "eni-1"));
    world.todo.clear();
    for (id, reply) in [
        (assign, CallReply::Assigned(slots.clone())),
        (unassign, CallReply::Done),
    ] {
        let outcome = Ok(reply);
        world.step(Event::CallDone { call: *id, outcome });
    }
    let enis = world.state.view().enis;
    let holds = |n: usize| enis[n].slots.iter().any(|it| it.slot == slots[0]);
    assert_eq!((holds(0), holds(1)), (false, true));
}

/// Its Attach was given up, and had happened all the same: after a restart it is on the instance, and goes.
#[test]
fn an_eni_that_is_to_be_deleted_serves_no_pod_after_a_restart() {
    let mut world = World::started(targets(1, 0));
    for n in 0..3 {
        world.add(n, 60_000);
    }
    world.calm();
    world.advance(20_000);
    world.calm();
    let eni = world.eni("eni-1").clone();
    let place = eni.attachment.as_ref().unwrap().place;
    world.disk.intents.push(EniIntent {
        token: ClientToken::new("given-up"),
        subnet: eni.subnet_id.clone(),
        groups: Vec::new(),
        ipv4: None,
        ipv6_prefixes: 0,
        place,
        stage: IntentStage::Delete(eni.id.clone()),
        since: Time(world.now),
    });
    let seen = world.seen();
    world.restart(Some(seen));
    let request = world.add(10, 600_000);
    minutes(&mut world, 5);
    assert_ne!(only(&granted(&world, request)).eni, eni.id);
    assert_eq!(world.leaked(), []);
    let enis = world.state.view().enis;
    assert!(enis.iter().all(|it| it.id.as_ref() != Some(&eni.id)));
}

/// Others moved a pod's address from one ENI to another. The books say where it is, for the next ipamd.
#[test]
fn the_books_follow_an_address_to_another_eni() {
    let mut world = World::started(targets(1, 0));
    for n in 0..4 {
        world.add(n, 90_000);
    }
    world.calm();
    let ledger = world.state.ledger();
    let on_eni_1 = |it: &&Arc<GrantEntry>| it.addresses[0].eni == EniId::new("eni-1");
    let entry = ledger.grants.iter().find(on_eni_1).unwrap();
    let moved = entry.addresses[0].slot;
    world.eni("eni-1").slots.retain(|net| *net != moved);
    world.eni("eni-0").slots.push(moved);
    world.advance(40_000);
    world.step(Event::Doubt);
    world.calm();
    let said = |ledger: &Ledger| {
        let mut grants = ledger.grants.iter();
        let entry = grants.find(|it| it.sandbox == entry.sandbox).unwrap();
        entry.addresses[0].eni.clone()
    };
    assert_eq!(said(&world.state.ledger()), EniId::new("eni-0"));
    // Books that contradict themselves are no worse.
    for entry in &mut world.disk.grants {
        std::sync::Arc::make_mut(entry).addresses[0].eni = EniId::new("eni-1");
    }
    world.crash(false);
    assert_eq!(said(&world.state.ledger()), EniId::new("eni-0"));
}

/// #3019: two sets of addresses were compared by their lengths.
#[test]
fn imds_and_books_of_the_same_length_but_not_the_same_content_are_no_agreement() {
    let mut world = World::started(targets(2, 0));
    let right = world.seen();
    let mut wrong = right.clone();
    let one = wrong[0].slots.pop_first().unwrap();
    wrong[0].slots.insert("10.9.9.9/32".parse().unwrap());
    assert_ne!(one, "10.9.9.9/32".parse().unwrap());
    world.restart(Some(right));
    assert_eq!(described(&world), 1, "the first start's");
    world.restart(Some(wrong));
    assert_eq!(described(&world), 2);
    world.calm();
    assert_eq!(world.state.view().ipv4.held, 2);
}

/// #732, #754: an ENI is detached by somebody else; its pods keep a dead address, and new ones get another.
#[test]
fn an_eni_that_is_detached_by_others_serves_nobody_and_its_pods_are_named() {
    let mut world = full();
    let lost: Vec<Sandbox> = world
        .owned
        .iter()
        .filter(|(sandbox, _)| {
            let grant = world.state.grant_of(sandbox).unwrap();
            only(&grant).eni.as_str() == "eni-1"
        })
        .map(|(sandbox, _)| sandbox.clone())
        .collect();
    assert_eq!(lost.len(), 3);
    world.eni("eni-1").attachment = None;
    // Its own attachment is older than what EC2 may not have seen yet.
    world.advance(60_000);
    world.step(Event::Doubt);
    world.calm();
    assert_eq!(world.state.view().ipv4.quarantined, 3);
    for sandbox in lost {
        let name = sandbox.to_string();
        assert!(world.told.iter().any(|what| what.contains(&name)), "{name}");
    }
    let request = world.add(20, 60_000);
    world.calm();
    assert_ne!(only(&granted(&world, request)).eni.as_str(), "eni-1");
}

/// #754: an owned address was dropped by force, and only a counter said so.
#[test]
fn an_owned_address_that_ec2_took_is_told_with_its_pod_and_given_to_nobody() {
    let mut world = World::started(targets(0, 0));
    let request = world.add(1, 60_000);
    world.calm();
    let ip = address(&world, request);
    world.take_away(ip);
    world.advance(60_000);
    world.step(Event::Doubt);
    world.calm();
    let told = world.told.iter();
    let mut told = told.filter(|what| what.contains(&ip.to_string()));
    assert!(told.any(|what| what.contains(&sandbox(1).to_string())));
    let other = world.add(2, 60_000);
    world.calm();
    assert_ne!(address(&world, other), ip);
    let again = world.add(1, 60_000);
    assert_eq!(refused(&world, again).reason, Reason::AddressLost);
}

/// The same over a restart at which IMDS shows what the books say that EC2 holds: its word is none on the others.
#[test]
fn an_owned_address_that_ec2_took_is_given_to_nobody_after_a_restart_either() {
    for detached in [false, true] {
        let mut world = full();
        let request = world.add(4, 60_000);
        world.calm();
        let grant = granted(&world, request);
        let (ip, eni) = (only(&grant).address, only(&grant).eni.clone());
        if detached {
            world.eni(eni.as_str()).attachment = None;
        } else {
            world.take_away(ip);
        }
        world.advance(60_000);
        world.step(Event::Doubt);
        world.calm();
        let lost = world.state.view().ipv4.quarantined;
        assert_eq!(lost, if detached { 3 } else { 1 });
        world.imds = true;
        world.crash(false);
        world.calm();
        assert_eq!(world.state.view().ipv4.quarantined, lost);
        let again = world.add(4, 60_000);
        world.calm();
        assert_eq!(refused(&world, again).reason, Reason::AddressLost);
        world.del(4);
        minutes(&mut world, 2);
        let other = world.add(20, 60_000);
        minutes(&mut world, 2);
        assert!(
            !matches!(&world.answers[&other], Answer::Granted(grant) if only(grant).address == ip)
        );
    }
}

/// Others took a prefix unseen, and EC2 gives one address of it to us.
#[test]
fn what_ec2_gives_of_a_prefix_says_that_the_prefix_is_gone() {
    let mut world = World::started(settings(
        Families::V4,
        true,
        Warm::Targets(WarmTargets {
            ip: Some(0),
            minimum_ip: Some(1),
            ..WarmTargets::default()
        }),
    ));
    for n in 0..16 {
        world.add(n, 60_000);
        world.calm();
    }
    let prefix = world.eni("eni-0").slots[0];
    assert_eq!(world.state.view().ipv4.free, 0);
    let mut hosts = prefix.hosts();
    let (again, last) = (hosts.next().unwrap(), prefix.broadcast());
    world.take_away(last);
    world.fragmented = true;
    world.add(16, 60_000);
    let assigned = |event: &Event| {
        matches!(
            event,
            Event::CallDone {
                outcome: Ok(CallReply::Assigned(_)),
                ..
            }
        )
    };
    for _ in 0..100 {
        if world.replies.iter().any(assigned) {
            break;
        }
        if world.todo.is_empty() {
            world.deliver(0);
        } else {
            world.carry_out(0, Fate::Works);
        }
    }
    let reply = world
        .replies
        .iter_mut()
        .find(|event| assigned(event))
        .unwrap();
    let Event::CallDone {
        outcome: Ok(CallReply::Assigned(slots)),
        ..
    } = reply
    else {
        unreachable!()
    };
    slots[0] = again.into();
    let held = &mut world.eni("eni-0").slots;
    held.clear();
    held.push(again.into());
    world.deliver(0);
    let totals = world.state.view().ipv4;
    assert_eq!((totals.owned, totals.quarantined, totals.free), (1, 15, 0));
    // Its route goes.
    let prepares = |effect: &Effect| match effect {
        Effect::PrepareNode(held) => held.iter().all(|eni| !eni.slots.contains(&prefix)),
        _ => false,
    };
    assert!(world.todo.iter().any(prepares), "{:?}", world.todo);
    minutes(&mut world, 1);
    let totals = world.state.view().ipv4;
    assert_eq!((totals.owned, totals.quarantined), (2, 15));
}

/// #1148: a crash after the reply to AssignPrivateIpAddresses, before it was written down.
#[test]
fn an_address_that_was_assigned_just_before_a_crash_is_found_by_a_describe() {
    let mut world = World::started(targets(0, 0));
    world.add(1, 60_000);
    let assign = |effect: &Effect| is_call(effect, "AssignPrivateIpAddresses");
    let at = world.todo.iter().position(assign).unwrap();
    world.carry_out(at, Fate::Works);
    world.crash(false);
    let request = world.add(1, 60_000);
    world.calm();
    granted(&world, request);
    assert_eq!(world.held_by_ec2(), 1);
    assert_eq!(called(&world, "AssignPrivateIpAddresses"), 1);
}

/// Somebody moves an address, or a prefix, from one ENI of the node to another.
#[test]
fn a_slot_that_comes_from_another_eni_of_the_node_keeps_its_pods() {
    for delegation in [false, true] {
        for (from, to) in [("eni-0", "eni-1"), ("eni-1", "eni-0")] {
            let one_more = Warm::Targets(WarmTargets {
                eni: Some(1),
                prefix: Some(4),
                ..WarmTargets::default()
            });
            let mut world = World::started(settings(Families::V4, delegation, one_more));
            // As many as fill the primary, and more.
            let pods = if delegation { 50 } else { 5 };
            for n in 0..pods {
                world.add(n, 60_000);
                world.calm();
            }
            let on_it = |world: &World, net: &IpNet| -> usize {
                let addresses = world.links.values().flatten();
                addresses.filter(|ip| net.contains(*ip)).count()
            };
            let slots = world.eni(from).slots.clone();
            let moved = slots.iter().max_by_key(|net| on_it(&world, net)).unwrap();
            assert!(on_it(&world, moved) > 1 || !delegation);
            world.eni(from).slots.retain(|net| net != moved);
            world.eni(to).slots.push(*moved);
            minutes(&mut world, 1);
            world.step(Event::Doubt);
            world.calm();
            let totals = world.state.view().ipv4;
            assert_eq!((totals.owned, totals.quarantined), (u64::from(pods), 0));
            for n in 0..pods {
                let grant = world.state.grant_of(&sandbox(n)).unwrap();
                let at = only(&grant);
                assert!(at.eni.as_str() == to || !moved.contains(&at.address));
            }
            for n in 0..pods {
                world.del(n);
            }
            minutes(&mut world, 2);
            let totals = world.state.view().ipv4;
            assert_eq!((totals.owned, totals.cooling), (0, 0));
        }
    }
}
