//! What is refused before anything is asked or changed.

use serde_json::{Value, json};

use crate::Test;
use crate::fake_ipamd::FakeIpamd;
use crate::runtime::{Call, PodNetNs};

pub(crate) const TESTS: &[Test] = &[
    ("missing_variables_are_all_named_at_once", missing_variables),
    ("malformed_variables_are_named", malformed_variables),
    (
        "a_configuration_that_is_wrong_has_its_code",
        wrong_configuration,
    ),
    (
        "a_version_that_is_not_spoken_is_code_1_with_details",
        wrong_version,
    ),
    ("a_netns_that_is_none_is_code_8_and_named", wrong_netns),
    ("verbs_that_a_version_has_not_are_refused", other_verbs),
    ("version_is_answered_without_stdin", version),
    ("a_person_gets_an_explanation", person),
];

/// Runs a changed ADD, which must be refused without a word to ipamd.
fn refused(change: impl Fn(Call) -> Call, code: u32, says: &[&str]) {
    let ipamd = FakeIpamd::start();
    let pod = PodNetNs::new();
    let outcome = change(Call::new("ADD", &ipamd, &pod.path(), "c0ffee")).run();
    outcome.assert_error(code, says);
    assert_eq!(ipamd.state().calls, [""; 0]);
    assert_eq!(
        pod.ip(&["link"]).as_array().unwrap().len(),
        1,
        "only lo in the pod"
    );
}

fn missing_variables() {
    let all = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"];
    for name in all {
        refused(|call| call.without(name), 4, &[&format!("[{name}]")]);
        refused(|call| call.with(name, ""), 4, &[&format!("[{name}]")]);
    }
    let none = |call| all.iter().fold(call, |call: Call, name| call.without(name));
    refused(
        none,
        4,
        &["[CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH]"],
    );
    let none_of_del = |call: Call| none(call).with("CNI_COMMAND", "DEL");
    refused(none_of_del, 4, &["[CNI_CONTAINERID,CNI_IFNAME,CNI_PATH]"]);
}

fn malformed_variables() {
    let cases = [
        ("CNI_COMMAND", "add"),
        ("CNI_CONTAINERID", "../../etc"),
        ("CNI_CONTAINERID", "-x"),
        ("CNI_IFNAME", "a/b"),
        ("CNI_IFNAME", "sixteen-bytes-12"),
        ("CNI_ARGS", "K8S_POD_NAME"),
        ("CNI_ARGS", "UNHEARD=1"),
    ];
    for (name, value) in cases {
        refused(|call| call.with(name, value), 4, &[name]);
    }
}

fn wrong_configuration() {
    let of = |name: &'static str, value: Value| move |call: Call| call.field(name, value.clone());
    refused(|call| call.stdin(""), 6, &["stdin"]);
    refused(|call| call.stdin("{"), 6, &["stdin"]);
    refused(|call| call.stdin("[1]"), 6, &["stdin"]);
    refused(of("name", json!("a/b")), 7, &["a/b"]);
    refused(of("name", Value::Null), 7, &["name"]);
    refused(of("mtu", json!("big")), 7, &["big"]);
    refused(of("mtu", json!(12)), 7, &["mtu 12"]);
    refused(of("ipamdSocket", json!("here.sock")), 7, &["here.sock"]);
    refused(of("prevResult", json!([])), 6, &["prevResult"]);
}

fn wrong_version() {
    for version in ["0.1.0", "0.2.0", "1.0", "1.2.0", "2.0.0"] {
        let says = [
            &format!("config is \\\"{version}\\\""),
            "0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0",
        ];
        refused(
            |call| call.field("cniVersion", json!(version)),
            1,
            &says.map(|s: &str| s),
        );
    }
    refused(|call| call.stdin(r#"{"name": "aws-cni"}"#), 1, &["0.1.0"]);
}

fn wrong_netns() {
    refused(
        |call| call.with("CNI_NETNS", "/var/run/netns/nobody"),
        8,
        &["/var/run/netns/nobody", "remedy"],
    );
    refused(
        |call| call.with("CNI_NETNS", "/etc/passwd"),
        8,
        &["/etc/passwd", "remedy"],
    );
    refused(
        |call| call.with("CNI_NETNS", "/proc/self/ns/uts"),
        8,
        &["/proc/self/ns/uts"],
    );
    refused(|call| call.with("CNI_NETNS", "/"), 8, &["remedy"]);
    let host = format!("/proc/{}/ns/net", std::process::id());
    refused(|call| call.with("CNI_NETNS", &host), 8, &[&host, "remedy"]);
    // The reference's way around does not make a pod out of the host.
    refused(
        |call| {
            call.with("CNI_NETNS", "/proc/self/ns/net")
                .with("CNI_NETNS_OVERRIDE", "true")
        },
        8,
        &["/proc/self/ns/net"],
    );
}

fn other_verbs() {
    refused(|call| call.with("CNI_COMMAND", "FETCH"), 4, &["FETCH"]);
    for (verb, version) in [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0")] {
        refused(
            |call| {
                call.with("CNI_COMMAND", verb)
                    .field("cniVersion", json!(version))
            },
            1,
            &[&format!("config version does not allow {verb}")],
        );
    }
}

fn version() {
    let outcome = Call::by_person(&[]).with("CNI_COMMAND", "VERSION").run();
    let supported = json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
    assert_eq!(
        outcome.result(),
        json!({"cniVersion": "1.1.0", "supportedVersions": supported})
    );
}

fn person() {
    let outcome = Call::by_person(&[]).run();
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, ""));
    assert!(outcome.stderr.contains("weir-cni") && outcome.stderr.contains("1.1.0"));

    let help = Call::by_person(&["--help"]).run();
    assert_eq!((help.status, help.stderr.as_str()), (0, ""));
    for field in [
        "ipamdSocket",
        "mtu",
        "addTimeoutSeconds",
        "logFile",
        "logLevel",
    ] {
        assert!(help.stdout.contains(field), "{field}");
    }
    let version = Call::by_person(&["--version"]).run();
    assert_eq!(version.status, 0);
    assert!(
        version.stdout.starts_with("weir-cni "),
        "{}",
        version.stdout
    );
    let unknown = Call::by_person(&["--frobnicate"]).run();
    assert_eq!(unknown.status, 2);
    assert!(unknown.stderr.contains("--frobnicate"));
}
