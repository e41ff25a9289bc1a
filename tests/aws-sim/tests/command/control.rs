//! The control port: what it shows, what it changes, and what it says when it is asked wrongly.

use std::time::{Duration, Instant};

use crate::process::{PATIENCE, Served};

#[test]
fn it_explains_itself_with_lines_that_work_here() {
    let served = Served::start("explains", &[]);
    let (status, help) = served.control("GET", "/", "");
    assert_eq!(status, 200);
    assert!(help.contains("curl http://here/world"), "{help}");
    for endpoint in [
        "/calls",
        "/counts",
        "/faults",
        "/imds-faults",
        "/deny",
        "/events",
        "/config",
        "/time",
        "/reset",
    ] {
        assert!(
            help.contains(&format!("http://here{endpoint}")),
            "{endpoint} is not explained"
        );
    }
}

#[test]
fn faults_begin_are_shown_and_end() {
    let served = Served::start("faults", &[]);
    let describe = || served.ec2("Action=DescribeSubnets").0;
    assert_eq!(describe(), 200);
    let faults = r#"[{"action": "DescribeSub*", "when": {"first": 2}, "effect": {"error":
        {"code": "InternalError", "message": "of $subnet-a", "status": 500}}}]"#;
    assert_eq!(served.done("POST", "/faults", faults)["added"], 1);
    let (_, body) = served.ec2("Action=DescribeSubnets");
    assert!(
        body.contains(&format!("of {}", served.id("subnets", "subnet-a"))),
        "{body}"
    );
    let world = served.done("GET", "/world?format=json", "");
    assert_eq!(world["faults"][0]["met"], 1, "{world}");
    assert!(
        served
            .control("GET", "/world", "")
            .1
            .contains("InternalError")
    );
    served.done("DELETE", "/faults", "");
    assert_eq!(describe(), 200);
}

#[test]
fn actions_are_denied_and_allowed_again() {
    let served = Served::start("deny", &[]);
    served.done("POST", "/deny", r#"{"action": "DescribeVpcs"}"#);
    assert_eq!(served.ec2("Action=DescribeVpcs").0, 403);
    served.done("DELETE", "/deny?action=DescribeVpcs", "");
    assert_eq!(served.ec2("Action=DescribeVpcs").0, 200);
}

#[test]
fn metadata_goes_wrong_for_the_instance_that_is_named() {
    let served = Served::start("imds", &["--instances", "2"]);
    served.done(
        "POST",
        "/imds-faults",
        r#"{"instance": "node-2", "effect": {"status": 503}}"#,
    );
    for (node, expected) in [("node-1", "200"), ("node-2", "503")] {
        let imds = served.said["imds"][node]["endpoint"].as_str().unwrap();
        let mut stream = std::net::TcpStream::connect(imds.trim_start_matches("http://")).unwrap();
        let request = "PUT /latest/api/token HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\n\
                       X-aws-ec2-metadata-token-ttl-seconds: 60\r\nConnection: close\r\n\r\n";
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        let mut reply = String::new();
        std::io::Read::read_to_string(&mut stream, &mut reply).unwrap();
        assert!(
            reply.starts_with(&format!("HTTP/1.1 {expected}")),
            "{node}: {reply}"
        );
    }
}

#[test]
fn an_instance_that_is_launched_later_has_metadata_too() {
    let served = Served::start("launched", &[]);
    let subnet = served.id("subnets", "subnet-a");
    let (status, launched) = served.ec2(&format!(
        "Action=RunInstances&ImageId=ami-0c2b8ca1dad447f8a&InstanceType=m5.large&MinCount=1&MaxCount=1&SubnetId={subnet}"
    ));
    assert_eq!(status, 200, "{launched}");
    let id = launched
        .split("<instanceId>")
        .nth(1)
        .unwrap()
        .split('<')
        .next()
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let endpoints = served.done("GET", "/imds", "");
        if let Some(endpoint) = endpoints[id].as_str() {
            assert!(endpoint.starts_with("http://127.0.0.1:"), "{endpoint}");
            return;
        }
        assert!(Instant::now() < deadline, "{endpoints}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_others_do_happens_now_or_when_it_is_planned() {
    let served = Served::start("events", &[]);
    let free = || {
        let world = served.done("GET", "/world?format=json", "");
        let subnets = world["vpcs"][0]["subnets"].as_array().unwrap().clone();
        let id = served.id("subnets", "subnet-a");
        subnets
            .iter()
            .find(|subnet| subnet["id"] == id.as_str())
            .unwrap()["free"]
            .as_u64()
            .unwrap()
    };
    served.done(
        "POST",
        "/events",
        r#"{"fill-subnet": {"subnet": "$subnet-a", "leaving": 3}}"#,
    );
    assert_eq!(free(), 3);
    let planned = r#"{"when": {"at": "1h"}, "event": {"empty-subnet": {"subnet": "subnet-a"}}}"#;
    assert_eq!(
        served.done("POST", "/events", planned)["happened"][0],
        "planned"
    );
    assert_eq!(free(), 3);
    served.done("POST", "/time", r#"{"skip": "2h"}"#);
    assert!(free() > 3);
    let (status, said) = served.control("POST", "/events", r#"{"delete-eni": {"eni": "nobody"}}"#);
    assert_eq!(status, 409, "{said}");
    assert!(said.contains("nobody"), "{said}");
}

#[test]
fn time_jumps_ahead_and_states_fall_due() {
    let served = Served::start("time", &["--attach-ms", "600000"]);
    let (subnet, node) = (
        served.id("subnets", "subnet-a"),
        served.id("instances", "node-1"),
    );
    let (_, made) = served.ec2(&format!("Action=CreateNetworkInterface&SubnetId={subnet}"));
    let eni = made
        .split("<networkInterfaceId>")
        .nth(1)
        .unwrap()
        .split('<')
        .next()
        .unwrap();
    let attach = format!(
        "Action=AttachNetworkInterface&NetworkInterfaceId={eni}&InstanceId={node}&DeviceIndex=1"
    );
    let (status, body) = served.ec2(&attach);
    assert_eq!(status, 200, "{body}");
    let describe = format!("Action=DescribeNetworkInterfaces&NetworkInterfaceId.1={eni}");
    assert!(
        served
            .ec2(&describe)
            .1
            .contains("<status>attaching</status>")
    );
    let time = served.done("POST", "/time", r#"{"skip": "11m"}"#);
    assert!(time["now"].as_str().unwrap().starts_with("11m"), "{time}");
    assert!(
        served
            .ec2(&describe)
            .1
            .contains("<status>attached</status>")
    );
}

#[test]
fn a_reset_begins_anew_with_the_same_ids() {
    let served = Served::start("reset", &[]);
    let subnet = served.id("subnets", "subnet-a");
    let create = || {
        served
            .ec2(&format!("Action=CreateNetworkInterface&SubnetId={subnet}"))
            .1
    };
    let id = |body: &str| {
        body.split("<networkInterfaceId>")
            .nth(1)
            .unwrap()
            .split('<')
            .next()
            .unwrap()
            .to_owned()
    };
    let first = id(&create());
    served.done("POST", "/time", r#"{"skip": "1h"}"#);
    served.done("POST", "/faults", r#"{"effect": "throttled"}"#);
    let time = served.done("POST", "/reset", "");
    assert!(!time["now"].as_str().unwrap().contains('h'), "{time}");
    assert!(
        !served
            .ec2("Action=DescribeNetworkInterfaces")
            .1
            .contains(&first)
    );
    assert_ne!(served.ec2("Action=DescribeVpcs").0, 503);
    assert_eq!(
        served.done("GET", "/counts?format=json", "")["actions"]["CreateNetworkInterface"],
        serde_json::Value::Null
    );
    assert!(
        served.done("GET", "/world?format=json", "")["faults"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}

#[test]
fn knobs_are_turned_while_it_serves() {
    let served = Served::start("knobs", &[]);
    let config = served.done(
        "PATCH",
        "/config",
        r#"{"describe-lag": "5s", "throttling": {"custom": {"DescribeVpcs": {"capacity": 1, "refill": 0.001}}}}"#,
    );
    assert_eq!(config["describe-lag"], "5s");
    assert_eq!(served.ec2("Action=DescribeVpcs").0, 200);
    assert_eq!(served.ec2("Action=DescribeVpcs").0, 503);
    served.done("PATCH", "/config", r#"{"throttling": "off"}"#);
    assert_eq!(served.ec2("Action=DescribeVpcs").0, 200);
}

#[test]
fn calls_are_shown_by_action_and_time() {
    let served = Served::start("calls", &[]);
    served.ec2("Action=DescribeVpcs");
    served.done("POST", "/time", r#"{"skip": "1h"}"#);
    served.ec2("Action=DescribeVpcs");
    served.ec2("Action=DescribeSubnets");
    let count = |query: &str| {
        let calls = served.done("GET", &format!("/calls?format=json{query}"), "");
        calls.as_array().unwrap().len()
    };
    assert_eq!(count(""), 3);
    assert_eq!(count("&action=*Vpcs"), 2);
    assert_eq!(count("&action=*Vpcs&since=30m"), 1);
    let (_, text) = served.control("GET", "/calls?action=DescribeSubnets", "");
    assert!(text.contains("DescribeSubnets ok"), "{text}");
    assert_eq!(
        served.done("GET", "/counts?format=json", "")["outcomes"]["DescribeVpcs"]["ok"],
        2
    );
}

#[test]
fn what_is_asked_wrongly_is_answered_with_what_would_be_right() {
    let served = Served::start("wrongly", &[]);
    for (method, path, body, status, parts) in [
        ("POST", "/faults", "{", 400, ["no JSON", "reset-after"]),
        (
            "POST",
            "/faults",
            r#"{"action": "CreateEni", "effect": "throttled"}"#,
            400,
            ["no action matches", "aws-sim actions"],
        ),
        (
            "POST",
            "/faults",
            r#"{"effect": "explode"}"#,
            400,
            ["explode", "hang-before"],
        ),
        (
            "POST",
            "/faults",
            r#"{"efect": "throttled"}"#,
            400,
            ["efect", "effect"],
        ),
        (
            "POST",
            "/faults",
            r#"{"instance": "$nobody", "effect": "throttled"}"#,
            400,
            ["nothing is called $nobody", "node-1"],
        ),
        ("POST", "/time", r#"{"skip": "-1s"}"#, 400, ["-1s", "10m"]),
        (
            "PATCH",
            "/config",
            r#"{"seed": 2}"#,
            400,
            ["seed", "describe-lag"],
        ),
        ("GET", "/wrold", "", 404, ["/wrold", "GET /"]),
        ("PUT", "/faults", "", 405, ["POST and DELETE", "PUT"]),
        (
            "GET",
            "/calls?until=1m",
            "",
            400,
            ["until=1m", "since=TIME"],
        ),
        (
            "GET",
            "/calls?since=yesterday",
            "",
            400,
            ["yesterday", "1m30s"],
        ),
    ] {
        let (found, said) = served.control(method, path, body);
        assert_eq!(found, status, "{method} {path} {body}: {said}");
        let json: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert!(json["error"].is_string(), "{said}");
        for part in parts {
            assert!(
                said.contains(part),
                "{method} {path} {body}: {part:?} is not in {said}"
            );
        }
    }
    assert_eq!(served.ec2("Action=DescribeVpcs").0, 200);
}

#[test]
fn pages_in_a_browser_can_not_use_it() {
    let served = Served::start("browser", &[]);
    let request = "POST /reset HTTP/1.1\r\nHost: here\r\nOrigin: http://example.com\r\nContent-Length: 0\r\n\
                   Connection: close\r\n\r\n";
    let reply = String::from_utf8(served.raw("control", request.as_bytes(), false)).unwrap();
    assert!(reply.starts_with("HTTP/1.1 403"), "{reply}");
}
