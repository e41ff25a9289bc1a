//! What goes wrong on purpose, and the log of what was asked.

use std::time::Duration;

use aws_sim::call::Delivery;
use aws_sim::{Ec2Error, Effect, Fault, InstanceId, Request, When, call};

use crate::Setup;

fn create(setup: &mut Setup) -> (Option<String>, Delivery, usize) {
    let before = setup.free();
    let subnet = setup.subnet.to_string();
    let response = setup.call("CreateNetworkInterface", &[("SubnetId", &subnet)]);
    (response.error, response.delivery, before - setup.free())
}

#[test]
fn an_effect_says_what_is_done_and_what_is_heard() {
    let throttled = Effect::Error(Ec2Error::request_limit_exceeded());
    let late = Duration::from_secs(3);
    for (effect, error, delivery, taken) in [
        (throttled, Some("RequestLimitExceeded"), Delivery::Now, 0),
        (Effect::Latency(late), None, Delivery::After(late), 1),
        (Effect::HangBefore, None, Delivery::Never, 0),
        (Effect::HangAfter, None, Delivery::Never, 1),
        (Effect::ResetBefore, None, Delivery::Reset, 0),
        (Effect::ResetAfter, None, Delivery::Reset, 1),
    ] {
        let mut setup = Setup::new();
        setup
            .world
            .faults
            .add(Fault::on("CreateNetworkInterface", effect.clone()));
        let (got_error, got_delivery, got_taken) = create(&mut setup);
        assert_eq!(
            (got_error.as_deref(), got_delivery, got_taken),
            (error, delivery, taken),
            "{effect:?}"
        );
        setup.world.faults.clear();
        assert_eq!(create(&mut setup), (None, Delivery::Now, 1));
    }
}

#[test]
fn a_rule_acts_on_those_requests_that_it_names() {
    let fault = || Fault::on("CreateNetworkInterface", Effect::ResetBefore);
    for (when, expected) in [
        (When::Always, [true, true, true]),
        (When::First(2), [true, true, false]),
        (When::Nth(2), [false, true, false]),
    ] {
        let mut setup = Setup::new();
        setup.world.faults.add(fault().when(when));
        let struck = [(); 3].map(|()| create(&mut setup).1 == Delivery::Reset);
        assert_eq!(struck, expected, "{when:?}");
    }
    let mut setup = Setup::new();
    let stranger = InstanceId::from("i-0123456789abcdef0");
    setup.world.faults.add(fault().from_instance(stranger));
    assert_eq!(create(&mut setup).1, Delivery::Now);
}

#[test]
fn every_request_is_logged_with_who_asked_and_what_it_got() {
    let mut setup = Setup::new();
    let key = setup
        .world
        .instance(&setup.instance)
        .unwrap()
        .access_key
        .clone();
    let mut request = Request::new("DescribeVpcs", [("VpcId.1", "nonsense")]);
    request.caller.access_key = Some(key);
    setup.now = setup.now.plus(Duration::from_millis(1234));
    let response = call(&mut setup.world, setup.now, &request);
    setup.call("DescribeVpcs", &[]);

    let records: Vec<_> = setup.world.log.records().collect();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0].at, setup.now);
    assert_eq!(records[0].instance.as_ref(), Some(&setup.instance));
    assert_eq!(records[0].error.as_deref(), Some("InvalidVpcID.Malformed"));
    assert_eq!(records[0].params["VpcId.1"], "nonsense");
    assert_eq!(records[0].request_id, response.request_id);
    assert_eq!(records[1].instance, None);
    assert_ne!(records[1].request_id, records[0].request_id);
    assert_eq!(setup.world.log.counts()["DescribeVpcs"], 2);
}
