//! The metadata service: token rules, the tree, and its lag.

use std::time::Duration;

use aws_sim::imds::{ImdsReply, ImdsRequest, answer};
use aws_sim::world::ImdsOptions;

use crate::{Setup, addresses, first};

impl Setup {
    fn ask(&self, request: &ImdsRequest) -> ImdsReply {
        answer(&self.world, self.now, &self.instance, request)
    }

    fn token(&self) -> String {
        self.ask(&ImdsRequest::put_token("60")).body
    }

    fn metadata(&self, path: &str) -> Option<String> {
        let reply = self.ask(&ImdsRequest::get(&format!("/latest/{path}"), &self.token()));
        (reply.status == 200).then_some(reply.body)
    }
}

#[test]
fn a_token_is_given_for_a_time_to_live_and_nothing_else() {
    let setup = Setup::new();
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
        answer(&setup.world, setup.now, &other, &get(&token)).status,
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
    let of = |setup: &Setup, leaf: &str| {
        setup.metadata(&format!("meta-data/network/interfaces/macs/{mac}/{leaf}"))
    };
    assert_eq!(of(&setup, "interface-id").as_deref(), Some(eni.as_str()));
    assert_eq!(of(&setup, "device-number").as_deref(), Some("1"));
    assert_eq!(of(&setup, "network-card/").as_deref(), Some("0"));
    assert_eq!(
        of(&setup, "local-ipv4s"),
        Some(addresses(&shown).join("\n"))
    );
    assert_eq!(
        of(&setup, "subnet-ipv4-cidr-block").as_deref(),
        Some("10.0.0.0/24")
    );
    assert_eq!(
        of(&setup, "vpc-ipv4-cidr-blocks").as_deref(),
        Some("10.0.0.0/16")
    );
    assert_eq!(of(&setup, "ipv4-prefix"), None);
    assert_eq!(of(&setup, "local-ipv6s"), None);
    setup.ok(
        "AssignPrivateIpAddresses",
        &[
            ("NetworkInterfaceId", &eni),
            ("Ipv4Prefix.1", "10.0.0.64/28"),
        ],
    );
    setup.pass(Duration::from_secs(5));
    assert_eq!(of(&setup, "ipv4-prefix").as_deref(), Some("10.0.0.64/28"));

    assert_eq!(setup.metadata("").as_deref(), Some("dynamic/\nmeta-data/"));
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
    let macs = |setup: &Setup| {
        setup
            .metadata("meta-data/network/interfaces/macs/")
            .unwrap()
            .lines()
            .count()
    };
    assert_eq!(macs(&setup), 1);
    setup.pass(Duration::from_secs(24));
    assert_eq!(macs(&setup), 1);
    setup.pass(Duration::from_secs(1));
    assert_eq!(macs(&setup), 2);
}
