//! What goes wrong on purpose, and the log of what was asked.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use aws_sim::call::Delivery;
use aws_sim::{
    Deny, Ec2Error, Effect, Fault, ImdsEffect, ImdsFault, InstanceId, LaunchSpec, Refused, Request,
    Response, SimTime, When, WorldConfig, call,
};

use crate::wire::{SIGNATURE, exchange, get, post, serve};
use crate::{Setup, first};

fn create(setup: &mut Setup) -> (Option<String>, Delivery, usize) {
    let before = setup.free();
    let subnet = setup.subnet.to_string();
    let response = setup.call("CreateNetworkInterface", &[("SubnetId", &subnet)]);
    (response.error, response.delivery, before - setup.free())
}

#[test]
fn an_effect_says_what_is_done_and_what_is_heard() {
    let error = Effect::Error(Ec2Error::client(
        "InternalError",
        "An internal error has occurred",
    ));
    let refused = Effect::Credentials(Refused::Unknown);
    let expired = Effect::Credentials(Refused::Expired);
    let late = Duration::from_secs(3);
    for (effect, error, delivery, taken) in [
        (error, Some("InternalError"), Delivery::Now, 0),
        (
            Effect::Throttled,
            Some("RequestLimitExceeded"),
            Delivery::Now,
            0,
        ),
        (refused, Some("AuthFailure"), Delivery::Now, 0),
        (expired, Some("RequestExpired"), Delivery::Now, 0),
        (Effect::Truncated, None, Delivery::Now, 1),
        (Effect::Twice, None, Delivery::Now, 2),
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
        (When::Every(2), [false, true, false]),
        (When::Chance(0.0), [false, false, false]),
        (When::Chance(1.0), [true, true, true]),
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

impl Setup {
    /// A request signed with the credentials of an instance's role.
    fn call_as(&mut self, instance: &InstanceId, action: &str) -> Response {
        let mut request = Request::new(action, []);
        let key = &self.world.instance(instance).unwrap().access_key;
        request.caller.access_key = Some(key.clone());
        call(&mut self.world, self.now, &request)
    }

    fn launch_named(&mut self, name: &str) -> InstanceId {
        let spec = LaunchSpec {
            tags: [("Name".to_owned(), name.to_owned())].into(),
            ..LaunchSpec::new("m5.large", &self.subnet)
        };
        self.world.launch_instance(self.now, spec).unwrap()
    }
}

#[test]
fn a_rule_may_be_about_some_actions_and_some_callers_only() {
    let mut setup = Setup::new();
    let (a, b) = (setup.launch_named("node-a"), setup.launch_named("node-b"));
    let fault = Fault::on("Describe*", Effect::ResetBefore);
    setup
        .world
        .faults
        .add(fault.clone().from_instance("node-a"));
    setup.world.faults.add(fault.from_account("444455556666"));
    let struck = |response: Response| response.delivery == Delivery::Reset;
    assert!(struck(setup.call_as(&a, "DescribeVpcs")));
    assert!(struck(setup.call_as(&a, "DescribeSubnets")));
    assert!(!struck(setup.call_as(&a, "GetNothing")));
    assert!(!struck(setup.call_as(&b, "DescribeVpcs")));
    let mut request = Request::new("DescribeVpcs", []);
    request.caller.access_key = Some("444455556666".to_owned());
    assert!(struck(call(&mut setup.world, setup.now, &request)));
}

#[test]
fn a_rule_acts_in_its_time_only_and_counts_from_its_beginning() {
    let mut setup = Setup::new();
    let (from, until) = (SimTime::from_millis(10_000), SimTime::from_millis(13_000));
    let fault = Fault::on("CreateNetworkInterface", Effect::ResetBefore);
    setup
        .world
        .faults
        .add(fault.when(When::Nth(2)).during(from, until));
    let mut struck = Vec::new();
    for second in 8..15 {
        setup.now = SimTime::from_millis(second * 1000);
        if create(&mut setup).1 == Delivery::Reset {
            struck.push(second);
        }
    }
    assert_eq!(struck, [11]);
}

#[test]
fn a_flapping_rule_acts_in_the_first_half_of_each_period() {
    let mut setup = Setup::new();
    let period = When::Flapping(Duration::from_secs(4));
    setup
        .world
        .faults
        .add(Fault::on_all(Effect::Throttled).when(period));
    let mut story = String::new();
    for second in 0..9 {
        setup.now = SimTime::from_millis(second * 1000);
        story.push(if setup.call("DescribeVpcs", &[]).error.is_some() {
            'x'
        } else {
            '.'
        });
    }
    assert_eq!(story, "xx..xx..x");
}

#[test]
fn the_dice_of_a_rule_repeat_with_the_seed_and_shift_no_ids() {
    let run = |seed, faults: &[Fault]| {
        let mut setup = Setup::with(WorldConfig {
            seed,
            ..WorldConfig::default()
        });
        faults
            .iter()
            .for_each(|fault| setup.world.faults.add(fault.clone()));
        let late = |_| setup.call("DescribeVpcs", &[]).delivery != Delivery::Now;
        let late: Vec<bool> = (0..60).map(late).collect();
        (late, setup.create(&[]))
    };
    let late = || Effect::Latency(Duration::from_secs(1));
    let chance = Fault::on("DescribeVpcs", late()).when(When::Chance(0.3));
    let (struck, id) = run(1, std::slice::from_ref(&chance));
    assert_eq!(
        run(1, std::slice::from_ref(&chance)),
        (struck.clone(), id.clone())
    );
    assert_eq!(run(1, &[]).1, id);
    let more = [
        chance.clone(),
        Fault::on("Other", late()).when(When::Chance(0.5)),
    ];
    assert_eq!(run(1, &more).0, struck);
    assert_ne!(run(2, std::slice::from_ref(&chance)).0, struck);
    let count = struck.iter().filter(|struck| **struck).count();
    assert!((8..30).contains(&count), "{count} of 60");
}

#[test]
fn two_rules_with_the_same_chance_strike_at_different_requests() {
    let mut setup = Setup::new();
    for seconds in [1, 10] {
        let late = Effect::Latency(Duration::from_secs(seconds));
        let fault = Fault::on_all(late).when(When::Chance(0.5));
        setup.world.faults.add(fault);
    }
    let mut seen: Vec<Delivery> = Vec::new();
    for _ in 0..40 {
        seen.push(setup.call("DescribeVpcs", &[]).delivery);
    }
    for seconds in [1, 10, 11] {
        let after = Delivery::After(Duration::from_secs(seconds));
        assert!(seen.contains(&after), "{seconds}: {seen:?}");
    }
}

#[test]
fn latencies_add_up_and_go_with_one_other_effect() {
    let mut setup = Setup::new();
    let late = |millis| Fault::on_all(Effect::Latency(Duration::from_millis(millis)));
    setup.world.faults.add(late(300));
    setup.world.faults.add(Fault::on_all(Effect::Throttled));
    setup.world.faults.add(Fault::on_all(Effect::ResetAfter));
    setup.world.faults.add(late(700));
    let response = setup.call("DescribeVpcs", &[]);
    assert_eq!(response.error.as_deref(), Some("RequestLimitExceeded"));
    assert_eq!(response.delivery, Delivery::After(Duration::from_secs(1)));
    let record = setup.world.log.records().next().unwrap();
    assert_eq!((record.cost, record.delivery), (0, response.delivery));
}

#[test]
fn a_truncated_reply_is_the_beginning_of_the_true_one() {
    let mut setup = Setup::new();
    setup
        .world
        .faults
        .add(Fault::on_all(Effect::Truncated).when(When::First(1)));
    let cut = setup.call("DescribeVpcs", &[]);
    assert_eq!((cut.status, cut.error), (200, None));
    assert!(cut.body.starts_with("<?xml") && !cut.body.contains("</DescribeVpcsResponse>"));
    let record = setup.world.log.records().next().unwrap();
    assert_eq!(record.error.as_deref(), Some("(truncated)"));
}

#[test]
fn a_request_that_is_delivered_twice_is_two_requests() {
    let mut setup = Setup::new();
    setup
        .world
        .faults
        .add(Fault::on_all(Effect::Twice).when(When::First(1)));
    let subnet = setup.subnet.to_string();
    let params = [("SubnetId", subnet.as_str())];
    setup.call("CreateNetworkInterface", &params);
    let ids: Vec<&str> = setup
        .world
        .log
        .records()
        .map(|r| r.request_id.as_str())
        .collect();
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1]);
    let tokens = setup.world.log.tokens();
    assert_eq!((setup.world.enis().count(), tokens), (3, 2));

    // With a client token, as the SDKs send it, the second finds what the first made.
    let mut setup = Setup::new();
    setup.world.faults.add(Fault::on_all(Effect::Twice));
    setup.call(
        "CreateNetworkInterface",
        &[params[0], ("ClientToken", "once")],
    );
    assert_eq!(setup.world.enis().count(), 2);
}

#[test]
fn what_is_denied_is_unauthorized_and_still_costs_a_token() {
    let mut setup = Setup::new();
    let (a, b) = (setup.launch_named("node-a"), setup.launch_named("node-b"));
    setup
        .world
        .iam
        .deny(Deny::action("ec2:Describe*").to_instance("node-a"));
    let refused = setup.call_as(&a, "DescribeNetworkInterfaces");
    assert_eq!(
        (refused.status, refused.error.as_deref()),
        (403, Some("UnauthorizedOperation"))
    );
    let message = first(&refused.body, "Message");
    let expected = format!(
        "You are not authorized to perform this operation. User: \
         arn:aws:sts::111122223333:assumed-role/weir-node/{a} is not authorized to perform: \
         ec2:DescribeNetworkInterfaces because no identity-based policy allows the \
         ec2:DescribeNetworkInterfaces action"
    );
    assert_eq!(message, expected);
    let record = setup.world.log.records().last().unwrap();
    assert_eq!((record.cost, record.tokens_left), (1, Some(49.0)));
    assert_eq!(setup.call_as(&b, "DescribeNetworkInterfaces").error, None);

    setup.world.iam.deny(Deny::action("CreateNetworkInterface"));
    let subnet = setup.subnet.to_string();
    for dry_run in ["true", "false"] {
        let params = [("SubnetId", subnet.as_str()), ("DryRun", dry_run)];
        let (code, text) = setup.refused("CreateNetworkInterface", &params);
        assert_eq!(code, "UnauthorizedOperation");
        assert!(
            text.contains(
                "ec2:CreateNetworkInterface on resource: \
                 arn:aws:ec2:us-east-1:111122223333:network-interface/* because"
            ) && text.contains("Encoded authorization failure message: "),
            "{text}"
        );
    }
    setup.world.iam.allow("CreateNetworkInterface");
    setup.create(&[]);
    assert_eq!(setup.world.iam.denied().len(), 1);
    setup.world.iam.allow("*");
    assert_eq!(setup.call_as(&a, "DescribeNetworkInterfaces").error, None);
}

#[test]
fn the_log_counts_outcomes_and_tokens_and_forgets_what_is_old() {
    let mut setup = Setup::with(WorldConfig {
        log_capacity: 3,
        ..WorldConfig::default()
    });
    setup.call("DescribeVpcs", &[]);
    setup.call("DescribeVpcs", &[("VpcId.1", "nonsense")]);
    setup.call("Nonsense", &[]);
    setup.world.faults.add(Fault::on_all(Effect::HangAfter));
    setup.call("DescribeVpcs", &[]);
    let log = &setup.world.log;
    assert_eq!(log.records().count(), 3);
    assert_eq!(log.tokens(), 3);
    let outcomes = &log.outcomes()["DescribeVpcs"];
    let outcomes: Vec<(&str, u64)> = outcomes.iter().map(|(k, v)| (k.as_str(), *v)).collect();
    assert_eq!(
        outcomes,
        [("(hung)", 1), ("InvalidVpcID.Malformed", 1), ("ok", 1)]
    );
    assert_eq!(log.counts()["Nonsense"], 1);
}

/// An ENI attached to the instance at index 1, seen by IMDS; how many MAC addresses there are then is 2.
fn with_two_enis() -> Setup {
    let mut setup = Setup::new();
    let eni = setup.create(&[]);
    setup.attach(&eni, "1");
    setup.pass(Duration::from_secs(10));
    assert_eq!(setup.macs().len(), 2);
    setup
}

#[test]
fn frozen_metadata_stays_as_it_was_whatever_happens_and_thaws() {
    let mut setup = with_two_enis();
    let mac = setup.macs().remove(0);
    let leaf = format!("meta-data/network/interfaces/macs/{mac}/local-ipv4s");
    let id = setup.metadata(&leaf.replace("local-ipv4s", "interface-id"));
    let id = id.unwrap();
    let before = setup.metadata(&leaf);
    setup
        .world
        .faults
        .add_imds(setup.now, ImdsFault::new(ImdsEffect::Frozen));
    let eni = setup.create(&[]);
    setup.attach(&eni, "2");
    for _ in 0..5 {
        setup.pass(Duration::from_secs(600));
        let params = [
            ("NetworkInterfaceId", id.as_str()),
            ("SecondaryPrivateIpAddressCount", "1"),
        ];
        setup.ok("AssignPrivateIpAddresses", &params);
        assert_eq!(setup.metadata(&leaf), before);
        assert_eq!(setup.macs().len(), 2);
    }
    setup.world.faults.clear();
    setup.pass(Duration::from_secs(2));
    assert_eq!(setup.macs().len(), 3);
    assert_eq!(setup.metadata(&leaf).unwrap().lines().count(), 6);
}

#[test]
fn stale_metadata_still_lists_what_was_unassigned_long_ago() {
    let mut setup = with_two_enis();
    let stale = ImdsEffect::Stale(Duration::from_secs(120));
    let fault = ImdsFault::new(stale).at("meta-data/network/*");
    setup.world.faults.add_imds(setup.now, fault);
    let eni = setup.create(&[("SecondaryPrivateIpAddressCount", "1")]);
    setup.attach(&eni, "2");
    setup.pass(Duration::from_secs(114));
    assert_eq!(setup.macs().len(), 2);
    setup.pass(Duration::from_secs(2));
    assert_eq!(setup.macs().len(), 3);
    // Other paths are as fresh as ever.
    assert_eq!(setup.look("meta-data/mac").status, 200);
}

#[test]
fn metadata_can_be_gone_in_every_way() {
    for (effect, status, delivery) in [
        (ImdsEffect::Status(503), 503, Delivery::Now),
        (ImdsEffect::Status(404), 404, Delivery::Now),
        (ImdsEffect::Hang, 200, Delivery::Never),
        (ImdsEffect::Reset, 200, Delivery::Reset),
        (
            ImdsEffect::Latency(Duration::from_secs(2)),
            200,
            Delivery::After(Duration::from_secs(2)),
        ),
    ] {
        let mut setup = Setup::new();
        let other = setup.launch_named("node-b");
        let fault = ImdsFault::new(effect)
            .at("meta-data/network/*")
            .of_instance("node-b");
        setup.world.faults.add_imds(setup.now, fault);
        assert_eq!(
            setup.look("meta-data/network/").delivery,
            Delivery::Now,
            "{effect:?}"
        );
        setup.instance = other;
        let reply = setup.look("meta-data/network/");
        assert_eq!((reply.status, reply.delivery), (status, delivery));
        let exactly = ImdsFault::new(ImdsEffect::Reset).at("meta-data/placement/region");
        setup.world.faults.add_imds(setup.now, exactly);
        let reply = setup.look("meta-data/placement/region/?x");
        assert_eq!(reply.delivery, Delivery::Reset);
        let elsewhere = setup.look("meta-data/mac");
        assert_eq!((elsewhere.status, elsewhere.delivery), (200, Delivery::Now));
    }
}

#[test]
fn flapping_metadata_alternates_between_two_answers() {
    let mut setup = with_two_enis();
    let stale = ImdsFault::new(ImdsEffect::Stale(Duration::from_secs(3600)));
    let flapping = stale.when(When::Flapping(Duration::from_secs(2)));
    setup.world.faults.add_imds(setup.now, flapping);
    setup.now = SimTime::from_millis(60_000);
    let eni = setup.create(&[]);
    setup.attach(&eni, "2");
    setup.now = SimTime::from_millis(80_000);
    let mut counts = Vec::new();
    for _ in 0..5 {
        counts.push(setup.macs().len());
        setup.pass(Duration::from_secs(1));
    }
    // An hour ago is before the third ENI.
    assert_eq!(counts, [2, 3, 2, 3, 2]);
}

#[test]
fn over_sockets_resets_are_resets_and_what_hangs_is_never_answered() {
    let served = serve();
    let request = post(SIGNATURE, "Action=DescribeVpcs&Version=2016-11-15");
    served
        .sim
        .inject(Fault::on_all(Effect::ResetAfter).when(When::First(1)));
    let reset = exchange(served.ec2, &request).unwrap_err();
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
    served
        .sim
        .inject(Fault::on_all(Effect::Truncated).when(When::First(1)));
    let (head, body) = exchange(served.ec2, &request).unwrap();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(
        head.contains(&format!("content-length: {}", body.len())),
        "{head}"
    );
    assert!(!body.contains("</DescribeVpcsResponse>"), "{body}");
    served
        .sim
        .inject(Fault::on_all(Effect::HangAfter).when(When::First(1)));
    let mut stream = TcpStream::connect(served.ec2).unwrap();
    let patience = Some(Duration::from_millis(300));
    stream.set_read_timeout(patience).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let hung = stream.read(&mut [0; 1]).unwrap_err();
    assert_eq!(hung.kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(served.sim.calls().last().unwrap().outcome(), "(hung)");
}

#[test]
fn over_sockets_metadata_is_reset_late_or_unavailable() {
    let served = serve();
    let once = |effect| ImdsFault::new(effect).when(When::First(1));
    let ask = || exchange(served.imds, &get("/latest/meta-data/mac", ""));
    served.sim.inject_imds(once(ImdsEffect::Reset));
    assert_eq!(
        ask().unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
    served.sim.inject_imds(once(ImdsEffect::Status(503)));
    assert!(ask().unwrap().0.starts_with("http/1.1 503"));
    served
        .sim
        .inject_imds(once(ImdsEffect::Latency(Duration::from_millis(300))));
    let began = std::time::Instant::now();
    assert!(ask().unwrap().0.starts_with("http/1.1 401"));
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert!(ask().unwrap().0.starts_with("http/1.1 401"));
}
