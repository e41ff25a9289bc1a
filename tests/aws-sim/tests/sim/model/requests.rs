//! Requests that make no sense: valid ones of every action, with names and values changed, cut, doubled or lost.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use aws_sim::params::Params;
use aws_sim::{Request, World, call};
use proptest::prelude::*;

use super::assert_unchanged;
use super::seeds::{Seeds, seeds};
use crate::{first, wire};

static SEEDS: LazyLock<Seeds> = LazyLock::new(seeds);

/// What is done to one parameter of a request.
#[derive(Clone, Debug)]
enum Mutation {
    Lose,
    Value(String),
    CutValue(usize),
    CutName(usize),
    Rename(String),
    Add(String, String),
    /// The value of another parameter, maybe of another request.
    Borrow(usize, usize),
    /// One character of the value.
    Flip(usize, char),
}

fn odd_value() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(vec![
            "",
            "0",
            "-1",
            "1",
            "2",
            "5",
            "1000",
            "1001",
            "65536",
            "4294967296",
            "9223372036854775807",
            "18446744073709551615",
            "-9223372036854775808",
            "18446744073709551616",
            "1e3",
            " 1",
            "true",
            "false",
            "TRUE",
            "*",
            "?",
            "\\",
            "**",
            "\u{0}",
            "<&>\"'",
            "]]>",
            "\u{fffe}",
            "é",
            "10.0.0.0",
            "10.0.0.255",
            "255.255.255.255",
            "0.0.0.0/0",
            "10.0.0.9/28",
            "10.0.0.16/28",
            "10.0.0.0/33",
            "10.0.0.32/27",
            "::",
            "::/0",
            "::/80",
            "::ffff:10.0.0.9",
            "2600:1f00::/56",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "eni-",
            "eni-0",
            "i-0123456789abcdef0",
            "eni-0123456789abcdef0",
            "subnet-0123456789abcdef0",
            "vpc-0123456789abcdef0",
            "sg-0123456789abcdef0",
            "m5.large",
            "m1.small",
            "u-3tb1.56xlarge",
            "us-east-1a",
            "tcp",
            "icmp",
            "-",
            "aws:x",
            "efa",
            "efa-only",
            "branch",
            "trunk",
            "tag:",
            "tag-key",
            "attachment.status",
            "explicit",
            "all",
            "default",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
        "[a-z0-9.:/-]{0,40}",
        (1..400_usize).prop_map(|length| "a".repeat(length)),
    ]
}

fn odd_name() -> impl Strategy<Value = String> {
    let known: BTreeSet<String> = SEEDS
        .requests
        .iter()
        .flat_map(|(_, params)| params.iter().map(|(name, _)| name.clone()))
        .collect();
    let more = [
        "DryRun",
        "MaxResults",
        "NextToken",
        "Filter.1.Name",
        "Filter.1.Value.1",
        "Filter.2.Name",
        "ClientToken",
        "Version",
        "Action",
        "Filter.0.Name",
        "Filter.4294967296.Name",
        "NetworkInterfaceId.1000000",
        "PrivateIpAddress.01",
        "SecondaryPrivateIpAddressCount",
        "Ipv4PrefixCount",
        "Ipv6PrefixCount",
        "Ipv6AddressCount",
        "EnablePrimaryIpv6",
        "NetworkInterface.1.InterfaceType",
        "NetworkInterface.1.NetworkCardIndex",
        "NetworkInterface.2.SubnetId",
        "TagSpecification.1.Tag.2.Key",
        "UserData",
        "IamInstanceProfile.Arn",
        "X-Amz-Credential",
        "EnaSrdSpecification.EnaSrdEnabled",
    ];
    let names: Vec<String> = known.into_iter().chain(more.map(str::to_owned)).collect();
    prop_oneof![4 => proptest::sample::select(names), 1 => any::<String>()]
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        Just(Mutation::Lose),
        odd_value().prop_map(Mutation::Value),
        (0..40_usize).prop_map(Mutation::CutValue),
        (0..40_usize).prop_map(Mutation::CutName),
        odd_name().prop_map(Mutation::Rename),
        (odd_name(), odd_value()).prop_map(|(name, value)| Mutation::Add(name, value)),
        (any::<usize>(), any::<usize>())
            .prop_map(|(request, param)| Mutation::Borrow(request, param)),
        (0..40_usize, any::<char>()).prop_map(|(at, to)| Mutation::Flip(at, to)),
    ]
}

fn mutate(params: &mut Vec<(String, String)>, which: usize, mutation: &Mutation) {
    let cut = |text: &mut String, at: usize| *text = text.chars().take(at).collect();
    if let Mutation::Add(name, value) = mutation {
        params.push((name.clone(), value.clone()));
        return;
    }
    if params.is_empty() {
        return;
    }
    let which = which % params.len();
    let (name, value) = &mut params[which];
    match mutation {
        Mutation::Lose => drop(params.remove(which)),
        Mutation::Value(other) => value.clone_from(other),
        Mutation::CutValue(at) => cut(value, *at),
        Mutation::CutName(at) => cut(name, *at),
        Mutation::Rename(other) => name.clone_from(other),
        Mutation::Borrow(request, param) => {
            let (_, others) = &SEEDS.requests[request % SEEDS.requests.len()];
            if !others.is_empty() {
                value.clone_from(&others[param % others.len()].1);
            }
        }
        Mutation::Flip(at, to) => {
            let flipped = value.chars().enumerate();
            *value = flipped
                .map(|(i, c)| if i == *at { *to } else { c })
                .collect();
        }
        Mutation::Add(..) => {}
    }
}

fn any_request() -> impl Strategy<Value = (String, Vec<(String, String)>)> {
    let seed = 0..SEEDS.requests.len();
    let changes = proptest::collection::vec((any::<usize>(), mutation()), 1..4);
    (seed, changes).prop_map(|(seed, changes)| {
        let (action, mut params) = SEEDS.requests[seed].clone();
        for (which, change) in changes {
            mutate(&mut params, which, &change);
        }
        (action, params)
    })
}

/// Asks in a world that has something of everything; what holds for every answer. A refused request changes nothing.
fn check(request: &Request) {
    let mut world = SEEDS.setup.world.clone();
    world.advance(SEEDS.setup.now);
    let before: World = world.clone();
    let response = call(&mut world, SEEDS.setup.now, request);
    let what = format!("{:?}", request.params);
    let root = well_formed(&response.body)
        .unwrap_or_else(|why| panic!("{what}: {why} in {}", response.body));
    assert_eq!(response.status == 200, response.error.is_none(), "{what}");
    match &response.error {
        None => {
            let action = request.params.get("Action").unwrap();
            assert_eq!(root, format!("{action}Response"));
            assert_eq!(first(&response.body, "requestId"), response.request_id);
            world.check_invariants().unwrap();
        }
        Some(code) => {
            assert_eq!(root, "Response", "{what}");
            assert_eq!(first(&response.body, "Code"), *code);
            assert!(response.body.contains("<Message>"), "{}", response.body);
            assert!(!first(&response.body, "Message").is_empty(), "{what}");
            assert_eq!(first(&response.body, "RequestID"), response.request_id);
            assert!((400..=503).contains(&response.status), "{what}");
            assert_unchanged(&before, &world, &what);
        }
    }
}

/// The name of the root of a document of elements and text, with nothing open, crossed or unescaped.
fn well_formed(body: &str) -> Result<String, String> {
    let mut rest = body
        .strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n")
        .ok_or("no declaration")?;
    let (mut open, mut root) = (Vec::new(), None);
    while let Some(tag) = rest.strip_prefix('<') {
        let (tag, after) = tag.split_once('>').ok_or("a tag without an end")?;
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name) {
                return Err(format!("</{name}> closes another"));
            }
        } else {
            let name = tag.split(' ').next().unwrap_or_default();
            let good = |c: char| c.is_ascii_alphanumeric();
            if name.is_empty() || !name.chars().all(good) || open.is_empty() && root.is_some() {
                return Err(format!("<{tag}> can't be here"));
            }
            root.get_or_insert(name.to_owned());
            open.push(name);
        }
        let (text, _) = after.split_once('<').unwrap_or((after, ""));
        let entity = |part: &str| {
            ["amp;", "lt;", "gt;", "quot;", "#13;"]
                .iter()
                .any(|known| part.starts_with(known))
        };
        let bad =
            |c: char| c < ' ' && !"\t\n\r".contains(c) || matches!(c, '\u{fffe}' | '\u{ffff}');
        if text.split('&').skip(1).any(|part| !entity(part))
            || text.contains(bad)
            || open.is_empty() && !text.is_empty()
        {
            return Err(format!("the text {text:?} can't be here"));
        }
        rest = after.strip_prefix(text).unwrap_or_default();
    }
    match root.filter(|_| open.is_empty() && rest.is_empty()) {
        Some(root) => Ok(root),
        None => Err(format!("{open:?} is open, {rest:?} is left")),
    }
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

fn encoded(action: &str, params: &[(String, String)]) -> String {
    let pairs = params
        .iter()
        .map(|(name, value)| format!("&{}={}", escaped(name), escaped(value)));
    format!(
        "Action={action}&Version=2016-11-15{}",
        pairs.collect::<String>()
    )
}

/// The seeds are what they are to be: valid, and of every action. So what mutations break, they break.
#[test]
fn every_action_has_a_request_that_succeeds() {
    let mut refused = Vec::new();
    for (action, params) in &SEEDS.requests {
        let params = params
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let response = SEEDS
            .setup
            .clone()
            .call(action, &params.collect::<Vec<_>>());
        refused.extend(response.error.is_some().then_some((action, response.body)));
    }
    assert!(refused.is_empty(), "{refused:#?}");
    let seeded: BTreeSet<&str> = SEEDS
        .requests
        .iter()
        .map(|(action, _)| action.as_str())
        .collect();
    let all: BTreeSet<&str> = aws_sim::actions::names().collect();
    assert_eq!(seeded, all);
}

/// Of every seed: each parameter lost, each value emptied or another, and the request cut at each third byte.
#[test]
fn a_request_cut_short_is_answered_and_changes_nothing_when_refused() {
    for (action, params) in &SEEDS.requests {
        let mut asked = Vec::new();
        for at in 0..params.len() {
            let (mut lost, mut emptied) = (params.clone(), params.clone());
            lost.remove(at);
            emptied[at].1.clear();
            asked.extend([lost, emptied]);
            // What comes before in the same request may be had: it must come free again.
            for wrong in ["0", "::/80", "2001:db8::1", "10.0.0.0", "10.0.0.0/28"] {
                let mut changed = params.clone();
                changed[at].1 = wrong.to_owned();
                asked.push(changed);
            }
        }
        for params in asked {
            let pairs = params
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()));
            check(&Request::new(action, pairs));
        }
        let whole = encoded(action, params);
        for cut in (0..whole.len()).step_by(31) {
            let mut request = Request::new(action, []);
            request.params = Params::decode(&whole.as_bytes()[..cut]);
            check(&request);
        }
    }
}

#[test]
fn odd_requests_are_answered_over_a_socket() {
    use proptest::strategy::ValueTree as _;
    let served = wire::serve();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..40 {
        let (action, params) = any_request().new_tree(&mut runner).unwrap().current();
        let body = encoded(&action, &params);
        let request = wire::post(wire::SIGNATURE, &body);
        let (head, reply) = wire::exchange(served.ec2, &request).unwrap();
        let root = well_formed(&reply).unwrap_or_else(|why| panic!("{body}: {why} in {reply}"));
        let ok = head.starts_with("http/1.1 200");
        assert_eq!(ok, root != "Response", "{body}: {head}");
        let id = first(&reply, if ok { "requestId" } else { "RequestID" });
        assert!(head.contains(&format!("x-amzn-requestid: {id}")), "{head}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_request_is_answered_and_changes_nothing_when_refused((action, params) in any_request()) {
        let pairs = params.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut request = Request::new(&action, []);
        request.params.merge(Params::from_pairs(pairs));
        check(&request);
    }

    #[test]
    fn any_bytes_are_answered(action in any::<String>(), encoded in any::<Vec<u8>>()) {
        let mut request = Request::new(&action, []);
        request.params.merge(Params::decode(&encoded));
        check(&request);
    }
}
