//! CHECK: all that ADD made is looked at, and nothing is changed.

use serde_json::{Value, json};

use crate::Test;
use crate::fake_ipamd::FakeIpamd;
use crate::runtime::{Call, PodNetNs, Rule, ip, run_ip};

pub(crate) const TESTS: &[Test] = &[
    ("a_check_after_an_add_says_nothing", as_made),
    ("a_check_finds_each_thing_that_is_gone", gone),
    ("a_check_changes_nothing", read_only),
    ("a_check_ignores_what_other_plugins_added", others),
    ("a_check_finds_an_address_that_ipamd_does_not_know", unknown),
    (
        "a_check_without_its_interface_in_the_result_is_code_7",
        no_interface,
    ),
];

struct Pod {
    ipamd: FakeIpamd,
    netns: PodNetNs,
    result: Value,
    host_veth: String,
    _rule: Rule,
}

impl Pod {
    fn added() -> Self {
        let (ipamd, netns) = (FakeIpamd::start(), PodNetNs::new());
        let result = Call::new("ADD", &ipamd, &netns.path(), "c0ffee")
            .run()
            .result();
        let host_veth = result["interfaces"][0]["name"].as_str().unwrap().to_owned();
        Self {
            ipamd,
            netns,
            result,
            host_veth,
            _rule: Rule::to_pods(),
        }
    }

    fn check(&self) -> Call {
        Call::new("CHECK", &self.ipamd, &self.netns.path(), "c0ffee")
            .field("prevResult", self.result.clone())
    }

    /// Undoes one thing, which CHECK must find, and gives it back.
    fn without(&self, what: &str, undo: &[&str], redo: &[&[&str]]) {
        run_ip(undo);
        let outcome = self.check().run();
        outcome.assert_error(123, &["NOT_AS_ADDED", what, "remedy"]);
        for step in redo {
            run_ip(step);
        }
        self.check().run().assert_silent_success();
    }

    fn del(self) {
        Call::new("DEL", &self.ipamd, &self.netns.path(), "c0ffee")
            .run()
            .assert_silent_success();
    }
}

fn as_made() {
    let pod = Pod::added();
    for version in ["0.4.0", "1.0.0", "1.1.0"] {
        let check = pod.check().field("cniVersion", json!(version));
        check.run().assert_silent_success();
    }
    pod.del();
}

fn gone() {
    let pod = Pod::added();
    let (name, veth) = (pod.netns.name().to_owned(), pod.host_veth.clone());
    let table = datapath::layout::PODS_TABLE.to_string();
    let host_mac = pod.result["interfaces"][0]["mac"].as_str().unwrap();
    let pod_mac = pod.result["interfaces"][1]["mac"].as_str().unwrap();
    let inside = |words: &[&'static str]| [&["-n", &name], words].concat();

    pod.without(
        "the host has no route to 10.0.1.17 in table 5120",
        &["route", "del", "10.0.1.17", "table", &table],
        &[&[
            "route",
            "add",
            "10.0.1.17",
            "dev",
            &veth,
            "table",
            &table,
            "proto",
            "87",
        ]],
    );
    pod.without(
        &format!("the host does not know 10.0.1.17 by the MAC {pod_mac}"),
        &["neigh", "del", "10.0.1.17", "dev", &veth],
        &[&[
            "neigh",
            "add",
            "10.0.1.17",
            "lladdr",
            pod_mac,
            "dev",
            &veth,
            "nud",
            "permanent",
        ]],
    );
    pod.without(
        "the host has no rule 512",
        &["rule", "del", "pref", "512"],
        &[&["rule", "add", "pref", "512", "table", &table, "proto", "87"]],
    );
    pod.without(
        "the pod has no default route by 169.254.1.1",
        &inside(&["route", "del", "default"]),
        &[&inside(&[
            "route",
            "add",
            "default",
            "via",
            "169.254.1.1",
            "dev",
            "eth0",
        ])],
    );
    let gateway = [
        "neigh",
        "add",
        "169.254.1.1",
        "lladdr",
        host_mac,
        "dev",
        "eth0",
        "nud",
        "permanent",
    ];
    pod.without(
        &format!("the pod does not know its gateway 169.254.1.1 by the MAC {host_mac}"),
        &inside(&["neigh", "del", "169.254.1.1", "dev", "eth0"]),
        &[&[&["-n", &name][..], &gateway].concat()],
    );
    let routes: [&[&'static str]; 2] = [
        &[
            "route",
            "add",
            "169.254.1.1",
            "dev",
            "eth0",
            "scope",
            "link",
        ],
        &[
            "route",
            "add",
            "default",
            "via",
            "169.254.1.1",
            "dev",
            "eth0",
        ],
    ];
    let gateway = [&["-n", &name][..], &["neigh", "replace"], &gateway[2..]].concat();
    // With its last address a link loses its routes and its neighbours; down, too.
    pod.without(
        "the pod's link has not the address 10.0.1.17",
        &inside(&["addr", "del", "10.0.1.17/32", "dev", "eth0"]),
        &[
            &inside(&["addr", "add", "10.0.1.17/32", "dev", "eth0"]),
            &inside(routes[0]),
            &inside(routes[1]),
            &gateway,
        ],
    );
    pod.without(
        "link eth0 in the pod is down",
        &inside(&["link", "set", "eth0", "down"]),
        &[
            &inside(&["link", "set", "eth0", "up"]),
            &inside(routes[0]),
            &inside(routes[1]),
            &gateway,
        ],
    );
    run_ip(&["link", "del", &veth]);
    pod.check().run().assert_error(
        123,
        &[
            "link eth0 in the pod is gone",
            &format!("link {veth} on the host is gone"),
        ],
    );
    pod.del();
}

fn read_only() {
    let pod = Pod::added();
    let name = pod.netns.name().to_owned();
    let state = || {
        let table = ip(&["route", "show", "table", "all"]);
        let links = [ip(&["addr"]), ip(&["neigh"]), ip(&["rule"])];
        let inside = ["addr", "neigh", "route"].map(|what| ip(&["-n", &name, what]));
        (table, links, inside)
    };
    run_ip(&["-n", &name, "neigh", "del", "169.254.1.1", "dev", "eth0"]);
    let before = state();
    pod.check().run().error();
    assert_eq!(state(), before);
    pod.del();
}

fn others() {
    let mut pod = Pod::added();
    let name = pod.netns.name().to_owned();
    // As tuning and other plugins after ours do.
    run_ip(&["-n", &name, "link", "set", "eth0", "mtu", "1400"]);
    run_ip(&["-n", &name, "addr", "add", "192.0.2.1/32", "dev", "eth0"]);
    run_ip(&["-n", &name, "route", "add", "192.0.2.0/24", "dev", "eth0"]);
    let ips = pod.result["ips"].as_array_mut().unwrap();
    ips.push(json!({"address": "192.0.2.1/32", "interface": 1}));
    pod.check().run().assert_silent_success();
    pod.del();
}

fn unknown() {
    let pod = Pod::added();
    let held = std::mem::take(&mut pod.ipamd.state().held);
    pod.check()
        .run()
        .assert_error(123, &["ipamd has no address for this container"]);
    let other = held.keys().map(|key| (key.clone(), "10.0.1.99".to_owned()));
    pod.ipamd.state().held = other.collect();
    pod.check()
        .run()
        .assert_error(123, &["ipamd has 10.0.1.99 for it, and its result has not"]);
    pod.del();
}

fn no_interface() {
    let mut pod = Pod::added();
    let told = pod.result.clone();
    pod.result["interfaces"][1]["sandbox"] = json!("/var/run/netns/other");
    pod.check().run().assert_error(7, &["no interface eth0 in"]);
    pod.result = told;
    let check = Call::new("CHECK", &pod.ipamd, &pod.netns.path(), "c0ffee");
    check.run().assert_error(7, &["prevResult"]);
    pod.del();
}
