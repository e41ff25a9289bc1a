use super::*;

fn facts() -> Facts {
    Facts {
        waiters: 0,
        warm_ip: 0,
        minimum_ip: 0,
        supply: 0,
        held: 0,
        max_enis: 3,
        enis: 1,
        addresses_per_eni: 9,
        device_indexes: BTreeSet::from([0]),
        rooms: vec![room("eni-0", 9, Gate::Open)],
        coming: 0,
        subnet: SubnetId::new("subnet-1"),
        new_eni: Gate::Open,
    }
}

fn room(eni: &str, addresses: u32, gate: Gate) -> Room {
    Room {
        eni: EniId::new(eni),
        addresses,
        gate,
    }
}

fn assign(eni: &str, addresses: u32) -> Action {
    Action::Assign {
        eni: EniId::new(eni),
        addresses,
    }
}

fn create(device_index: u32, addresses: u32) -> Action {
    Action::Create {
        subnet: SubnetId::new("subnet-1"),
        device_index,
        addresses,
    }
}

#[test]
fn nothing_is_asked_for_when_nothing_is_wanted() {
    assert_eq!(plan(&facts()), []);
}

#[test]
fn a_burst_is_planned_in_one_round_over_enis_and_new_enis() {
    let burst = Facts {
        waiters: 50,
        ..facts()
    };
    assert_eq!(
        plan(&burst),
        [assign("eni-0", 9), create(1, 9), create(2, 9)]
    );
}

#[test]
fn a_new_eni_brings_what_is_wanted_and_no_more() {
    let facts = Facts {
        waiters: 11,
        ..facts()
    };
    assert_eq!(plan(&facts), [assign("eni-0", 9), create(1, 2)]);
}

#[test]
fn warm_addresses_are_wanted_beyond_the_waiters_and_minimum_counts_all_that_is_held() {
    for (waiters, warm_ip, minimum_ip, supply, held, want) in [
        (0, 3, 0, 3, 5, 0),
        (0, 3, 0, 1, 5, 2),
        (2, 3, 0, 1, 5, 4),
        (0, 0, 8, 0, 5, 3),
        (0, 3, 8, 1, 5, 3),
        (0, 5, 8, 1, 5, 4),
        // Cooling addresses are held, but serve nobody.
        (1, 0, 0, 0, 9, 1),
    ] {
        let facts = Facts {
            waiters,
            warm_ip,
            minimum_ip,
            supply,
            held,
            ..facts()
        };
        assert_eq!(facts.shortfall(), want, "{facts:?}");
    }
}

#[test]
fn room_on_a_busy_eni_is_waited_for_rather_than_a_new_eni_made() {
    let facts = Facts {
        waiters: 10,
        rooms: vec![room("eni-0", 8, Gate::Busy)],
        ..facts()
    };
    assert_eq!(plan(&facts), [create(1, 2)]);
}

#[test]
fn room_on_an_eni_that_is_being_made_is_waited_for_rather_than_one_more_made() {
    let facts = Facts {
        waiters: 10,
        rooms: vec![],
        coming: 8,
        ..facts()
    };
    assert_eq!(plan(&facts), [create(1, 2)]);
    assert_eq!(facts.reach(), 8 + 18);
}

#[test]
fn an_eni_that_refuses_is_passed_by() {
    let facts = Facts {
        waiters: 2,
        rooms: vec![room("eni-0", 8, Gate::Closed), room("eni-1", 1, Gate::Open)],
        enis: 2,
        device_indexes: BTreeSet::from([0, 2]),
        ..facts()
    };
    assert_eq!(plan(&facts), [assign("eni-1", 1), create(1, 1)]);
}

#[test]
fn no_eni_is_made_beyond_the_limit_or_while_ec2_refuses_it() {
    let full = Facts {
        waiters: 5,
        rooms: vec![],
        enis: 3,
        ..facts()
    };
    assert_eq!(plan(&full), []);
    assert_eq!(full.reach(), 0);
    let refused = Facts {
        new_eni: Gate::Closed,
        enis: 1,
        ..full
    };
    assert_eq!(plan(&refused), []);
    assert_eq!((refused.reach(), refused.limit()), (0, 18));
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn gate() -> impl Strategy<Value = Gate> {
        prop_oneof![Just(Gate::Open), Just(Gate::Busy), Just(Gate::Closed)]
    }

    prop_compose! {
        fn any_facts()(
            waiters in 0..60u32, warm_ip in 0..20u32, minimum_ip in 0..40u32,
            supply in 0..20u32, cooling in 0..20u32, max_enis in 1..5u32, per_eni in 1..15u32,
            rooms in prop::collection::vec((0..15u32, gate()), 0..4), new_eni in gate(), coming in 0..9u32,
        ) -> Facts {
            let enis = u32::try_from(rooms.len()).unwrap();
            Facts {
                waiters, warm_ip, minimum_ip, supply, held: supply + cooling, max_enis, enis,
                addresses_per_eni: per_eni,
                device_indexes: (0..enis.max(1)).collect(),
                rooms: rooms.iter().enumerate().map(|(at, (addresses, gate))| {
                    room(&format!("eni-{at}"), (*addresses).min(per_eni), *gate)
                }).collect(),
                coming,
                subnet: SubnetId::new("subnet-1"),
                new_eni,
            }
        }
    }

    /// Counts what was planned as on its way, as the state does.
    fn under_way(mut facts: Facts, actions: &[Action]) -> Facts {
        for action in actions {
            let addresses = match action {
                Action::Assign { eni, addresses } => {
                    let room = facts
                        .rooms
                        .iter_mut()
                        .find(|room| room.eni == *eni)
                        .unwrap();
                    room.addresses -= addresses;
                    room.gate = Gate::Busy;
                    addresses
                }
                Action::Create {
                    device_index,
                    addresses,
                    ..
                } => {
                    assert!(facts.device_indexes.insert(*device_index));
                    facts.enis += 1;
                    facts.coming += facts.addresses_per_eni - addresses;
                    addresses
                }
            };
            assert!(*addresses > 0);
            facts.supply += addresses;
            facts.held += addresses;
        }
        facts
    }

    proptest! {
        #[test]
        fn a_plan_is_a_fixpoint_and_within_the_limits(facts in any_facts()) {
            let actions = plan(&facts);
            let after = under_way(facts.clone(), &actions);
            prop_assert_eq!(plan(&after), []);
            prop_assert!(after.enis <= facts.max_enis.max(facts.enis));
        }

        #[test]
        fn what_is_wanted_and_can_be_had_is_asked_for(facts in any_facts()) {
            let open = |gate| gate == Gate::Open;
            let all_open = facts.coming == 0 && open(facts.new_eni) && facts.rooms.iter().all(|room| open(room.gate));
            let after = under_way(facts.clone(), &plan(&facts));
            if all_open {
                prop_assert_eq!(
                    facts.shortfall() - after.shortfall(),
                    facts.shortfall().min(facts.reach())
                );
            } else if facts.shortfall() > 0 && facts.reach() > 0 {
                let waits = facts.rooms.iter().any(|room| room.gate == Gate::Busy)
                    || facts.new_eni == Gate::Busy
                    || facts.coming > 0;
                prop_assert!(after.shortfall() < facts.shortfall() || waits);
            }
        }
    }
}
