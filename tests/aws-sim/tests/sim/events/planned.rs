//! Events that wait for a time or for a request, and how they are written in files.

use std::time::Duration;

use aws_sim::log::Entry;
use aws_sim::{Effect, Event, Fault, Moment, NthCall, Scheduled, Sim, SimTime, Throttling, When};

use super::tags;
use crate::{Setup, all, first};

#[test]
fn events_happen_at_their_time_in_their_order_and_are_in_the_story() {
    let mut setup = Setup::new();
    let eni = setup.create(&[]);
    let at = |millis| Moment::At(SimTime::from_millis(millis));
    let strip = Event::StripTags {
        of: eni.clone(),
        keys: Vec::new(),
    };
    let plan = [
        (at(9000), Event::DeleteEni { eni: eni.clone() }),
        (
            at(5000),
            Event::AddTags {
                to: eni.clone(),
                tags: tags(&[("a", "b")]),
            },
        ),
        (at(10_000), strip),
    ];
    for (when, event) in plan {
        setup.world.schedule_event(Scheduled { when, event });
    }
    assert_eq!(setup.world.next_due(), Some(SimTime::from_millis(300)));
    setup.now = SimTime::from_millis(6000);
    assert_eq!(first(&setup.eni(&eni), "key"), "a");
    setup.now = SimTime::from_millis(60_000);
    setup.call("DescribeVpcs", &[]);
    assert_eq!(setup.world.events_to_come(), 0);
    let story = setup.world.log.story();
    let lines: Vec<&str> = story.lines().collect();
    let subnet = &setup.subnet;
    assert_eq!(
        lines,
        [
            format!("0.000s - CreateNetworkInterface ok tokens=99.0 SubnetId={subnet}"),
            format!("5.000s ** tags a put on {eni}"),
            format!("6.000s - DescribeNetworkInterfaces ok tokens=49.0 NetworkInterfaceId.1={eni}"),
            format!("9.000s ** {eni} deleted"),
            format!(
                "10.000s ** strip-tags: could not happen: no ENI, instance, subnet, VPC or security \
                 group has the id or the Name tag \"{eni}\""
            ),
            "60.000s - DescribeVpcs ok tokens=99.0".to_owned(),
        ]
    );
}

#[test]
fn an_event_happens_before_or_after_the_nth_request() {
    for (before, seen) in [(true, "x"), (false, "")] {
        let mut setup = Setup::new();
        let eni = setup.create(&[]);
        let call = NthCall::new("DescribeNetwork*", 2);
        let when = if before {
            Moment::Before(call)
        } else {
            Moment::After(call)
        };
        let event = Event::AddTags {
            to: eni.clone(),
            tags: tags(&[("x", "")]),
        };
        setup.world.schedule_event(Scheduled { when, event });
        let mut keys = Vec::new();
        for _ in 0..3 {
            let body = setup.eni(&eni);
            keys.push(all(&body, "key").join(","));
        }
        assert_eq!(keys, ["", seen, "x"]);
        let events = setup
            .world
            .log
            .entries()
            .map(|entry| matches!(entry, Entry::Event(_)));
        let place = events
            .enumerate()
            .find_map(|(place, is)| is.then_some(place));
        assert_eq!(place, Some(if before { 2 } else { 3 }));
    }
}

#[test]
fn an_event_may_wait_for_a_request_that_fails_and_then_some_time() {
    let mut setup = Setup::new();
    let eni = setup.create(&[]);
    let call = NthCall {
        delay: Duration::from_secs(2),
        ..NthCall::new("AssignPrivateIpAddresses", 1)
    };
    setup.world.schedule_event(Scheduled {
        when: Moment::After(call),
        event: Event::DeleteEni { eni: eni.clone() },
    });
    let fault = Fault::on("Assign*", Effect::ResetAfter).when(When::First(1));
    setup.world.faults.add(fault);
    let count = [
        ("NetworkInterfaceId", eni.as_str()),
        ("SecondaryPrivateIpAddressCount", "1"),
    ];
    setup.call("AssignPrivateIpAddresses", &count);
    setup.pass(Duration::from_millis(1999));
    setup.call("DescribeVpcs", &[]);
    assert_eq!(setup.status(&eni), "available");
    setup.pass(Duration::from_millis(1));
    setup.call("DescribeVpcs", &[]);
    assert_eq!(setup.status(&eni), "gone");
}

#[test]
fn the_same_seed_and_events_tell_the_same_story() {
    let run = || {
        let mut setup = Setup::new();
        let subnet = setup.subnet.to_string();
        setup.happens(&Event::FillSubnet {
            subnet: subnet.clone(),
            leaving: 100,
        });
        let eni = setup.attached_eni();
        let thefts = Event::StealAddress {
            eni,
            address: None,
            to: None,
        };
        setup.happens(&thefts);
        setup.happens(&thefts);
        setup.happens(&Event::EmptySubnet { subnet });
        setup.world.log.story()
    };
    assert_eq!(run(), run());
}

#[test]
fn a_running_simulation_keeps_its_appointments() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let setup = Setup::new();
        let sim = Sim::new(setup.world);
        let mut changes = sim.changes();
        let subnet = setup.subnet.to_string();
        sim.schedule(Scheduled {
            when: Moment::At(sim.now().plus(Duration::from_millis(50))),
            event: Event::FillSubnet { subnet, leaving: 0 },
        });
        let filled = async {
            while !sim.story().contains("others take") {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(10), filled)
            .await
            .unwrap();
        let free = sim.look(|world, _| world.subnet(&setup.subnet).unwrap().pool.free());
        assert_eq!(free, 0);
    });
}

#[test]
fn events_are_written_in_files_as_in_rust() {
    let text = r#"
        {"when": {"after": {"action": "AttachNetworkInterface", "nth": 2, "delay": "1s 500ms"}},
         "event": {"steal-address": {"eni": "node-a/1", "address": "10.0.0.7"}}}
    "#;
    let scheduled: Scheduled = serde_json::from_str(text).unwrap();
    let expected = Scheduled {
        when: Moment::After(NthCall {
            action: "AttachNetworkInterface".to_owned(),
            nth: 2,
            delay: Duration::from_millis(1500),
        }),
        event: Event::StealAddress {
            eni: "node-a/1".to_owned(),
            address: Some("10.0.0.7".parse().unwrap()),
            to: None,
        },
    };
    assert_eq!(scheduled, expected);
    let again = serde_json::to_string(&expected).unwrap();
    assert_eq!(serde_json::from_str::<Scheduled>(&again).unwrap(), expected);
    for wrong in [
        r#"{"steal-address": {"eni": "x", "adress": "10.0.0.7"}}"#,
        r#"{"stael-address": {"eni": "x"}}"#,
        r#"{"step-clock": {"by": "soon"}}"#,
    ] {
        assert!(serde_json::from_str::<Event>(wrong).is_err(), "{wrong}");
    }
    let knobs = r#"{"configure": {"imds-lag": "30s", "throttling": "off"}}"#;
    let Event::Configure(knobs) = serde_json::from_str(knobs).unwrap() else {
        panic!("{knobs}");
    };
    assert_eq!(knobs.imds_lag, Some(Duration::from_secs(30)));
    assert_eq!(knobs.throttling, Some(Throttling::Off));
    let fault = r#"{"inject": {"action": "Create*", "during": {"from": "10s"},
                     "when": {"chance": 0.5}, "effect": {"latency": "2s"}}}"#;
    let Event::Inject(fault) = serde_json::from_str(fault).unwrap() else {
        panic!("{fault}");
    };
    assert_eq!(fault.when, When::Chance(0.5));
    assert_eq!(fault.effect, Effect::Latency(Duration::from_secs(2)));
}
