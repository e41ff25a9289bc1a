//! Small fleets, so that a figure that grows is seen at once. The sizes that docs/fleet.md tells of take minutes.

use crate::scenario::{Aim, Figures, Scenario, Wanted};

const NODES: usize = 200;
/// Seconds that pods take to come, to gather and to be asked for again, whatever the buckets hold: with few nodes they weigh.
const PODS_TAKE: f64 = 20.0;

fn play(scenario: Scenario) -> Figures {
    scenario.play(Wanted {
        // Of 200, the half that stays would not fit with what it keeps warm.
        nodes: if scenario == Scenario::Dry {
            300
        } else {
            NODES
        },
        pods: scenario.pods(),
        boot: 5_000,
        churn: Some(600_000),
        cluster_size: None,
        seed: 1,
    })
}

/// How many calls of an action each node makes.
fn each(figures: &Figures, action: &str) -> f64 {
    let calls = figures.calls.get(action).copied().unwrap_or_default();
    (calls.done + calls.throttled + calls.failed) as f64 / NODES as f64
}

fn is_soon(figures: &Figures) {
    let last = figures.last_pod_seconds.expect("all pods run");
    let most = 1.25 * figures.bound.seconds + PODS_TAKE;
    assert!(
        last <= most,
        "last pod after {last} s, not {most}: {figures:#?}"
    );
    assert!(figures.throttled_share <= 0.01, "{figures:#?}");
}

#[test]
fn nodes_that_join_at_once_get_their_pods_with_one_change_each_and_are_not_throttled() {
    let figures = play(Scenario::Join);
    is_soon(&figures);
    assert!(
        each(&figures, "AssignPrivateIpAddresses") <= 1.02,
        "{figures:#?}"
    );
    assert!(
        each(&figures, "DescribeNetworkInterfaces") <= 1.02,
        "{figures:#?}"
    );
}

#[test]
fn nodes_that_were_launched_with_prefixes_change_nothing() {
    let figures = play(Scenario::JoinPrefixed);
    is_soon(&figures);
    assert_eq!(each(&figures, "AssignPrivateIpAddresses"), 0.0);
}

#[test]
fn a_restart_costs_no_call_and_an_hour_of_steady_state_a_few_looks_for_what_is_left_over() {
    let restart = play(Scenario::Restart);
    assert!(restart.calls.is_empty(), "{restart:#?}");
    let steady = play(Scenario::Steady);
    for (action, calls) in &steady.calls {
        // About two nodes look, by lot.
        assert_eq!(*action, "DescribeNetworkInterfaces", "{steady:#?}");
        assert!(calls.done <= 6 && calls.failed == 0, "{steady:#?}");
    }
    for figures in [restart, steady] {
        assert!(figures.aims.iter().all(Aim::met), "{figures:#?}");
    }
}

#[test]
fn a_subnet_that_runs_dry_does_not_throttle_the_fleet_and_is_used_when_it_has_room() {
    let figures = play(Scenario::Dry);
    assert!(
        figures.refused.contains_key("SubnetExhausted"),
        "{figures:#?}"
    );
    assert!(figures.aims.iter().all(Aim::met), "{figures:#?}");
}
