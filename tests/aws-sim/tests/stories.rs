//! Each story of `scenarios/` goes as it says, and leaves the log beside it, the same to the byte.

#![expect(
    clippy::unwrap_used,
    reason = "a test that finds something else than it expects panics"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn stories() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut stories: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|kind| kind == "toml"))
        .collect();
    stories.sort();
    stories
}

fn replay(story: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aws-sim"));
    command
        .arg("replay")
        .args(more)
        .arg(story)
        .output()
        .unwrap()
}

#[test]
fn every_story_leaves_the_log_beside_it() {
    let mut wrong = Vec::new();
    for story in stories() {
        let output = replay(&story, &[]);
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}: {complaint}", story.display());
        let log = fs::read_to_string(story.with_extension("log")).unwrap_or_default();
        let found = String::from_utf8(output.stdout).unwrap();
        if found != log {
            let changed = log.lines().zip(found.lines()).find(|(was, is)| was != is);
            wrong.push(format!("{}: first change: {changed:?}", story.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\nwhen the new logs are right: aws-sim replay X.toml > X.log",
        wrong.join("\n")
    );
}

#[test]
fn there_is_a_story_for_each_class_of_faults() {
    let classes = [
        "errors",
        "latency",
        "hang",
        "reset-before",
        "reset-after",
        "truncated",
        "credentials",
        "throttling",
        "iam",
        "imds-frozen",
        "imds-stale",
        "imds-flapping",
        "imds-gone",
        "address-stolen",
        "eni-detached",
        "eni-deleted",
        "tags-stripped",
        "subnet-filled",
        "subnet-fragmented",
        "describe-backwards",
    ];
    let told: Vec<String> = stories()
        .iter()
        .map(|story| story.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    for class in classes {
        assert!(
            told.iter().any(|story| story == class),
            "no story for {class}"
        );
    }
    for story in stories() {
        let text = fs::read_to_string(&story).unwrap();
        assert!(
            text.contains("\n# Source: "),
            "{} names no source",
            story.display()
        );
    }
}

#[test]
fn logs_are_printed_as_json_too() {
    let story = stories()
        .into_iter()
        .find(|story| story.ends_with("imds-frozen.toml"))
        .unwrap();
    let output = replay(&story, &["--output", "json"]);
    let played: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(played["failure"], serde_json::Value::Null);
    assert_eq!(played["outcomes"]["UnassignPrivateIpAddresses"]["ok"], 1);
    let log = played["log"].as_array().unwrap();
    assert_eq!(log[0]["call"]["action"], "AssignPrivateIpAddresses");
    assert!(
        log.iter().any(|line| line["shown"][1] == "10.0.0.99"),
        "{played}"
    );
}
