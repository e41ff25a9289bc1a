//! How often EC2 may be asked.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sim::{Buckets, LaunchSpec, Request, SimTime, Size, Throttling, WorldConfig, call};
use proptest::prelude::*;

use crate::wire::{SIGNATURE, exchange, post, serve};
use crate::{Setup, first};

const ACCOUNT: &str = "111122223333";

/// How many requests in a row are let through, at one moment.
fn burst(buckets: &mut Buckets, now: SimTime, action: &str, filtered: bool) -> usize {
    let sizes = Throttling::Ec2;
    let mut take = || buckets.take(&sizes, now, ACCOUNT, action, filtered);
    (0..1000).take_while(|_| take().is_ok()).count()
}

#[test]
fn buckets_hold_and_refill_what_ec2_documents() {
    for (action, filtered, capacity, refill) in [
        ("DescribeSubnets", false, 100, 20),
        ("DescribeSubnets", true, 100, 20),
        ("DescribeNetworkInterfaces", false, 50, 10),
        ("DescribeNetworkInterfaces", true, 100, 20),
        ("DescribeInstances", false, 50, 10),
        ("DescribeSecurityGroups", false, 50, 10),
        ("GetSubnetCidrReservations", false, 100, 20),
        ("CreateNetworkInterface", false, 100, 5),
        ("DeleteNetworkInterface", false, 100, 5),
        ("ModifyNetworkInterfaceAttribute", false, 100, 5),
        ("AssignPrivateIpAddresses", false, 100, 5),
        ("UnassignPrivateIpAddresses", false, 100, 5),
        ("AssignIpv6Addresses", false, 100, 5),
        ("UnassignIpv6Addresses", false, 50, 5),
        ("AttachNetworkInterface", false, 50, 5),
        ("DetachNetworkInterface", false, 50, 5),
        ("CreateTags", false, 100, 10),
        ("DeleteTags", false, 100, 10),
        ("CreateSubnetCidrReservation", false, 5, 1),
        ("ModifyInstanceMetadataOptions", false, 100, 5),
        ("RunInstances", false, 5, 2),
        ("StartInstances", false, 5, 2),
        ("StopInstances", false, 50, 5),
        ("TerminateInstances", false, 100, 5),
    ] {
        let mut buckets = Buckets::default();
        let mut burst_at = |millis| {
            let now = SimTime::from_millis(millis);
            burst(&mut buckets, now, action, filtered)
        };
        let got = [0, 0, 1000, 3000, 1_000_000].map(&mut burst_at);
        let expected = [capacity, 0, refill, (2 * refill).min(capacity), capacity];
        assert_eq!(got, expected, "{action} filtered {filtered}");
    }
}

#[test]
fn tokens_come_back_in_parts_and_refusals_cost_nothing() {
    let mut buckets = Buckets::default();
    let action = "AttachNetworkInterface";
    let mut at = |millis| burst(&mut buckets, SimTime::from_millis(millis), action, false);
    // 5 per second: one after each 200 ms, however often it was refused before.
    assert_eq!(
        [0, 50, 100, 150, 199, 200, 399, 400].map(&mut at),
        [50, 0, 0, 0, 0, 1, 0, 1]
    );
}

#[test]
fn accounts_and_actions_have_buckets_of_their_own() {
    let mut buckets = Buckets::default();
    let now = SimTime::ZERO;
    assert_eq!(
        burst(&mut buckets, now, "AttachNetworkInterface", false),
        50
    );
    assert_eq!(
        burst(&mut buckets, now, "DetachNetworkInterface", false),
        50
    );
    assert_eq!(burst(&mut buckets, now, "DescribeInstances", false), 50);
    assert_eq!(burst(&mut buckets, now, "DescribeInstances", true), 100);
    let other = buckets.left(
        &Throttling::Ec2,
        now,
        "444455556666",
        "AttachNetworkInterface",
        false,
    );
    assert_eq!(other, Some(50.0));
}

#[test]
fn instances_cost_tokens_of_a_second_bucket() {
    for (action, refill) in [
        ("RunInstances", 2),
        ("StartInstances", 2),
        ("StopInstances", 20),
        ("TerminateInstances", 20),
    ] {
        let mut buckets = Buckets::default();
        let mut take = |millis, instances| {
            let now = SimTime::from_millis(millis);
            let sizes = Throttling::Ec2;
            let taken = buckets.take_resources(&sizes, now, ACCOUNT, action, instances);
            taken.is_ok()
        };
        assert!(take(0, 600), "{action}");
        // What is refused takes nothing.
        assert!(!take(0, 401), "{action}");
        assert!(take(0, 400), "{action}");
        assert!(!take(0, 1), "{action}");
        assert!(!take(1000, refill + 1), "{action}");
        assert!(take(1000, refill), "{action}");
    }
    let mut buckets = Buckets::default();
    let mut take = |action, sizes: &Throttling| {
        buckets.take_resources(sizes, SimTime::ZERO, ACCOUNT, action, 5)
    };
    let sizes = BTreeMap::from([("RunInstances:instances".to_owned(), Size::new(5, 1.0))]);
    let few = Throttling::Custom(sizes);
    assert!(take("RunInstances", &few).is_ok());
    let error = take("RunInstances", &few).unwrap_err();
    assert_eq!(
        (error.status, error.code.as_str()),
        (503, "RequestLimitExceeded")
    );
    assert!(take("RunInstances", &Throttling::Off).is_ok());
    assert!(take("StopInstances", &few).is_ok());
    assert!(take("DescribeInstances", &Throttling::Ec2).is_ok());
}

#[test]
fn a_throttled_request_changes_nothing_and_is_logged() {
    let sizes = BTreeMap::from([("CreateNetworkInterface".to_owned(), Size::new(2, 1.0))]);
    let mut setup = Setup::with(WorldConfig {
        throttling: Throttling::Custom(sizes),
        ..WorldConfig::default()
    });
    let subnet = setup.subnet.to_string();
    let dry = [("SubnetId", subnet.as_str()), ("DryRun", "true")];
    assert_eq!(
        setup.refused("CreateNetworkInterface", &dry).0,
        "DryRunOperation"
    );
    setup.create(&[]);
    let free = setup.free();
    let revision = setup.world.revision();
    let params = [("SubnetId", subnet.as_str())];
    let response = setup.call("CreateNetworkInterface", &params);
    assert_eq!(response.status, 503);
    assert_eq!(first(&response.body, "Code"), "RequestLimitExceeded");
    assert_eq!(first(&response.body, "Message"), "Request limit exceeded.");
    assert_eq!(setup.world.revision(), revision);
    assert_eq!(setup.free(), free);

    let of_create = |setup: &Setup| -> Vec<(Option<String>, Option<f64>)> {
        let records = setup.world.log.records();
        records
            .filter(|record| record.action == "CreateNetworkInterface")
            .map(|record| (record.error.clone(), record.tokens_left))
            .collect()
    };
    let error = |code: &str| Some(code.to_owned());
    let expected = vec![
        (error("DryRunOperation"), Some(1.0)),
        (None, Some(0.0)),
        (error("RequestLimitExceeded"), Some(0.0)),
    ];
    assert_eq!(of_create(&setup), expected);
    // Time gives tokens back, and throttling can be ended.
    setup.pass(Duration::from_millis(1500));
    setup.create(&[]);
    setup.world.config.throttling = Throttling::Off;
    setup.create(&[]);
    assert_eq!(
        of_create(&setup).split_off(3),
        [(None, Some(0.5)), (None, None)]
    );
}

#[test]
fn instances_share_the_buckets_of_their_account() {
    let mut setup = Setup::new();
    let spec = LaunchSpec::new("m5.large", &setup.subnet);
    let other = setup.world.launch_instance(setup.now, spec).unwrap();
    let both = [setup.instance.clone(), other];
    let requests = both.map(|id| {
        let mut request = Request::new("DescribeVpcs", []);
        request.caller.access_key = Some(setup.world.instance(&id).unwrap().access_key.clone());
        request
    });
    let answers = requests.iter().cycle().take(102);
    let answers = answers.map(|request| call(&mut setup.world, setup.now, request).error);
    let answers: Vec<_> = answers.collect();
    assert!(answers[..100].iter().all(Option::is_none));
    let refused = Some("RequestLimitExceeded".to_owned());
    assert_eq!(answers[100..], [refused.clone(), refused]);
}

#[test]
fn filters_and_pages_spare_the_smaller_bucket() {
    let mut setup = Setup::new();
    let instance = setup.instance.to_string();
    for (params, left) in [
        (vec![], 49.0),
        (vec![("InstanceId.1", instance.as_str())], 48.0),
        (vec![("MaxResults", "5")], 99.0),
        (
            vec![
                ("Filter.1.Name", "instance-state-name"),
                ("Filter.1.Value.1", "running"),
            ],
            98.0,
        ),
        // It takes a token before it is looked at.
        (vec![("Nonsense", "x")], 47.0),
    ] {
        setup.call("DescribeInstances", &params);
        let record = setup.world.log.records().last().unwrap();
        assert_eq!(record.tokens_left, Some(left), "{params:?}");
    }
}

#[test]
fn what_is_not_authenticated_or_does_not_exist_takes_no_token() {
    let mut setup = Setup::new();
    let mut unsigned = Request::new("DescribeVpcs", []);
    unsigned.caller.access_key = None;
    call(&mut setup.world, setup.now, &unsigned);
    setup.call("Nonsense", &[]);
    setup.ok("DescribeVpcs", &[]);
    let left = setup.world.log.records().map(|record| record.tokens_left);
    assert_eq!(left.collect::<Vec<_>>(), [None, None, Some(99.0)]);
}

#[test]
fn a_client_sees_503_and_then_is_served_again() {
    let served = serve();
    let sizes = BTreeMap::from([("DescribeVpcs".to_owned(), Size::new(1, 0.001))]);
    served.sim.with_world(|world, _| {
        world.config.throttling = Throttling::Custom(sizes);
    });
    let request = post(SIGNATURE, "Action=DescribeVpcs&Version=2016-11-15");
    let (head, _) = exchange(served.ec2, &request).unwrap();
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    let (head, body) = exchange(served.ec2, &request).unwrap();
    assert!(head.starts_with("http/1.1 503 "), "{head}");
    assert_eq!(first(&body, "Code"), "RequestLimitExceeded");
    served.sim.with_world(|world, _| {
        world.config.throttling = Throttling::Off;
    });
    let (head, _) = exchange(served.ec2, &request).unwrap();
    assert!(head.starts_with("http/1.1 200 "), "{head}");
}

proptest! {
    #[test]
    fn tokens_stay_between_nothing_and_what_the_bucket_holds(
        capacity in 0..20_u32,
        refill in 0.0..50.0_f64,
        waits in proptest::collection::vec(0..2000_u64, 1..100),
    ) {
        let action = "CreateTags";
        let sizes = BTreeMap::from([(action.to_owned(), Size::new(capacity, refill))]);
        let sizes = Throttling::Custom(sizes);
        let mut buckets = Buckets::default();
        let (mut now, mut granted) = (SimTime::ZERO, 0.0);
        for wait in waits {
            // Half of them come at once, in bursts.
            now = now.plus(Duration::from_millis(wait.saturating_sub(1000)));
            let before = buckets.left(&sizes, now, ACCOUNT, action, false).unwrap();
            let taken = buckets.take(&sizes, now, ACCOUNT, action, false);
            let after = buckets.left(&sizes, now, ACCOUNT, action, false).unwrap();
            prop_assert!((0.0..=f64::from(capacity)).contains(&after), "{}", after);
            prop_assert_eq!(taken.is_ok(), before >= 1.0);
            let cost = if taken.is_ok() { 1.0 } else { 0.0 };
            prop_assert_eq!(after, before - cost);
            granted += cost;
            let most = f64::from(capacity) + refill * now.since(SimTime::ZERO).as_secs_f64();
            prop_assert!(granted <= most + 1e-6, "{} of {}", granted, most);
        }
    }
}
