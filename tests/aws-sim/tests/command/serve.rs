//! What it prints and serves, and how it ends.

use std::process::Command;
use std::time::Instant;

use rustix::process::Signal;

use crate::process::{PATIENCE, Served};

#[test]
fn it_serves_as_soon_as_it_has_said_where() {
    let began = Instant::now();
    let served = Served::start("at-once", &["--instances", "3"]);
    let (status, body) = served.ec2("Action=DescribeInstances");
    assert_eq!(status, 200, "{body}");
    assert_eq!(body.matches("<instanceId>").count(), 3);
    // A second is promised of a machine that does nothing else; under tests it may be busy.
    assert!(began.elapsed() < PATIENCE / 4, "{:?}", began.elapsed());
    assert!(body.contains(&served.id("instances", "node-2")), "{body}");
}

#[test]
fn it_ends_by_itself_on_either_signal_also_while_a_request_hangs() {
    for signal in [Signal::INT, Signal::TERM] {
        let served = Served::start("signals", &[]);
        served.done(
            "POST",
            "/faults",
            r#"{"action": "DescribeVpcs", "effect": "hang-before"}"#,
        );
        let address = served.said["endpoint"]
            .as_str()
            .unwrap()
            .trim_start_matches("http://");
        let mut hung = std::net::TcpStream::connect(address).unwrap();
        let request = "GET /?Action=DescribeVpcs&Version=2016-11-15 HTTP/1.1\r\nHost: here\r\n\r\n";
        std::io::Write::write_all(&mut hung, request.as_bytes()).unwrap();
        let status = served.end(signal);
        assert!(status.success(), "{signal:?}: {status}");
    }
}

#[test]
fn people_get_lines_to_paste() {
    let mut process = Command::new(env!("CARGO_BIN_EXE_aws-sim"))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines =
        std::io::BufRead::lines(std::io::BufReader::new(process.stdout.take().unwrap()));
    let mut page = String::new();
    while !page.contains("AWS_SIM_CONTROL") {
        page.push_str(&(lines.next().unwrap().unwrap() + "\n"));
    }
    process.kill().unwrap();
    process.wait().unwrap();
    for line in [
        "# instance node-1 i-0",
        "#   AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:",
        "export AWS_ENDPOINT_URL_EC2=http://127.0.0.1:",
        "export AWS_REGION=us-east-1",
        "export AWS_ACCESS_KEY_ID=",
    ] {
        assert!(
            page.lines().any(|found| found.starts_with(line)),
            "{line} is not in {page}"
        );
    }
}

#[test]
fn it_listens_on_loopback_unless_told_otherwise() {
    for flag in ["--listen", "--control"] {
        let output = Command::new(env!("CARGO_BIN_EXE_aws-sim"))
            .args([flag, "192.0.2.1:0"])
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success());
        assert!(
            said.contains("192.0.2.1") && said.contains("--allow-remote"),
            "{said}"
        );
    }
}

#[test]
fn each_request_is_a_line_on_standard_error() {
    let served = Served::start("each-request", &["--log"]);
    let subnet = served.id("subnets", "subnet-a");
    served.ec2(&format!("Action=CreateNetworkInterface&SubnetId={subnet}"));
    served.ec2("Action=DeleteNetworkInterface&NetworkInterfaceId=eni-0123456789abcdef0");
    let deadline = Instant::now() + PATIENCE;
    while served.log().lines().count() < 2 {
        assert!(Instant::now() < deadline, "{}", served.log());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let log = served.log();
    let lines: Vec<&str> = log.lines().collect();
    assert!(
        lines[0].contains("CreateNetworkInterface ok") && lines[0].contains(&subnet),
        "{log}"
    );
    assert!(lines[0].contains("tokens=99.0"), "{log}");
    assert!(
        lines[1].contains("InvalidNetworkInterfaceID.NotFound"),
        "{log}"
    );
}

#[test]
fn help_teaches() {
    let help = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_aws-sim"))
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let serving = help(&["--help"]);
    for taught in [
        "boto3",
        "aws ec2",
        "Terraform",
        "curl",
        "/_sim/world",
        "--world",
        "replay",
    ] {
        assert!(serving.contains(taught), "--help does not mention {taught}");
    }
    assert!(help(&["replay", "--help"]).contains("[[step]]"));
    assert!(
        help(&["actions"])
            .lines()
            .any(|action| action == "AssignPrivateIpAddresses")
    );
}
