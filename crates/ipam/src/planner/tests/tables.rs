//! aws-node's own tables: its unit tests and its documentation.

use super::sim::Sim;
use super::*;

/// An instance type, by ENIs and IPv4 slots of each.
fn instance(enis: u32, slots: u32) -> InstanceLimits {
    InstanceLimits {
        enis_per_card: vec![enis],
        ipv4_slots_per_eni: slots,
        ..m5_large()
    }
}

/// `docs/eni-and-ip-target.md` and `docs/prefix-and-ip-target.md`: how many slots of each ENI are filled with so many
/// pods, and how many addresses are free. The rows marked with a cross follow the code where the documentation does not.
#[test]
fn the_pool_has_the_sizes_of_aws_nodes_documentation() {
    const T3_SMALL: (u32, u32) = (3, 4);
    const P3DN: (u32, u32) = (15, 50);
    const SINGLE: bool = false;
    const PREFIXES: bool = true;
    type Row = (u32, &'static [usize], u32);
    type Table = (&'static str, (u32, u32), bool, Warm, &'static [Row]);
    #[rustfmt::skip]
    let tables: &[Table] = &[
        ("t3.small, WARM_ENI=1", T3_SMALL, SINGLE, enis(1), &[
            (0, &[3], 3),
            (5, &[3, 3, 3], 4),
            (9, &[3, 3, 3], 0),
        ]),
        ("t3.small, WARM_IP=1, MINIMUM_IP=1", T3_SMALL, SINGLE, ip(1, 1), &[
            (0, &[1], 1),
            (5, &[3, 3], 1),
            (9, &[3, 3, 3], 0),
        ]),
        ("t3.small, WARM_IP=2, MINIMUM_IP=5", T3_SMALL, SINGLE, ip(2, 5), &[
            (0, &[3, 2], 5),
            (5, &[3, 3, 1], 2),
            (9, &[3, 3, 3], 0),
        ]),
        ("p3dn.24xlarge, WARM_ENI=1", P3DN, SINGLE, enis(1), &[
            (0, &[49], 49),
            (3, &[49, 49], 95),
            (95, &[49, 49, 49], 52),
        ]),
        ("p3dn.24xlarge, WARM_IP=5, MINIMUM_IP=10", P3DN, SINGLE, ip(5, 10), &[
            (0, &[10], 10),
            (7, &[12], 5),
            (15, &[20], 5),
            (45, &[49, 1], 5),
        ]),
        ("t3.small with prefixes, WARM_PREFIX=1", T3_SMALL, PREFIXES, prefixes(1), &[
            (0, &[1], 16),
            (5, &[2], 27),
            (16, &[2], 16),
            (17, &[3], 31),
            (58, &[3, 2], 22),
        ]),
        ("t3.small with prefixes, WARM_IP=1, MINIMUM_IP=1", T3_SMALL, PREFIXES, ip(1, 1), &[
            (0, &[1], 16),
            (5, &[1], 11),
            (17, &[2], 15),
            (58, &[3, 1], 6),
        ]),
        ("t3.small with prefixes, WARM_IP=7, MINIMUM_IP=20", T3_SMALL, PREFIXES, ip(7, 20), &[
            (0, &[2], 32), // ✗: 1
            (5, &[2], 27),
            (17, &[2], 15),
            (58, &[3, 2], 22),
        ]),
        ("p3dn.24xlarge with prefixes, WARM_PREFIX=1", P3DN, PREFIXES, prefixes(1), &[
            (0, &[1], 16),
            (3, &[2], 29), // ✗: on two ENIs
            (95, &[7], 17), // ✗: on three ENIs
        ]),
        ("p3dn.24xlarge with prefixes, WARM_IP=5, MINIMUM_IP=10", P3DN, PREFIXES, ip(5, 10), &[
            (0, &[1], 16),
            (7, &[1], 9),
            (15, &[2], 17),
            (45, &[4], 19), // ✗: on two ENIs
        ]),
    ];
    for (table, (enis, slots), delegation, warm, rows) in tables {
        let settings = Settings {
            delegation: *delegation,
            ..settings(*warm)
        };
        let start = Sim::start(settings, instance(*enis, *slots));
        for (pods, filled, free) in *rows {
            let mut at_once = start.clone();
            at_once.add(*pods);
            let mut one_by_one = start.clone();
            (0..*pods).for_each(|_| one_by_one.add(1));
            let mut ways = vec![("at once", at_once), ("one by one", one_by_one.clone())];
            let slot = if *delegation { 16 } else { 1 };
            if pods + 3 <= enis * (slots - 1) * slot {
                one_by_one.add(3);
                one_by_one.remove(3);
                ways.push(("after more", one_by_one));
            }
            for (way, sim) in ways {
                let row = format!("{table}: {pods} pods {way}");
                assert_eq!(
                    (sim.slots().as_slice(), sim.free()),
                    (*filled, *free),
                    "{row}"
                );
            }
        }
    }
}

/// `TestIPPoolWarmIPTarget`, on one ENI.
#[test]
fn warm_ip_state() {
    type Row = (u32, u32, Option<u32>, Option<u32>);
    let rows: &[(&str, Warm, Row)] = &[
        ("W=5, empty", ip(5, 0), (0, 0, Some(5), None)),
        ("W=5, 2 free", ip(5, 0), (2, 0, Some(3), None)),
        ("W=5, 5 free", ip(5, 0), (5, 0, None, None)),
    ];
    for (row, warm, (free, owned, short, over)) in rows {
        let facts = node(vec![eni(0, 14 - free).holding(*owned, 0, *free)]);
        expect(
            row,
            &settings(*warm),
            &facts,
            *short,
            *over,
            SlotKind::Address,
        );
    }
    // Neither is set: WARM_ENI_TARGET rules, and asks for all of an ENI.
    let facts = node(vec![eni(0, 14)]);
    let plan = grow(&settings(ip(0, 0)), &instance(4, 15), &facts);
    assert_eq!(plan, [assign(0, SlotKind::Address, 14)]);
}

/// The same with prefixes.
#[test]
fn warm_ip_state_with_prefixes() {
    let rows: &[(&str, u32, Option<u32>, Option<u32>)] = &[
        ("W=5, empty", 0, Some(1), None),
        ("W=5, 2 free prefixes", 2, None, Some(1)),
        ("W=5, 1 free prefix", 1, None, None),
    ];
    for (row, free, short, over) in rows {
        let eni = (0..*free).fold(eni(0, 14 - free), |eni, _| eni.with_prefix(0));
        let facts = node(vec![eni]);
        expect(
            row,
            &delegated(ip(5, 0)),
            &facts,
            *short,
            *over,
            SlotKind::Prefix,
        );
    }
}

fn expect(
    row: &str,
    settings: &Settings,
    facts: &Facts,
    short: Option<u32>,
    over: Option<u32>,
    kind: SlotKind,
) {
    let limits = instance(4, 15);
    let growth: Vec<_> = short
        .map(|count| assign(0, kind, count))
        .into_iter()
        .collect();
    assert_eq!(grow(settings, &limits, facts), growth, "{row}");
    let back: Vec<_> = over
        .map(|count| unassign(0, kind, count))
        .into_iter()
        .collect();
    assert_eq!(shrink(settings, &limits, facts), back, "{row}");
}

fn asks_for_ipv4(plan: &[Action]) -> bool {
    plan.iter().any(|action| {
        matches!(
            action,
            Action::Assign { count: 1.., .. }
                | Action::Create {
                    ipv4: Some((_, 1..)),
                    ..
                }
        )
    })
}

/// `TestDatastorePoolTooLow`: addresses of a full ENI, `WARM_ENI_TARGET`, `WARM_IP_TARGET`, what is held and owned,
/// max-pods.
#[test]
fn pool_too_low() {
    #[rustfmt::skip]
    let rows = [
        ("empty, E=1", 14, (1, 0), (0, 0), 500, true),
        ("empty, E=0", 14, (0, 0), (0, 0), 500, true),
        ("empty, W=3", 14, (0, 3), (0, 0), 500, true),
        ("3 free, E=1, W=1", 3, (1, 1), (3, 0), 500, false),
        ("1 of 3 used, E=1", 3, (1, 0), (3, 1), 500, true),
        ("1 of 3 used, E=0", 3, (0, 0), (3, 1), 500, false),
        ("3 of 3 used, E=1", 3, (1, 0), (3, 3), 500, true),
        ("3 of 3 used, E=0", 3, (0, 0), (3, 3), 500, true),
        ("3 of 3 used, W=5, max-pods 3", 3, (0, 5), (3, 3), 3, false),
    ];
    for (row, per_eni, (warm_eni, warm_ip), (held, owned), max_pods, low) in rows {
        let facts = node(vec![eni(0, per_eni - held).holding(owned, 0, held - owned)]);
        let settings = Settings {
            max_pods: Some(max_pods),
            ..settings(targets(Some(warm_eni), Some(warm_ip), None, None))
        };
        let plan = grow(&settings, &instance(4, per_eni + 1), &facts);
        assert_eq!(asks_for_ipv4(&plan), low, "{row}: {plan:?}");
    }
}

/// `TestDatastorePrefixPoolTooLow`: `WARM_PREFIX_TARGET`, prefixes held and addresses owned, max-pods.
#[test]
fn prefix_pool_too_low() {
    #[rustfmt::skip]
    let rows = [
        ("empty, P=1", 1, None, 500, true),
        ("empty, P=0", 0, None, 500, true),
        ("1 free prefix, P=1", 1, Some(0), 500, false),
        ("1 used, P=1", 1, Some(1), 500, true),
        ("1 used, P=0", 0, Some(1), 500, false),
        ("3 used, P=1", 1, Some(3), 500, true),
        ("3 used, P=0", 0, Some(3), 500, false),
        ("max-pods 4 with 16 addresses", 1, Some(3), 4, false),
    ];
    for (row, warm, owned, max_pods, low) in rows {
        let there = owned.map_or(eni(0, 16), |owned| eni(0, 15).with_prefix(owned));
        let settings = Settings {
            max_pods: Some(max_pods),
            ..delegated(prefixes(warm))
        };
        let plan = grow(&settings, &instance(4, 17), &node(vec![there]));
        assert_eq!(asks_for_ipv4(&plan), low, "{row}: {plan:?}");
    }
}

/// `TestWarmENIInteractions`: 3 ENIs with 2, 2 and 1 addresses, two pods on the first.
#[test]
fn eni_removal() {
    let three = || {
        vec![
            eni(1, 0).holding(2, 0, 0),
            eni(2, 0).holding(0, 0, 2),
            eni(3, 0).holding(0, 0, 1),
        ]
    };
    let two = || three().into_iter().take(2).collect();
    let trunk = || {
        let mut enis = three();
        enis[2].may_go = false;
        enis
    };
    let empty = || {
        let mut enis = three();
        enis.push(eni(6, 0));
        enis
    };
    let rows: Vec<(&str, Vec<EniStock>, Warm, Vec<Action>)> = vec![
        ("W=3, M=1", three(), ip(3, 1), vec![]),
        ("W=1, M=5", three(), ip(1, 5), vec![]),
        ("W=2, M=4", three(), ip(2, 4), vec![drain(3)]),
        ("then W=0, M=3", two(), ip(0, 3), vec![]),
        ("then W=0, M=2", two(), ip(0, 2), vec![drain(2)]),
        ("a trunk or EFA ENI", trunk(), ip(2, 4), vec![]),
        ("an empty ENI", empty(), ip(3, 1), vec![drain(6)]),
    ];
    for (row, enis, warm, expected) in rows {
        let mut plan = shrink(&settings(warm), &instance(8, 3), &node(enis));
        plan.retain(|action| matches!(action, Action::Drain { .. }));
        assert_eq!(plan, expected, "{row}");
    }
}
