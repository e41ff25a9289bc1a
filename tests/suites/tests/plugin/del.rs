//! DEL, which succeeds whatever is missing.

use serde_json::json;

use crate::Test;
use crate::fake_ipamd::{FakeIpamd, Mood};
use crate::runtime::{Call, PodNetNs, assert_host_is_clean, host_links};

pub(crate) const TESTS: &[Test] = &[
    ("a_del_undoes_all_and_prints_nothing", undoes),
    ("a_del_that_was_never_added_succeeds", never_added),
    ("a_del_twice_succeeds", twice),
    ("a_del_after_the_netns_is_gone_succeeds", netns_gone),
    (
        "a_late_del_leaves_the_pod_that_has_the_address_now_alone",
        late,
    ),
    ("a_del_needs_only_its_key", only_its_key),
    ("a_del_while_ipamd_is_absent_leaves_a_release", ipamd_absent),
    ("a_del_that_ipamd_refuses_leaves_a_release", ipamd_refuses),
    (
        "a_del_that_ipamd_does_not_answer_ends_in_seconds_and_leaves_a_release",
        ipamd_hangs,
    ),
    ("a_del_that_ipamd_answers_withdraws_the_release", withdraws),
    ("a_release_that_nobody_takes_fails_the_del", stuck),
];

fn add(ipamd: &FakeIpamd, pod: &PodNetNs, id: &str) {
    Call::new("ADD", ipamd, &pod.path(), id).run().result();
}

fn undoes() {
    let ipamd = FakeIpamd::start();
    let pod = PodNetNs::new();
    add(&ipamd, &pod, "c0ffee");
    Call::new("DEL", &ipamd, &pod.path(), "c0ffee")
        .run()
        .assert_silent_success();
    assert_host_is_clean("after the DEL");
    assert_eq!(
        pod.ip(&["link"]).as_array().unwrap().len(),
        1,
        "only lo in the pod"
    );
    assert_eq!(pod.ip(&["route"]), json!([]));
    assert!(ipamd.state().held.is_empty());
    assert_eq!(ipamd.spool(), []);
}

/// amazon-vpc-cni-k8s#601, #739, #750: a DEL of what had never been added failed for ever, and so did the pod's end.
fn never_added() {
    let ipamd = FakeIpamd::start();
    let pod = PodNetNs::new();
    Call::new("DEL", &ipamd, &pod.path(), "c0ffee")
        .run()
        .assert_silent_success();
    assert_eq!(ipamd.state().calls, ["Del c0ffee/eth0"]);
}

fn twice() {
    let ipamd = FakeIpamd::start();
    let pod = PodNetNs::new();
    add(&ipamd, &pod, "c0ffee");
    for _ in 0..2 {
        Call::new("DEL", &ipamd, &pod.path(), "c0ffee")
            .run()
            .assert_silent_success();
    }
    assert_eq!(
        ipamd.state().calls,
        ["Add c0ffee/eth0", "Del c0ffee/eth0", "Del c0ffee/eth0"]
    );
}

/// amazon-vpc-cni-k8s#1644, #1939, #1941: without a namespace the address stayed taken, and the rules stayed.
fn netns_gone() {
    let ipamd = FakeIpamd::start();
    for given in ["the path of before", "", "/etc/passwd", "the host's own"] {
        let pod = PodNetNs::new();
        add(&ipamd, &pod, "c0ffee");
        let path = pod.end();
        let netns = match given {
            "the path of before" => path,
            "the host's own" => "/proc/self/ns/net".to_owned(),
            other => other.to_owned(),
        };
        Call::new("DEL", &ipamd, &netns, "c0ffee")
            .run()
            .assert_silent_success();
        assert!(ipamd.state().held.is_empty(), "{given}");
        assert_host_is_clean(given);
    }
}

fn late() {
    let ipamd = FakeIpamd::start();
    let (old, new) = (PodNetNs::new(), PodNetNs::new());
    let first = Call::new("ADD", &ipamd, &old.path(), "old").run().result();
    Call::new("DEL", &ipamd, &old.path(), "old")
        .run()
        .assert_silent_success();
    let second = Call::new("ADD", &ipamd, &new.path(), "new").run().result();
    assert_eq!(
        first["ips"], second["ips"],
        "the address went on to the next pod"
    );
    let links = host_links();
    let late = Call::new("DEL", &ipamd, "", "old").field("prevResult", first);
    late.run().assert_silent_success();
    assert_eq!(host_links(), links);
    assert_eq!(ipamd.state().held.keys().collect::<Vec<_>>(), ["new/eth0"]);
    Call::new("DEL", &ipamd, &new.path(), "new")
        .run()
        .assert_silent_success();
}

fn only_its_key() {
    let ipamd = FakeIpamd::start();
    let pod = PodNetNs::new();
    add(&ipamd, &pod, "c0ffee");
    let call = Call::new("DEL", &ipamd, &pod.path(), "c0ffee").without("CNI_NETNS");
    let call = call
        .with("CNI_ARGS", "malformed")
        .field("prevResult", json!("nonsense"));
    call.run().assert_silent_success();
    assert!(ipamd.state().held.is_empty());

    // A field that fails the ADD must not keep the sandbox from being deleted. Its socket is then the
    // default one, where nobody listens in here.
    let call = Call::new("DEL", &ipamd, &pod.path(), "c0ffee").field("mtu", json!("big"));
    call.run().assert_silent_success();
    std::fs::remove_dir_all("/run/weir").unwrap();
}

fn assert_one_release(ipamd: &FakeIpamd) {
    let spool = ipamd.spool();
    assert_eq!(spool.len(), 1, "{spool:?}");
    let (name, release) = &spool[0];
    // printf c0ffee/eth0 | sha256sum | cut -c1-16
    assert_eq!(name, "6ad2516ced2a6b10.json");
    assert_eq!(
        (&release["container_id"], &release["ifname"]),
        (&json!("c0ffee"), &json!("eth0"))
    );
    assert!(release["at"].is_u64());
}

/// amazon-vpc-cni-k8s#2350, #2487: an address that was released while the daemon was away was lost to the node.
fn ipamd_absent() {
    let (ipamd, absent) = (FakeIpamd::start(), FakeIpamd::absent());
    let pod = PodNetNs::new();
    add(&ipamd, &pod, "c0ffee");
    for _ in 0..2 {
        Call::new("DEL", &absent, &pod.path(), "c0ffee")
            .run()
            .assert_silent_success();
        assert_host_is_clean("after the DEL");
        assert_one_release(&absent);
    }
}

fn ipamd_refuses() {
    let ipamd = FakeIpamd::start();
    let pod = PodNetNs::new();
    add(&ipamd, &pod, "c0ffee");
    ipamd.state().on_del = Mood::Refusing(tonic::Status::unavailable("shutting down"));
    Call::new("DEL", &ipamd, &pod.path(), "c0ffee")
        .run()
        .assert_silent_success();
    assert_host_is_clean("after the DEL");
    assert_one_release(&ipamd);
}

fn ipamd_hangs() {
    let ipamd = FakeIpamd::start();
    let pod = PodNetNs::new();
    add(&ipamd, &pod, "c0ffee");
    ipamd.state().on_del = Mood::Hanging;
    let outcome = Call::new("DEL", &ipamd, &pod.path(), "c0ffee").run();
    outcome.assert_silent_success();
    assert!(outcome.took.as_secs() < 5, "{:?}", outcome.took);
    assert_one_release(&ipamd);
}

fn withdraws() {
    let ipamd = FakeIpamd::start();
    let del = || {
        Call::new("DEL", &ipamd, "", "c0ffee")
            .run()
            .assert_silent_success();
    };
    ipamd.state().on_del = Mood::Refusing(tonic::Status::internal("not now"));
    del();
    assert_one_release(&ipamd);
    ipamd.state().on_del = Mood::Well;
    del();
    assert_eq!(ipamd.spool(), []);
}

fn stuck() {
    let absent = FakeIpamd::absent();
    std::fs::write(
        absent.socket().with_file_name("spool"),
        "a file where the folder should be",
    )
    .unwrap();
    let outcome = Call::new("DEL", &absent, "", "c0ffee").run();
    outcome.assert_error(11, &["spool", "RELEASE_STUCK", "remedy"]);
}
