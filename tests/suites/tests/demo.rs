//! The demo, as a person runs it: what it prints for programs, and the lab that it leaves up.

#![expect(
    clippy::indexing_slicing,
    reason = "tests fail by panicking; without libtest's harness clippy does not see that these are tests"
)]

use std::collections::BTreeSet;
use std::process::{Command, ExitCode, Output};

use anyhow::Context;
use serde_json::Value;
use suites::{harness, programs};

fn main() -> ExitCode {
    let tests = vec![
        harness::test("every_check_passes_and_the_json_says_so", json),
        harness::test("a_kept_lab_is_entered_and_taken_down", kept),
    ];
    harness::run("demo", tests)
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<Output> {
    Command::new(programs::path(program)?)
        .args(arguments)
        .output()
        .with_context(|| format!("running {program}"))
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

fn json() -> anyhow::Result<()> {
    let output = run("demo", &["--output", "json", "--adds", "20"])?;
    assert!(output.status.success(), "{}", said(&output));
    let report: Value = serde_json::from_slice(&output.stdout)?;

    let pods = report["pods"].as_array().context("no pods")?;
    let on = |node| pods.iter().filter(move |pod| pod["node"] == node);
    assert_eq!((on("a").count(), on("b").count()), (12, 2), "{report:#}");
    let enis: BTreeSet<_> = on("a").map(|pod| pod["eni"].as_str()).collect();
    assert_eq!(enis.len(), 2, "twelve pods need two ENIs: {report:#}");
    for pod in pods {
        assert!(pod["name"].is_string() && pod["add_ms"].is_f64(), "{pod:#}");
        let address = pod["address"].as_str().context("no address")?;
        address.parse::<std::net::Ipv4Addr>()?;
    }

    let checks = report["checks"].as_array().context("no checks")?;
    assert!(checks.len() >= 20, "{report:#}");
    for check in checks {
        assert_eq!(check["ok"], true, "{check:#}");
        for field in ["name", "from", "to"] {
            assert!(check[field].is_string(), "{check:#}");
        }
    }
    assert_eq!(
        report["ec2_calls"]["DescribeNetworkInterfaces"], 2,
        "one for each ipamd"
    );
    assert_eq!(
        report["ec2_calls"]["CreateNetworkInterface"], 1,
        "{report:#}"
    );
    assert_eq!(report["latency"]["adds"], 20, "{report:#}");
    Ok(())
}

fn kept() -> anyhow::Result<()> {
    let output = run("demo", &["--keep", "--adds", "0"])?;
    let page = said(&output);
    assert!(output.status.success(), "{page}");
    // Whatever the checks below say, the lab must not outlive the test.
    let rules = run("vpc-lab", &["enter", "a", "--", "ip", "rule"]);
    let pod = run(
        "vpc-lab",
        &[
            "enter", "pod-a-1", "--", "ip", "-o", "-4", "addr", "show", "eth0",
        ],
    );
    let down = run("vpc-lab", &["down"])?;
    assert!(down.status.success(), "{}", said(&down));
    let left = said(&run("vpc-lab", &["list"])?);
    assert!(!left.contains("demo"), "{left}");

    assert!(page.contains("cargo xtask lab enter a"), "{page}");
    let rules = said(&rules?);
    assert!(rules.contains("512:\tfrom all lookup 5120"), "{rules}");
    let pod = said(&pod?);
    assert!(pod.contains("inet 10.0.1."), "{pod}");
    Ok(())
}
