use super::sim::Sim;
use super::*;

const DIALS: [Dial; 3] = [Dial::Economy, Dial::Balanced, Dial::Latency];

/// An m5.4xlarge.
fn m5_4xlarge() -> InstanceLimits {
    InstanceLimits {
        enis_per_card: vec![8],
        ipv4_slots_per_eni: 30,
        ..m5_large()
    }
}

fn start(dial: Dial, delegation: bool) -> Sim {
    let settings = Settings {
        delegation,
        ..settings(Warm::Demand(dial))
    };
    Sim::start(settings, m5_4xlarge())
}

/// What is free with no pod, with a hundred that came at once, and at the most when ninety of them have gone.
#[test]
fn the_dial_says_how_much_is_kept_free() {
    for (dial, delegation, idle, busy, after) in [
        (Dial::Economy, false, 2, 8, 4),
        (Dial::Balanced, false, 6, 16, 14),
        (Dial::Latency, false, 16, 45, 42),
        (Dial::Economy, true, 16, 12, 22),
        (Dial::Balanced, true, 16, 28, 38),
        (Dial::Latency, true, 16, 76, 54),
    ] {
        let mut sim = start(dial, delegation);
        assert_eq!(sim.free(), idle, "{dial:?}");
        sim.add(100);
        assert_eq!(sim.free(), busy, "{dial:?} {delegation}");
        sim.remove(90);
        assert!(sim.free() <= after, "{dial:?} {delegation}: {}", sim.free());
    }
}

#[test]
fn an_eni_is_not_made_for_what_the_low_mark_does_not_miss() {
    // Twelve pods, nothing free, room for six on the second ENI: seven would be right, two are enough.
    let facts = node(vec![eni(0, 0).holding(9, 0, 0), eni(1, 6).holding(3, 0, 0)]);
    let plan = |facts: &Facts| grow(&settings(Warm::Demand(Dial::Balanced)), &m5_large(), facts);
    assert_eq!(plan(&facts), [assign(1, SlotKind::Address, 6)]);
    let facts = node(vec![eni(0, 0).holding(9, 0, 0), eni(1, 2).holding(3, 0, 0)]);
    assert_eq!(plan(&facts), [assign(1, SlotKind::Address, 2)]);
    // With room for one alone, another ENI is made, and filled to the high mark.
    let facts = node(vec![eni(0, 0).holding(9, 0, 0), eni(1, 1).holding(8, 0, 0)]);
    assert_eq!(
        plan(&facts),
        [
            assign(1, SlotKind::Address, 1),
            create(2, SlotKind::Address, 7)
        ]
    );
}

#[test]
fn too_many_are_given_back_down_to_what_would_be_asked_for() {
    for (dial, free, over) in [
        (Dial::Economy, 4, 0),
        (Dial::Economy, 5, 3),
        (Dial::Balanced, 12, 0),
        (Dial::Balanced, 13, 7),
        (Dial::Latency, 32, 0),
        (Dial::Latency, 33, 17),
    ] {
        let facts = node(vec![eni(0, 0).holding(1, 0, free)]);
        let plan = shrink(&settings(Warm::Demand(dial)), &m5_large(), &facts);
        let expected: Vec<_> = (over > 0)
            .then(|| unassign(0, SlotKind::Address, over))
            .into_iter()
            .collect();
        assert_eq!(plan, expected, "{dial:?}");
    }
}

#[test]
fn pods_that_come_one_by_one_do_not_cost_a_call_each() {
    for (dial, delegation, calls) in [
        (Dial::Economy, false, 32),
        (Dial::Balanced, false, 20),
        (Dial::Latency, false, 12),
        (Dial::Economy, true, 8),
        (Dial::Balanced, true, 9),
        (Dial::Latency, true, 9),
    ] {
        let mut sim = start(dial, delegation);
        for pod in 1..=110 {
            sim.add(1);
            assert_eq!(sim.owned(), pod);
        }
        assert!(
            sim.grown <= calls,
            "{dial:?} {delegation}: {} calls",
            sim.grown
        );
        assert_eq!(sim.shrunk, 0, "{dial:?} {delegation}");
    }
}

#[test]
fn pods_that_are_bound_are_asked_for_before_they_come() {
    for dial in DIALS {
        let mut sim = start(dial, false);
        sim.bound = 50;
        sim.settle();
        let grown = sim.grown;
        for left in (0..50).rev() {
            assert!(sim.free() > 0, "{dial:?}: a pod would wait");
            sim.bound = left;
            sim.add(1);
        }
        assert_eq!((sim.grown, sim.shrunk), (grown, 0), "{dial:?}");
    }
}

#[test]
fn pods_that_come_and_go_within_the_marks_cost_nothing() {
    for (dial, delegation, swing) in [
        (Dial::Economy, false, 2),
        (Dial::Balanced, false, 8),
        (Dial::Latency, false, 24),
        (Dial::Economy, true, 4),
        (Dial::Balanced, true, 10),
        (Dial::Latency, true, 24),
    ] {
        let mut sim = start(dial, delegation);
        sim.add(40);
        sim.add(swing);
        sim.remove(swing);
        let (grown, shrunk) = (sim.grown, sim.shrunk);
        for _ in 0..20 {
            sim.add(swing);
            sim.remove(swing);
        }
        assert_eq!(
            (sim.grown, sim.shrunk),
            (grown, shrunk),
            "{dial:?} {delegation}"
        );
    }
}

/// amazon-vpc-cni-k8s#2793.
#[test]
fn what_is_kept_free_does_not_take_the_pool_beyond_max_pods() {
    for dial in DIALS {
        for delegation in [false, true] {
            let settings = Settings {
                delegation,
                max_pods: Some(20),
                ..settings(Warm::Demand(dial))
            };
            let mut sim = Sim::start(settings, m5_4xlarge());
            let most = if delegation { 32 } else { 20 };
            for _ in 0..20 {
                sim.add(1);
                assert!(sim.owned() + sim.free() <= most, "{dial:?} {sim:?}");
            }
            assert_eq!(sim.owned(), 20);
        }
    }
}

#[test]
fn an_idle_node_gives_its_enis_back() {
    for dial in DIALS {
        for delegation in [false, true] {
            let mut sim = start(dial, delegation);
            let idle = sim.slots();
            sim.add(200);
            sim.remove(200);
            assert_eq!(sim.slots().len(), 1, "{dial:?} {sim:?}");
            let slots = [sim.slots()[0], idle[0]];
            assert!(slots[0] <= 2 * slots[1], "{dial:?} {slots:?}");
        }
    }
}

#[test]
fn after_a_fall_back_the_pool_goes_back_to_prefixes() {
    for dial in DIALS {
        let mut sim = start(dial, true);
        sim.fragmented = true;
        sim.add(40);
        let single = sim.facts(0).ipv4;
        assert!(single.addresses > single.prefixes * 16);
        sim.fragmented = false;
        sim.add(20);
        sim.remove(60);
        let there = sim.facts(0).ipv4;
        assert_eq!(there.addresses, there.prefixes * 16, "{dial:?} {sim:?}");
    }
}
