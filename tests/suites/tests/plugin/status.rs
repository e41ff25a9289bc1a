//! STATUS: a failure empties the node, so only what keeps every pod from its address is one, and not at once.

use std::fs::{File, FileTimes};
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;
use tonic::Status;

use crate::Test;
use crate::fake_ipamd::{FakeIpamd, Mood};
use crate::runtime::{Call, Outcome};

pub(crate) const TESTS: &[Test] = &[
    ("status_of_an_ipamd_that_is_ready_says_nothing", ready),
    ("a_full_pool_is_no_failure", full),
    ("an_ipamd_that_is_away_fails_after_its_grace", away),
    ("an_ipamd_that_came_back_has_its_grace_again", back),
    (
        "an_ipamd_that_can_serve_nobody_fails_after_its_grace",
        not_ready,
    ),
    (
        "status_of_an_ipamd_that_is_silent_does_not_wait_for_long",
        silent,
    ),
    ("where_no_ipamd_has_ever_been_there_is_no_grace", never),
];

fn status(ipamd: &FakeIpamd) -> Outcome {
    let call = Call::new("STATUS", ipamd, "", "")
        .without("CNI_CONTAINERID")
        .without("CNI_NETNS")
        .without("CNI_IFNAME");
    call.field("cniVersion", json!("1.1.0")).run()
}

/// As if the first failure had been so long ago.
fn pass(ipamd: &FakeIpamd, seconds: u64) {
    let since = File::options()
        .write(true)
        .open(ipamd.socket().with_file_name("not-ready-since"))
        .unwrap();
    let then = SystemTime::now() - Duration::from_secs(seconds);
    since
        .set_times(FileTimes::new().set_modified(then))
        .unwrap();
}

fn ready() {
    let ipamd = FakeIpamd::start();
    status(&ipamd).assert_silent_success();
    assert_eq!(ipamd.state().calls, ["Status"]);
}

fn full() {
    let ipamd = FakeIpamd::start();
    for id in [
        "POOL_EXHAUSTED",
        "SUBNET_EXHAUSTED",
        "EC2_REFUSED",
        "EC2_THROTTLED",
        "EC2_UNAVAILABLE",
        "POOL_FROZEN",
        "ENI_FAILED",
    ] {
        ipamd.state().not_ready = Some(id);
        status(&ipamd).assert_silent_success();
        let file = ipamd.socket().with_file_name("not-ready-since");
        assert!(!file.exists(), "{id} counts against the node");
    }
}

fn away() {
    let ipamd = FakeIpamd::absent();
    status(&ipamd).assert_silent_success();
    pass(&ipamd, 50);
    status(&ipamd).assert_silent_success();
    pass(&ipamd, 61);
    let socket = ipamd.socket().display().to_string();
    status(&ipamd).assert_error(50, &["IPAMD_UNREACHABLE", &socket, "remedy"]);
}

fn back() {
    let ipamd = FakeIpamd::start();
    ipamd.state().not_ready = Some("STARTING");
    status(&ipamd).assert_silent_success();
    pass(&ipamd, 61);
    status(&ipamd).assert_error(50, &["STARTING"]);
    ipamd.state().not_ready = None;
    status(&ipamd).assert_silent_success();
    ipamd.state().not_ready = Some("STARTING");
    status(&ipamd).assert_silent_success();
}

fn not_ready() {
    let ipamd = FakeIpamd::start();
    for id in ["STARTING", "BOOKS_FAILED", "SHUTTING_DOWN"] {
        ipamd.state().not_ready = Some(id);
        status(&ipamd).assert_silent_success();
        pass(&ipamd, 61);
        status(&ipamd).assert_error(50, &[id, "a sentence about"]);
        ipamd.state().not_ready = None;
        status(&ipamd).assert_silent_success();
    }
}

fn silent() {
    let ipamd = FakeIpamd::start();
    for mood in [Mood::Hanging, Mood::Refusing(Status::internal("broken"))] {
        ipamd.state().on_status = mood;
        let began = Instant::now();
        status(&ipamd).assert_silent_success();
        // containerd asks every 5 s.
        assert!(began.elapsed() < Duration::from_secs(5));
    }
    pass(&ipamd, 61);
    status(&ipamd).assert_error(50, &["broken"]);
}

/// amazon-vpc-cni-k8s#2808, cri-o/cri-o#8018: the conflist was there and the daemon was not, and pods were sent to the node.
fn never() {
    let ipamd = FakeIpamd::absent();
    std::fs::remove_dir(ipamd.socket().parent().unwrap()).unwrap();
    status(&ipamd).assert_error(50, &["IPAMD_UNREACHABLE"]);
    std::fs::create_dir(ipamd.socket().parent().unwrap()).unwrap();
}
