//! ADD as it should go.

use proto::v1::{AddResponse, PodAddress};
use serde_json::{Value, json};

use crate::Test;
use crate::fake_ipamd::FakeIpamd;
use crate::runtime::{Call, PodNetNs, host_links, ip};

pub(crate) const TESTS: &[Test] = &[
    ("an_add_wires_the_pod_and_says_so", wires),
    ("ipamd_learns_who_asks_and_how_long_it_waits", asks),
    ("each_version_gets_its_shape", versions),
    ("a_pod_may_have_both_families_or_ipv6_alone", families),
    ("the_mtu_is_the_configurations_or_else_what_ipamd_says", mtu),
    ("what_plugins_before_made_is_kept", chained),
    (
        "an_add_repeated_for_the_same_sandbox_answers_the_same",
        repeated,
    ),
    (
        "two_interfaces_of_one_sandbox_are_two_attachments",
        two_interfaces,
    ),
    ("an_add_withdraws_its_own_release_from_the_spool", withdraws),
    ("each_verb_leaves_a_line_in_the_log_file", logs),
];

/// Undoes, so that the host is clean for the next test.
fn del(ipamd: &FakeIpamd, pod: &PodNetNs, id: &str) {
    Call::new("DEL", ipamd, &pod.path(), id)
        .run()
        .assert_silent_success();
}

fn wires() {
    let ipamd = FakeIpamd::start();
    let pod = PodNetNs::new();
    let result = Call::new("ADD", &ipamd, &pod.path(), "c0ffee")
        .run()
        .result();

    let host = &result["interfaces"][0];
    let host_veth = host["name"].as_str().unwrap();
    let host_mac = host["mac"].as_str().unwrap();
    let pod_mac = result["interfaces"][1]["mac"].as_str().unwrap();
    assert_eq!(
        result,
        json!({
            "cniVersion": "1.0.0",
            "interfaces": [
                {"name": host_veth, "mac": host_mac},
                {"name": "eth0", "mac": pod_mac, "sandbox": pod.path()},
            ],
            "ips": [{"address": "10.0.1.17/32", "interface": 1}],
            "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}],
        })
    );

    let eth0 = pod.ip(&["-4", "addr", "show", "dev", "eth0"]);
    assert_eq!(eth0[0]["operstate"], "UP", "{eth0}");
    assert_eq!(eth0[0]["mtu"], 9001);
    assert_eq!(eth0[0]["addr_info"].as_array().unwrap().len(), 1);
    assert_eq!(eth0[0]["addr_info"][0]["local"], "10.0.1.17");
    assert_eq!(eth0[0]["addr_info"][0]["prefixlen"], 32);
    assert_eq!(
        pod.ip(&["link", "show", "dev", "eth0"])[0]["address"],
        pod_mac
    );
    let default = pod.ip(&["route", "show", "default"]);
    assert_eq!(
        (&default[0]["gateway"], &default[0]["dev"]),
        (&json!("169.254.1.1"), &json!("eth0"))
    );
    let neighbour = pod.ip(&["neigh", "show", "169.254.1.1"]);
    assert_eq!(neighbour[0]["lladdr"], host_mac);
    assert_eq!(neighbour[0]["state"], json!(["PERMANENT"]));

    let host = ip(&["link", "show", "dev", host_veth]);
    assert_eq!(
        (&host[0]["address"], &host[0]["mtu"]),
        (&json!(host_mac), &json!(9001))
    );
    assert_eq!(host[0]["ifalias"], "shop/cart-0");
    let table = datapath::layout::PODS_TABLE.to_string();
    let route = ip(&["route", "show", "10.0.1.17", "table", &table]);
    assert_eq!(
        (&route[0]["dst"], &route[0]["dev"]),
        (&json!("10.0.1.17"), &json!(host_veth))
    );
    let neighbour = ip(&["neigh", "show", "10.0.1.17"]);
    assert_eq!(neighbour[0]["lladdr"], pod_mac);
    assert_eq!(neighbour[0]["state"], json!(["PERMANENT"]));
    del(&ipamd, &pod, "c0ffee");
}

fn asks() {
    let ipamd = FakeIpamd::start();
    let pod = PodNetNs::new();
    Call::new("ADD", &ipamd, &pod.path(), "c0ffee")
        .run()
        .result();
    {
        let state = ipamd.state();
        assert_eq!(state.calls, ["Add c0ffee/eth0"], "one call and no other");
        let asked = state.last_add.as_ref().unwrap();
        let (said, netns) = (asked.pod.as_ref().unwrap(), &asked.netns);
        assert_eq!(
            [&said.namespace, &said.name, &said.uid],
            ["shop", "cart-0", "1-2-3"]
        );
        assert_eq!((asked.network.as_str(), netns), ("aws-cni", &pod.path()));
        // gRPC writes at most eight digits and a unit: nearly 20 s in microseconds.
        let timeout = state.last_timeout.as_ref().unwrap();
        let micros: u32 = timeout.strip_suffix('u').unwrap().parse().unwrap();
        assert!((19_000_000..=20_000_000).contains(&micros), "{timeout}");
    }
    del(&ipamd, &pod, "c0ffee");
}

fn versions() {
    let ipamd = FakeIpamd::start();
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let pod = PodNetNs::new();
        let call = |verb| {
            Call::new(verb, &ipamd, &pod.path(), "c0ffee").field("cniVersion", json!(version))
        };
        let result = call("ADD").run().result();
        assert_eq!(result["cniVersion"], version);
        let mtu = if version == "1.1.0" {
            json!(9001)
        } else {
            Value::Null
        };
        for interface in result["interfaces"].as_array().unwrap() {
            assert_eq!(interface["mtu"], mtu, "{version}");
        }
        let family = if version < "1.0.0" {
            json!("4")
        } else {
            Value::Null
        };
        assert_eq!(result["ips"][0]["version"], family, "{version}");
        assert_eq!(result["ips"][0]["interface"], 1, "{version}");
        assert!(result.get("dns").is_none());
        call("DEL").run().assert_silent_success();
    }
}

fn families() {
    fn ipv6() -> PodAddress {
        PodAddress {
            address: "2001:db8:0:1:a::7".to_owned(),
            ..PodAddress::default()
        }
    }
    let both: fn(&mut AddResponse) = |answer| answer.addresses.push(ipv6());
    let alone: fn(&mut AddResponse) = |answer| answer.addresses = vec![ipv6()];
    let ways = [
        json!({"dst": "0.0.0.0/0", "gw": "169.254.1.1"}),
        json!({"dst": "::/0", "gw": "fe80::1"}),
    ];
    let ips = ["10.0.1.17/32", "2001:db8:0:1:a::7/128"];
    for (spoil, families) in [(both, 0..2), (alone, 1..2)] {
        for version in ["0.4.0", "1.0.0"] {
            let ipamd = FakeIpamd::start();
            ipamd.state().spoil = Some(spoil);
            let pod = PodNetNs::new();
            let call = |verb| {
                Call::new(verb, &ipamd, &pod.path(), "c0ffee").field("cniVersion", json!(version))
            };
            let result = call("ADD").run().result();
            let given = result["ips"].as_array().unwrap();
            let addresses: Vec<_> = given.iter().map(|ip| ip["address"].as_str()).collect();
            let expected: Vec<_> = families.clone().map(|nth| Some(ips[nth])).collect();
            assert_eq!(addresses, expected, "{version}");
            assert_eq!(result["routes"], json!(ways[families.clone()]), "{version}");
            for (ip, nth) in given.iter().zip(families.clone()) {
                assert_eq!(ip["interface"], 1);
                let family = (version < "1.0.0").then_some(["4", "6"][nth]);
                assert_eq!(ip["version"].as_str(), family, "{version}");
            }
            assert_eq!(call("ADD").run().result(), result, "the same again");
            let default = pod.ip(&["-6", "route", "show", "default"]);
            assert_eq!(default[0]["gateway"], "fe80::1");
            let table = datapath::layout::PODS_TABLE.to_string();
            let route = ip(&["-6", "route", "show", "table", &table]);
            assert_eq!(route[0]["dst"], "2001:db8:0:1:a::7", "{route}");
            call("DEL").run().assert_silent_success();
            let route = ip(&["-6", "route", "show", "table", &table]);
            assert_eq!(route, json!([]), "the route went with the link");
        }
    }
}

fn mtu() {
    let ipamd = FakeIpamd::start();
    let pod = PodNetNs::new();
    let call = Call::new("ADD", &ipamd, &pod.path(), "c0ffee").field("mtu", json!(1400));
    assert_mtu(&ipamd, &pod, call, 1400);
    // And ipamd's over the usual.
    ipamd.state().spoil = Some(|answer| answer.mtu = 1300);
    let call = Call::new("ADD", &ipamd, &pod.path(), "c0ffee");
    assert_mtu(&ipamd, &pod, call, 1300);
}

fn assert_mtu(ipamd: &FakeIpamd, pod: &PodNetNs, call: Call, mtu: u32) {
    let result = call.field("cniVersion", json!("1.1.0")).run().result();
    let host_veth = result["interfaces"][0]["name"].as_str().unwrap();
    assert_eq!(result["interfaces"][1]["mtu"], mtu);
    assert_eq!(pod.ip(&["link", "show", "dev", "eth0"])[0]["mtu"], mtu);
    assert_eq!(ip(&["link", "show", "dev", host_veth])[0]["mtu"], mtu);
    del(ipamd, pod, "c0ffee");
}

fn chained() {
    let ipamd = FakeIpamd::start();
    let pod = PodNetNs::new();
    let prev = json!({
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "theirs", "mac": "02:00:00:00:00:09", "sandbox": pod.path()}],
        "ips": [{"address": "192.0.2.9/24", "interface": 0}],
        "dns": {"nameservers": ["192.0.2.53"]},
    });
    let call = Call::new("ADD", &ipamd, &pod.path(), "c0ffee").field("prevResult", prev.clone());
    let result = call.run().result();
    assert_eq!(result["interfaces"][0], prev["interfaces"][0]);
    assert_eq!(result["interfaces"][2]["name"], "eth0");
    assert_eq!(result["ips"][0], prev["ips"][0]);
    assert_eq!(
        result["ips"][1],
        json!({"address": "10.0.1.17/32", "interface": 2})
    );
    assert_eq!(result["dns"], prev["dns"]);
    del(&ipamd, &pod, "c0ffee");
}

fn repeated() {
    let ipamd = FakeIpamd::start();
    let pod = PodNetNs::new();
    let add = || Call::new("ADD", &ipamd, &pod.path(), "c0ffee").run();
    let first = add().result();
    let links = host_links();
    let before = pod.ip(&["addr"]);
    assert_eq!(add().result(), first);
    assert_eq!(host_links(), links);
    assert_eq!(
        pod.ip(&["addr"]),
        before,
        "the same link, not one made anew"
    );
    assert_eq!(ipamd.state().held.len(), 1);
    del(&ipamd, &pod, "c0ffee");
}

fn two_interfaces() {
    let ipamd = FakeIpamd::start();
    let pod = PodNetNs::new();
    let call = |verb, ifname| {
        Call::new(verb, &ipamd, &pod.path(), "c0ffee")
            .with("CNI_IFNAME", ifname)
            .run()
    };
    call("ADD", "eth0").result();
    // A second default route can't be made beside the first, so only the attachments are looked at here.
    pod.ip(&["route", "del", "default"]);
    pod.ip(&["route", "del", "169.254.1.1"]);
    let second = call("ADD", "eth1").result();
    assert_eq!(second["interfaces"][1]["name"], "eth1");
    assert_eq!(second["ips"][0]["address"], "10.0.1.18/32");
    call("DEL", "eth0").assert_silent_success();
    assert_eq!(
        pod.ip(&["link", "show", "dev", "eth1"])[0]["ifname"],
        "eth1",
        "still there"
    );
    assert_eq!(
        ipamd.state().held.keys().collect::<Vec<_>>(),
        ["c0ffee/eth1"]
    );
    call("DEL", "eth1").assert_silent_success();
}

fn withdraws() {
    let ipamd = FakeIpamd::start();
    let pod = PodNetNs::new();
    ipamd.state().on_del = crate::fake_ipamd::Mood::Refusing(tonic::Status::internal("not now"));
    del(&ipamd, &pod, "c0ffee");
    del(&ipamd, &pod, "decaf");
    assert_eq!(ipamd.spool().len(), 2);
    ipamd.state().on_del = crate::fake_ipamd::Mood::Well;
    Call::new("ADD", &ipamd, &pod.path(), "c0ffee")
        .run()
        .result();
    let left = ipamd.spool();
    assert_eq!(
        left.len(),
        1,
        "replaying its release would take its address back"
    );
    assert_eq!(left[0].1["container_id"], "decaf");
    del(&ipamd, &pod, "c0ffee");
}

fn logs() {
    let ipamd = FakeIpamd::start();
    let pod = PodNetNs::new();
    let log = ipamd.socket().with_file_name("cni.log");
    let call = |verb: &str, netns: &str| {
        Call::new(verb, &ipamd, netns, "c0ffee")
            .field("logFile", json!(log))
            .run()
    };
    call("ADD", &pod.path()).result();
    call("DEL", &pod.path()).assert_silent_success();
    call("ADD", "/nowhere").error();
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(
        lines[0].contains("INFO ADD c0ffee/eth0 shop/cart-0: 10.0.1.17/32"),
        "{text}"
    );
    assert!(
        lines[1].contains("INFO DEL c0ffee/eth0 link removed"),
        "{text}"
    );
    assert!(
        lines[2].contains("ERROR ADD c0ffee/eth0") && lines[2].contains("/nowhere"),
        "{text}"
    );
}
