//! The metadata service: token rules, the tree, and its lag.

use std::time::Duration;

use aws_sim::imds::{ImdsReply, ImdsRequest, answer};
use aws_sim::world::ImdsOptions;
use aws_sim::{Event, LaunchSpec, tokens};

use crate::ipv6::dual_stack;
use crate::{Setup, addresses, all, first};

impl Setup {
    pub(crate) fn ask(&mut self, request: &ImdsRequest) -> ImdsReply {
        answer(&mut self.world, self.now, &self.instance, request)
    }

    fn token(&mut self) -> String {
        self.ask(&ImdsRequest::put_token("60")).body
    }

    pub(crate) fn metadata(&mut self, path: &str) -> Option<String> {
        let reply = self.look(path);
        (reply.status == 200).then_some(reply.body)
    }

    /// A GET below the latest version, with a token of its own.
    pub(crate) fn look(&mut self, path: &str) -> ImdsReply {
        let token = tokens::issue(&self.world, &self.instance, self.now.plus(HOUR));
        self.ask(&ImdsRequest::get(&format!("/latest/{path}"), &token))
    }

    /// The MAC addresses that IMDS lists.
    pub(crate) fn macs(&mut self) -> Vec<String> {
        let list = self.metadata("meta-data/network/interfaces/macs/");
        let list = list.unwrap_or_default();
        let macs = list.lines().map(|line| line.trim_end_matches('/'));
        macs.map(str::to_owned).collect()
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_token_is_given_for_a_time_to_live_and_nothing_else() {
    let mut setup = Setup::new();
    for (ttl, status) in [
        ("1", 200),
        ("21600", 200),
        ("0", 400),
        ("21601", 400),
        ("-1", 400),
        ("soon", 400),
        ("", 400),
    ] {
        let reply = setup.ask(&ImdsRequest::put_token(ttl));
        assert_eq!(reply.status, status, "{ttl}");
        assert_eq!(
            reply.token_ttl.map(|ttl| ttl.to_string()).as_deref(),
            (status == 200).then_some(ttl)
        );
    }
    let bare = ImdsRequest {
        token_ttl: None,
        ..ImdsRequest::put_token("60")
    };
    assert_eq!(setup.ask(&bare).status, 400);
    let forwarded = ImdsRequest {
        forwarded: true,
        ..ImdsRequest::put_token("60")
    };
    assert_eq!(setup.ask(&forwarded).status, 403);
}

#[test]
fn metadata_needs_a_token_that_is_this_instances_and_not_expired() {
    let mut setup = Setup::new();
    let token = setup.token();
    let get = |token: &str| ImdsRequest::get("/latest/meta-data/instance-id", token);
    assert_eq!(setup.ask(&get(&token)).body, setup.instance.to_string());
    let bare = ImdsRequest {
        token: None,
        ..get("")
    };
    assert_eq!(setup.ask(&bare).status, 401);
    for bad in [
        "",
        "nonsense",
        token.trim_start_matches('A'),
        &token.replace('0', "1"),
    ] {
        assert_eq!(setup.ask(&get(bad)).status, 401, "{bad}");
    }
    let spec = aws_sim::LaunchSpec::new("m5.large", &setup.subnet);
    let other = setup.world.launch_instance(setup.now, spec).unwrap();
    assert_eq!(
        answer(&mut setup.world, setup.now, &other, &get(&token)).status,
        401
    );

    setup.pass(Duration::from_millis(59_999));
    assert_eq!(setup.ask(&get(&token)).status, 200);
    setup.pass(Duration::from_millis(1));
    assert_eq!(setup.ask(&get(&token)).status, 401);

    let instance = setup.instance.clone();
    let open = ImdsOptions {
        v1_allowed: true,
        ..ImdsOptions::default()
    };
    setup.world.set_imds_options(&instance, open).unwrap();
    assert_eq!(setup.ask(&bare).status, 200);
    let closed = ImdsOptions {
        enabled: false,
        ..open
    };
    setup.world.set_imds_options(&instance, closed).unwrap();
    assert_eq!(setup.ask(&bare).status, 403);
}

#[test]
fn the_tree_has_what_an_eni_has_and_404_for_the_rest() {
    let mut setup = Setup::new();
    let eni = setup.create(&[("SecondaryPrivateIpAddressCount", "2")]);
    setup.attach(&eni, "1");
    let shown = setup.eni(&eni);
    let mac = first(&shown, "macAddress");
    let of = |setup: &mut Setup, leaf: &str| {
        setup.metadata(&format!("meta-data/network/interfaces/macs/{mac}/{leaf}"))
    };
    assert_eq!(
        of(&mut setup, "interface-id").as_deref(),
        Some(eni.as_str())
    );
    assert_eq!(of(&mut setup, "device-number").as_deref(), Some("1"));
    assert_eq!(of(&mut setup, "device-number/").as_deref(), Some("1"));
    assert_eq!(of(&mut setup, "network-card"), None);
    assert_eq!(
        of(&mut setup, "local-ipv4s"),
        Some(addresses(&shown).join("\n"))
    );
    assert_eq!(
        of(&mut setup, "subnet-ipv4-cidr-block").as_deref(),
        Some("10.0.0.0/24")
    );
    assert_eq!(
        of(&mut setup, "vpc-ipv4-cidr-blocks").as_deref(),
        Some("10.0.0.0/16")
    );
    assert_eq!(of(&mut setup, "ipv4-prefix"), None);
    assert_eq!(of(&mut setup, "local-ipv6s"), None);
    setup.ok(
        "AssignPrivateIpAddresses",
        &[
            ("NetworkInterfaceId", &eni),
            ("Ipv4Prefix.1", "10.0.0.64/28"),
        ],
    );
    setup.pass(Duration::from_secs(5));
    assert_eq!(
        of(&mut setup, "ipv4-prefix").as_deref(),
        Some("10.0.0.64/28")
    );

    assert_eq!(
        setup.metadata("").as_deref(),
        Some("dynamic/\nmeta-data/\nuser-data")
    );
    assert_eq!(setup.metadata("user-data"), None);
    let macs = setup.metadata("meta-data/network/interfaces/macs").unwrap();
    assert_eq!(
        macs.lines()
            .filter(|line| **line == format!("{mac}/"))
            .count(),
        1
    );
    assert_eq!(macs.lines().count(), 2);
    assert_eq!(
        setup
            .metadata("meta-data/placement/availability-zone")
            .as_deref(),
        Some("us-east-1a")
    );
    assert_eq!(
        setup.metadata("meta-data/services/domain").as_deref(),
        Some("amazonaws.com")
    );
    assert_eq!(setup.metadata("meta-data/public-ipv4"), None);
    let roles = setup
        .metadata("meta-data/iam/security-credentials/")
        .unwrap();
    let credentials = setup
        .metadata(&format!("meta-data/iam/security-credentials/{roles}"))
        .unwrap();
    let credentials: serde_json::Value = serde_json::from_str(&credentials).unwrap();
    assert_eq!(credentials["Expiration"], "2026-01-01T06:00:10Z");
    let document = setup
        .metadata("dynamic/instance-identity/document")
        .unwrap();
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["instanceId"], setup.instance.as_str());
}

#[test]
fn metadata_lags_behind_ec2() {
    let mut setup = Setup::new();
    setup.world.config.imds_lag = Duration::from_secs(30);
    setup.pass(Duration::from_secs(60));
    let eni = setup.create(&[]);
    setup.attach(&eni, "1");
    assert_eq!(setup.macs().len(), 1);
    setup.pass(Duration::from_secs(24));
    assert_eq!(setup.macs().len(), 1);
    setup.pass(Duration::from_secs(1));
    assert_eq!(setup.macs().len(), 2);
}

#[test]
fn a_token_is_refused_to_a_proxy_and_says_how_long_it_still_lives() {
    let mut setup = Setup::new();
    let forwarded = |request: ImdsRequest| ImdsRequest {
        forwarded: true,
        ..request
    };
    assert_eq!(
        setup.ask(&forwarded(ImdsRequest::put_token("60"))).status,
        403
    );
    let token = setup.token();
    let get = ImdsRequest::get("/latest/meta-data/mac", &token);
    assert_eq!(setup.ask(&forwarded(get.clone())).status, 200);
    setup.pass(Duration::from_secs(20));
    assert_eq!(setup.ask(&get).token_ttl, Some(40));
}

#[test]
fn methods_that_are_not_for_reading_are_refused_as_imds_refuses_them() {
    let mut setup = Setup::new();
    let token = setup.token();
    for (method, path, status, allow) in [
        ("GET", "/latest/api/token", 405, Some("OPTIONS, PUT")),
        ("OPTIONS", "/latest/api/token", 200, Some("OPTIONS, PUT")),
        (
            "OPTIONS",
            "/latest/meta-data/mac",
            200,
            Some("OPTIONS, GET, HEAD"),
        ),
        ("HEAD", "/latest/meta-data/mac", 200, None),
        ("POST", "/latest/meta-data/mac", 403, None),
        ("DELETE", "/latest/meta-data/mac", 403, None),
    ] {
        let request = ImdsRequest {
            method: method.to_owned(),
            ..ImdsRequest::get(path, &token)
        };
        let reply = setup.ask(&request);
        assert_eq!(
            (reply.status, reply.allow),
            (status, allow),
            "{method} {path}"
        );
    }
}

#[test]
fn errors_are_pages_and_versions_are_those_of_the_guide() {
    let mut setup = Setup::new();
    let reply = setup.look("meta-data/nothing");
    assert_eq!((reply.status, reply.content_type), (404, "text/html"));
    assert!(
        reply.body.contains("<title>404 - Not Found</title>"),
        "{}",
        reply.body
    );
    let token = setup.token();
    let versions = setup.ask(&ImdsRequest::get("/", &token)).body;
    assert!(versions.starts_with("1.0\n2007-01-19\n") && versions.ends_with("\nlatest"));
    for (version, status) in [("2021-03-23", 200), ("1.0", 200), ("2021-03-24", 404)] {
        let path = format!("/{version}/meta-data/mac");
        assert_eq!(
            setup.ask(&ImdsRequest::get(&path, &token)).status,
            status,
            "{path}"
        );
    }
}

#[test]
fn what_an_instance_does_not_have_is_not_there() {
    let mut setup = Setup::new();
    for absent in [
        "meta-data/spot/instance-action",
        "meta-data/spot/termination-time",
        "meta-data/autoscaling/target-lifecycle-state",
        "meta-data/events/recommendations/rebalance",
        "meta-data/placement/group-name",
        "meta-data/tags/instance",
        "meta-data/ipv6",
        "meta-data/mac/deeper",
        "meta-data/network/interfaces/macs/00:00:00:00:00:00/mac",
    ] {
        assert_eq!(setup.metadata(absent), None, "{absent}");
    }
    let names = setup.metadata("meta-data").unwrap();
    for listed in names.lines() {
        assert!(
            setup.metadata(&format!("meta-data/{listed}")).is_some(),
            "{listed}"
        );
    }
    assert!(!names.contains("tags"), "{names}");
    assert!(
        setup
            .metadata("meta-data/events/maintenance/scheduled")
            .is_some()
    );
}

#[test]
fn tags_are_metadata_when_the_instance_says_so() {
    let mut setup = Setup::new();
    let instance = setup.instance.clone();
    let options = ImdsOptions {
        tags: true,
        ..ImdsOptions::default()
    };
    setup.world.set_imds_options(&instance, options).unwrap();
    let tags = [("Name", "node-a"), ("team", "")];
    let tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let event = Event::AddTags {
        to: instance.to_string(),
        tags: tags.into(),
    };
    setup.world.happen(setup.now, &event).unwrap();
    setup.pass(Duration::from_secs(2));
    assert_eq!(
        setup.metadata("meta-data/tags/instance").as_deref(),
        Some("Name\nteam")
    );
    assert_eq!(
        setup.metadata("meta-data/tags/instance/Name").as_deref(),
        Some("node-a")
    );
    assert_eq!(
        setup.metadata("meta-data/tags/instance/team").as_deref(),
        Some("")
    );
}

#[test]
fn public_addresses_and_cards_are_there_where_the_instance_has_them() {
    let mut setup = Setup::new();
    let public = "198.51.100.7".parse().unwrap();
    let spec = LaunchSpec {
        public_address: Some(public),
        ..LaunchSpec::new("p4d.24xlarge", &setup.subnet)
    };
    setup.instance = setup.world.launch_instance(setup.now, spec).unwrap();
    let mac = setup.macs().remove(0);
    let private = setup.metadata("meta-data/local-ipv4").unwrap();
    let of = format!("meta-data/network/interfaces/macs/{mac}");
    assert_eq!(
        setup.metadata(&format!("{of}/network-card")).as_deref(),
        Some("0")
    );
    assert_eq!(
        setup.metadata(&format!("{of}/public-ipv4s")).as_deref(),
        Some("198.51.100.7")
    );
    let association = format!("{of}/ipv4-associations/198.51.100.7");
    assert_eq!(setup.metadata(&association), Some(private));
    assert_eq!(
        setup.metadata("meta-data/public-hostname").as_deref(),
        Some("ec2-198-51-100-7.compute-1.amazonaws.com")
    );
}

#[test]
fn a_new_mac_address_may_appear_before_its_leaves() {
    let mut setup = Setup::new();
    setup.world.config.imds_lag = Duration::ZERO;
    setup.world.config.imds_partial = Duration::from_secs(60);
    setup.pass(Duration::from_secs(60));
    let eni = setup.create(&[]);
    setup.attach(&eni, "1");
    let mac = first(&setup.eni(&eni), "macAddress");
    let leaves = |setup: &mut Setup, mac: &str| {
        let path = format!("meta-data/network/interfaces/macs/{mac}");
        setup.metadata(&path).unwrap().lines().count()
    };
    let primary = setup.metadata("meta-data/mac").unwrap();
    let complete = leaves(&mut setup, &primary);
    assert!(setup.macs().contains(&mac));
    let mut counts = vec![leaves(&mut setup, &mac)];
    assert!(counts[0] < complete, "{counts:?}");
    for _ in 0..6 {
        setup.pass(Duration::from_secs(10));
        counts.push(leaves(&mut setup, &mac));
    }
    assert!(
        counts.is_sorted() && counts.last() == Some(&complete),
        "{counts:?}"
    );
    assert!(
        counts.windows(2).filter(|two| two[0] < two[1]).count() > 2,
        "{counts:?}"
    );
}

#[test]
fn requests_for_metadata_are_counted_and_logged_on_demand() {
    let mut setup = Setup::new();
    setup.look("meta-data/mac");
    assert_eq!(setup.world.log.entries().count(), 0);
    setup.world.config.log_imds = true;
    setup.look("meta-data/nothing");
    let expected = format!(
        "0.000s {} GET /latest/meta-data/nothing 404\n",
        setup.instance
    );
    assert_eq!(setup.world.log.story(), expected);
    assert_eq!(setup.world.log.imds_counts()[&200], 1);
    assert_eq!(setup.world.log.imds_counts()[&404], 1);
}

#[test]
fn ipv6_is_in_the_tree_of_an_eni_that_has_it() {
    let (mut setup, cidr) = dual_stack();
    let eni = setup.create(&[("Ipv6AddressCount", "2")]);
    setup.attach(&eni, "1");
    let prefix = [
        ("NetworkInterfaceId", eni.as_str()),
        ("Ipv6PrefixCount", "1"),
    ];
    setup.ok("AssignIpv6Addresses", &prefix);
    setup.pass(Duration::from_secs(5));
    let shown = setup.eni(&eni);
    let mac = first(&shown, "macAddress");
    let vpc = cidr.supernet().unwrap();
    let mut of =
        |leaf: &str| setup.metadata(&format!("meta-data/network/interfaces/macs/{mac}/{leaf}"));
    assert_eq!(of("ipv6s"), Some(all(&shown, "ipv6Address").join("\n")));
    assert_eq!(of("ipv6-prefix"), Some(first(&shown, "ipv6Prefix")));
    assert_eq!(of("subnet-ipv6-cidr-blocks"), Some(cidr.to_string()));
    let block = of("vpc-ipv6-cidr-blocks").unwrap();
    let block: ipnet::Ipv6Net = block.parse().unwrap();
    assert!(block.prefix_len() == 56 && block.contains(&vpc), "{block}");
}

#[test]
fn user_data_is_what_the_instance_was_launched_with() {
    let mut setup = Setup::new();
    let subnet = setup.subnet.to_string();
    let params = [
        ("ImageId", "ami-0c2b8ca1dad447f8a"),
        ("InstanceType", "m5.large"),
        ("MinCount", "1"),
        ("MaxCount", "1"),
        ("SubnetId", subnet.as_str()),
        ("UserData", "IyEvYmluL3NoCg=="),
    ];
    let id = first(&setup.ok("RunInstances", &params), "instanceId");
    setup.instance = id.as_str().into();
    setup.pass(Duration::from_secs(60));
    assert_eq!(setup.metadata("user-data").as_deref(), Some("#!/bin/sh\n"));
    let listed = setup.metadata("").unwrap();
    assert!(listed.ends_with("user-data"), "{listed}");
}
