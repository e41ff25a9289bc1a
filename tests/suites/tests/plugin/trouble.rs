//! ADD when something is wrong: the reason reaches the runtime, and nothing is left.

use std::collections::HashMap;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::Test;
use crate::fake_ipamd::{FakeIpamd, Mood};
use crate::runtime::{Call, Outcome, PodNetNs, assert_host_is_clean, host_links, ip};

pub(crate) const TESTS: &[Test] = &[
    ("ipamd_absent_is_code_11_and_what_to_do", absent),
    ("an_add_waits_for_an_ipamd_that_is_being_replaced", replaced),
    ("an_add_is_asked_again_where_ipamd_dies_over_it", died),
    ("an_add_is_asked_again_where_ipamd_is_going", going),
    ("a_socket_that_nobody_listens_on_is_code_11", nobody_listens),
    (
        "a_socket_that_may_not_be_opened_is_code_11_with_its_own_remedy",
        forbidden,
    ),
    ("a_refusal_reaches_the_runtime_in_full", refused),
    ("a_refusal_that_passes_is_code_11", refused_for_now),
    (
        "ipamd_silent_is_code_11_at_the_deadline_and_the_address_goes_back",
        silent,
    ),
    (
        "the_link_is_made_while_ipamd_is_asked_and_goes_with_the_question",
        made_meanwhile,
    ),
    ("something_else_on_the_socket_ends_at_the_deadline", no_grpc),
    (
        "an_answer_that_makes_no_sense_gives_the_address_back",
        nonsense,
    ),
    (
        "a_kernel_failure_half_way_gives_the_address_back",
        kernel_failure,
    ),
    (
        "a_kernel_failure_while_ipamd_goes_leaves_a_release",
        kernel_failure_and_ipamd_gone,
    ),
    (
        "an_interface_of_someone_else_is_an_error_and_takes_no_address",
        foreign_interface,
    ),
    (
        "an_interface_that_differs_from_what_we_made_is_an_error_and_keeps_its_address",
        altered_interface,
    ),
    (
        "an_add_takes_the_place_of_what_a_dead_namespace_left",
        stale,
    ),
];

fn add(ipamd: &FakeIpamd, pod: &PodNetNs) -> Call {
    Call::new("ADD", ipamd, &pod.path(), "c0ffee")
}

/// Of one that waits no longer than it must.
fn impatient(ipamd: &FakeIpamd, pod: &PodNetNs) -> Call {
    add(ipamd, pod).field("addTimeoutSeconds", json!(1))
}

/// An ADD of a pod's, which has begun to wait for another ipamd when `meanwhile` is called.
fn add_meanwhile(
    ipamd: &mut FakeIpamd,
    pod: &PodNetNs,
    has_begun: impl Fn(&FakeIpamd) -> bool,
    meanwhile: impl FnOnce(&mut FakeIpamd),
) -> Outcome {
    let call = add(ipamd, pod)
        .field("logFile", json!(ipamd.log()))
        .field("logLevel", json!("debug"));
    std::thread::scope(|scope| {
        let outcome = scope.spawn(|| call.run());
        let deadline = Instant::now() + Duration::from_secs(15);
        while !has_begun(ipamd) {
            assert!(Instant::now() < deadline, "it never began");
            std::thread::sleep(Duration::from_millis(5));
        }
        meanwhile(ipamd);
        outcome.join().unwrap()
    })
}

fn waits(ipamd: &FakeIpamd) -> bool {
    let log = std::fs::read_to_string(ipamd.log()).unwrap_or_default();
    log.contains("waiting for ipamd")
}

fn assert_one_address(ipamd: &FakeIpamd, pod: &PodNetNs, outcome: &Outcome) {
    assert_eq!(outcome.result()["ips"][0]["address"], "10.0.1.17/32");
    assert_eq!(ipamd.state().held.len(), 1);
    assert_eq!(ipamd.spool(), [], "nothing is released");
    let del = Call::new("DEL", ipamd, &pod.path(), "c0ffee");
    del.run().assert_silent_success();
}

fn replaced() {
    let mut ipamd = FakeIpamd::absent();
    let pod = PodNetNs::new();
    let outcome = add_meanwhile(&mut ipamd, &pod, waits, FakeIpamd::listen);
    assert_one_address(&ipamd, &pod, &outcome);
}

fn died() {
    let mut ipamd = FakeIpamd::start();
    let pod = PodNetNs::new();
    ipamd.state().on_add = Mood::Hanging;
    let asked = |ipamd: &FakeIpamd| !ipamd.state().calls.is_empty();
    let outcome = add_meanwhile(&mut ipamd, &pod, asked, |ipamd| {
        ipamd.state().on_add = Mood::Well;
        ipamd.die();
        std::fs::remove_file(ipamd.socket()).unwrap();
        ipamd.listen();
    });
    assert_one_address(&ipamd, &pod, &outcome);
}

fn going() {
    let mut ipamd = FakeIpamd::start();
    let pod = PodNetNs::new();
    ipamd.state().on_add = refusal("SHUTTING_DOWN", "true");
    let outcome = add_meanwhile(&mut ipamd, &pod, waits, |ipamd| {
        ipamd.state().on_add = Mood::Well;
    });
    assert_one_address(&ipamd, &pod, &outcome);
}

fn assert_nothing_left(ipamd: &FakeIpamd, pod: &PodNetNs) {
    assert_host_is_clean("after the failed ADD");
    assert_eq!(
        pod.ip(&["link"]).as_array().unwrap().len(),
        1,
        "only lo in the pod"
    );
    assert!(ipamd.state().held.is_empty(), "{:?}", ipamd.state().held);
}

fn absent() {
    let ipamd = FakeIpamd::absent();
    let pod = PodNetNs::new();
    let socket = ipamd.socket().display().to_string();
    let outcome = impatient(&ipamd, &pod).run();
    // Not at once: it may only be replaced. Half of the pauses of 50, 100, 200 and 400 ms is chance.
    assert!(outcome.took >= Duration::from_millis(350), "{outcome:?}");
    outcome.assert_error(
        11,
        &[
            &socket,
            "No such file or directory (os error 2)",
            "IPAMD_UNREACHABLE",
            "remedy",
        ],
    );
    assert_nothing_left(&ipamd, &pod);
    assert_eq!(
        ipamd.spool(),
        [],
        "nothing was given, so nothing is released"
    );
}

fn nobody_listens() {
    let ipamd = FakeIpamd::absent();
    let pod = PodNetNs::new();
    drop(UnixListener::bind(ipamd.socket()).unwrap());
    let outcome = impatient(&ipamd, &pod).run();
    outcome.assert_error(
        11,
        &["Connection refused (os error 111)", "IPAMD_UNREACHABLE"],
    );
    assert_nothing_left(&ipamd, &pod);
}

fn forbidden() {
    let ipamd = FakeIpamd::start();
    let pod = PodNetNs::new();
    // Root may open everything, so the plugin is run without the capability that lets it.
    let program = Command::new("setpriv").arg("--version").output();
    if !program.is_ok_and(|output| output.status.success()) {
        println!(
            "SKIPPED plugin::a_socket_that_may_not_be_opened_is_code_11_with_its_own_remedy: setpriv (util-linux) is not here"
        );
        return;
    }
    std::fs::set_permissions(
        ipamd.socket(),
        std::os::unix::fs::PermissionsExt::from_mode(0o000),
    )
    .unwrap();
    let outcome = add(&ipamd, &pod)
        .through(&[
            "setpriv",
            "--bounding-set",
            "-dac_override",
            "--inh-caps",
            "-dac_override",
        ])
        .run();
    outcome.assert_error(11, &["Permission denied (os error 13)", "as root"]);
    assert_nothing_left(&ipamd, &pod);
}

fn refusal(reason: &str, retryable: &str) -> Mood {
    let metadata = [
        ("next", "ipamd asks EC2 again in 30 s"),
        (
            "remedy",
            "allow ec2:CreateNetworkInterface in the node's role",
        ),
        ("retryable", retryable),
    ];
    let metadata: HashMap<_, _> = metadata
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
    Mood::Refusing(Status::with_error_details(
        Code::FailedPrecondition,
        "CreateNetworkInterface: UnauthorizedOperation: You are not authorized (request id 1-2-3)",
        ErrorDetails::with_error_info(reason, proto::ERROR_DOMAIN, metadata),
    ))
}

fn refused() {
    let ipamd = FakeIpamd::start();
    let pod = PodNetNs::new();
    ipamd.state().on_add = refusal("EC2_REFUSED", "false");
    let error = add(&ipamd, &pod).run().error();
    assert_eq!(
        error,
        json!({
            "cniVersion": "1.0.0",
            "code": 102,
            "msg": "CreateNetworkInterface: UnauthorizedOperation: You are not authorized (request id 1-2-3)",
            "details": "reason: EC2_REFUSED; next: ipamd asks EC2 again in 30 s; \
                        remedy: allow ec2:CreateNetworkInterface in the node's role",
        })
    );
    assert_nothing_left(&ipamd, &pod);
    assert_eq!(
        ipamd.state().calls,
        ["Add c0ffee/eth0"],
        "a refusal gives nothing to give back"
    );
}

fn refused_for_now() {
    let ipamd = FakeIpamd::start();
    let pod = PodNetNs::new();
    ipamd.state().on_add = refusal("EC2_THROTTLED", "true");
    add(&ipamd, &pod)
        .run()
        .assert_error(11, &["reason: EC2_THROTTLED", "next: ", "remedy: "]);
    assert_nothing_left(&ipamd, &pod);
}

fn silent() {
    let ipamd = FakeIpamd::start();
    let pod = PodNetNs::new();
    ipamd.state().on_add = Mood::Hanging;
    let outcome = add(&ipamd, &pod).field("addTimeoutSeconds", json!(1)).run();
    outcome.assert_error(11, &["did not answer", "IPAMD_SILENT"]);
    assert!(
        (1..3).contains(&outcome.took.as_secs()),
        "{:?}",
        outcome.took
    );
    assert_nothing_left(&ipamd, &pod);
    // It may have given an address in its last moment.
    assert_eq!(ipamd.state().calls, ["Add c0ffee/eth0", "Del c0ffee/eth0"]);
}

fn made_meanwhile() {
    let ipamd = FakeIpamd::start();
    let pod = PodNetNs::new();
    ipamd.state().on_add = Mood::Hanging;
    let call = add(&ipamd, &pod).field("addTimeoutSeconds", json!(2));
    std::thread::scope(|scope| {
        let outcome = scope.spawn(|| call.run());
        let deadline = Instant::now() + Duration::from_secs(15);
        let eth0 = loop {
            let links = pod.ip(&["addr", "show", "up"]);
            let mut links = links.as_array().unwrap().iter();
            if let Some(eth0) = links.find(|link| link["ifname"] == "eth0") {
                break eth0.clone();
            }
            assert!(Instant::now() < deadline, "there is no link that is up");
            std::thread::sleep(Duration::from_millis(5));
        };
        // Nothing can use it yet.
        assert_eq!(eth0["addr_info"], json!([]), "{eth0}");
        assert_eq!(pod.ip(&["route"]), json!([]));
        outcome
            .join()
            .unwrap()
            .assert_error(11, &["did not answer"]);
    });
    assert_nothing_left(&ipamd, &pod);
}

fn no_grpc() {
    let ipamd = FakeIpamd::absent();
    let pod = PodNetNs::new();
    let _listener = UnixListener::bind(ipamd.socket()).unwrap();
    let outcome = add(&ipamd, &pod).field("addTimeoutSeconds", json!(1)).run();
    outcome.assert_error(11, &[]);
    assert!(outcome.took.as_secs() < 10, "{:?}", outcome.took);
    assert_nothing_left(&ipamd, &pod);
}

fn nonsense() {
    let ipamd = FakeIpamd::start();
    let pod = PodNetNs::new();
    ipamd.state().spoil = Some(|answer| answer.pods_table = 7);
    add(&ipamd, &pod)
        .run()
        .assert_error(120, &["table 7", "same release"]);
    assert_nothing_left(&ipamd, &pod);
}

/// A namespace in which the pod's default route can't be made: the link is there by then.
fn pod_with_a_default_route() -> PodNetNs {
    let pod = PodNetNs::new();
    pod.ip(&["link", "set", "lo", "up"]);
    pod.ip(&["route", "add", "default", "dev", "lo"]);
    pod
}

/// amazon-vpc-cni-k8s#127: an ADD that failed half-way lost its address to the node.
fn kernel_failure() {
    let ipamd = FakeIpamd::start();
    let pod = pod_with_a_default_route();
    add(&ipamd, &pod)
        .run()
        .assert_error(122, &["File exists", "KERNEL"]);
    assert_nothing_left(&ipamd, &pod);
    assert_eq!(ipamd.state().calls, ["Add c0ffee/eth0", "Del c0ffee/eth0"]);

    pod.ip(&["route", "del", "default"]);
    add(&ipamd, &pod).run().result();
    Call::new("DEL", &ipamd, &pod.path(), "c0ffee")
        .run()
        .assert_silent_success();
}

fn kernel_failure_and_ipamd_gone() {
    let ipamd = FakeIpamd::start();
    let pod = pod_with_a_default_route();
    ipamd.state().on_del = Mood::Refusing(Status::unavailable("shutting down"));
    add(&ipamd, &pod).run().assert_error(122, &["File exists"]);
    assert_host_is_clean("after the failed ADD");
    assert_eq!(ipamd.spool().len(), 1);
}

fn foreign_interface() {
    let ipamd = FakeIpamd::start();
    let pod = PodNetNs::new();
    pod.ip(&["link", "add", "eth0", "type", "bridge"]);
    let before = pod.ip(&["link"]);
    add(&ipamd, &pod)
        .run()
        .assert_error(121, &["eth0", "INTERFACE_EXISTS", "remedy"]);
    assert_eq!(pod.ip(&["link"]), before);
    assert_eq!(ipamd.state().calls, ["Check c0ffee/eth0"]);
    assert!(ipamd.state().held.is_empty());
}

fn altered_interface() {
    let ipamd = FakeIpamd::start();
    let pod = PodNetNs::new();
    let result = add(&ipamd, &pod).run().result();
    pod.ip(&["addr", "del", "10.0.1.17/32", "dev", "eth0"]);
    let (links, in_pod) = (host_links(), pod.ip(&["addr"]));
    add(&ipamd, &pod)
        .run()
        .assert_error(121, &["eth0", "INTERFACE_EXISTS"]);
    assert_eq!(
        (host_links(), pod.ip(&["addr"])),
        (links, in_pod),
        "nothing was changed"
    );
    assert_eq!(
        ipamd.state().held["c0ffee/eth0"],
        "10.0.1.17",
        "it keeps what it held"
    );
    assert_eq!(result["ips"][0]["address"], "10.0.1.17/32");
    Call::new("DEL", &ipamd, &pod.path(), "c0ffee")
        .run()
        .assert_silent_success();
}

fn stale() {
    let ipamd = FakeIpamd::start();
    let (old, new) = (PodNetNs::new(), PodNetNs::new());
    let first = add(&ipamd, &old).run().result();
    // The same sandbox, with a namespace made anew while the old one lives on.
    let second = add(&ipamd, &new).run().result();
    assert_eq!(first["ips"], second["ips"]);
    assert_eq!(
        old.ip(&["link"]).as_array().unwrap().len(),
        1,
        "the old end is gone"
    );
    let host_veth = second["interfaces"][0]["name"].as_str().unwrap();
    assert_eq!(
        ip(&["link", "show", "dev", host_veth])[0]["ifname"],
        host_veth
    );
    assert_eq!(
        new.ip(&["link", "show", "dev", "eth0"])[0]["ifname"],
        "eth0"
    );
    Call::new("DEL", &ipamd, &new.path(), "c0ffee")
        .run()
        .assert_silent_success();
}
