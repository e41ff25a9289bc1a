use std::collections::HashMap;
use std::io;

use serde_json::Value;

use super::*;
use crate::result::Interface;

/// Records what reached it.
#[derive(Default)]
struct Recorder {
    calls: Vec<String>,
    fail: bool,
}

impl Recorder {
    fn answer<T>(&mut self, call: String, value: T) -> Result<T, Error> {
        self.calls.push(call);
        if self.fail {
            Err(Error::new(Code::TryAgainLater, "no", "why"))
        } else {
            Ok(value)
        }
    }
}

impl Plugin for Recorder {
    fn about(&self) -> String {
        "a recorder".to_owned()
    }

    fn add(&mut self, request: &AddRequest) -> Result<AddResult, Error> {
        let AddRequest {
            attachment,
            netns,
            args,
            config,
        } = request;
        let pod = args.pod_name.as_deref().unwrap_or("-");
        let made = Interface {
            name: attachment.ifname().to_owned(),
            mac: "02:00:00:00:00:02".to_owned(),
            mtu: 1500,
            sandbox: Some(netns.clone()),
        };
        let result = AddResult {
            interfaces: vec![made],
            ..AddResult::default()
        };
        let call = format!(
            "ADD {} {} {netns} {pod} {} {}",
            attachment.container_id(),
            attachment.ifname(),
            config.name(),
            config.version()
        );
        self.answer(call, result)
    }

    fn del(&mut self, request: &DelRequest) -> Result<(), Error> {
        let netns = request.netns.as_deref().unwrap_or("-");
        self.answer(
            format!("DEL {} {netns}", request.attachment.container_id()),
            (),
        )
    }

    fn check(&mut self, request: &CheckRequest) -> Result<(), Error> {
        let links = request.result.links.iter().map(|link| link.name.as_str());
        let links: Vec<_> = links.collect();
        let call = format!("CHECK {} {}", request.attachment, links.join(","));
        self.answer(call, ())
    }

    fn status(&mut self, request: &StatusRequest) -> Result<(), Error> {
        self.answer(format!("STATUS {}", request.config.name()), ())
    }

    fn gc(&mut self, request: &GcRequest) -> Result<(), Error> {
        let valid = request.valid.as_ref().map(|valid| {
            let valid: Vec<_> = valid.iter().map(ToString::to_string).collect();
            valid.join(",")
        });
        let call = format!("GC {} {valid:?}", request.config.name());
        self.answer(call, ())
    }
}

struct Ran {
    status: u8,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn error(&self) -> Value {
        assert_eq!(self.status, 1, "{}", self.stdout);
        serde_json::from_str(&self.stdout).expect("an error object on stdout")
    }
}

const CONFIG: &str = r#"{"cniVersion": "1.0.0", "name": "aws-cni", "type": "t"}"#;

const FULL: [(&str, &str); 6] = [
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "c0ffee"),
    ("CNI_NETNS", "/var/run/netns/x"),
    ("CNI_IFNAME", "eth0"),
    ("CNI_PATH", "/opt/cni/bin"),
    ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=p;MORE=1"),
];

type Changes<'a> = &'a [(&'a str, &'a str)];

/// Runs with the full environment of an ADD, changed by `changes` (an empty value takes a variable away).
fn run(recorder: &mut Recorder, changes: Changes<'_>, stdin: &str) -> Ran {
    let mut map: HashMap<&str, &str> = FULL.into_iter().collect();
    map.extend(changes.iter().copied());
    map.retain(|_, value| !value.is_empty());
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let status = dispatch(
        recorder,
        Streams {
            env: &|name| map.get(name).map(OsString::from),
            stdin: &mut stdin.as_bytes(),
            stdout: &mut stdout,
            stderr: &mut stderr,
        },
    );
    Ran {
        status,
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

#[test]
fn an_add_reaches_the_plugin_and_its_result_is_all_that_is_printed() {
    let mut recorder = Recorder::default();
    let ran = run(&mut recorder, &[], CONFIG);
    assert_eq!(ran.status, 0);
    assert_eq!(
        recorder.calls,
        ["ADD c0ffee eth0 /var/run/netns/x p aws-cni 1.0.0"]
    );
    let result: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(result["interfaces"][0]["sandbox"], "/var/run/netns/x");
    assert_eq!(result["cniVersion"], "1.0.0");
    assert_eq!(ran.stderr, "");
}

#[test]
fn a_del_prints_nothing_and_needs_neither_netns_nor_args() {
    let mut recorder = Recorder::default();
    let changes = [
        ("CNI_COMMAND", "DEL"),
        ("CNI_NETNS", ""),
        ("CNI_ARGS", "malformed"),
    ];
    let stdin = r#"{"cniVersion": "1.0.0", "name": "n", "prevResult": "nonsense"}"#;
    let ran = run(&mut recorder, &changes, stdin);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, ""));
    assert_eq!(recorder.calls, ["DEL c0ffee -"]);
}

#[test]
fn what_is_refused_never_reaches_the_plugin() {
    let cases: [(Changes<'_>, &str, u64); 14] = [
        (&[("CNI_CONTAINERID", "")], CONFIG, 4),
        (&[("CNI_NETNS", "")], CONFIG, 4),
        (&[("CNI_IFNAME", "")], CONFIG, 4),
        (&[("CNI_PATH", "")], CONFIG, 4),
        (&[("CNI_CONTAINERID", "../x")], CONFIG, 4),
        (&[("CNI_IFNAME", "sixteen-bytes-12")], CONFIG, 4),
        (&[("CNI_ARGS", "K=V")], CONFIG, 4),
        (&[("CNI_COMMAND", "add")], CONFIG, 4),
        (
            &[("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "a b")],
            CONFIG,
            4,
        ),
        (&[], "{", 6),
        (&[], r#"{"cniVersion": "1.0.0"}"#, 7),
        (&[], r#"{"cniVersion": "0.2.0", "name": "n"}"#, 1),
        (&[], r#"{"name": "n"}"#, 1),
        (
            &[],
            r#"{"cniVersion": "1.0.0", "name": "n", "prevResult": {"ips": 1}}"#,
            6,
        ),
    ];
    for (changes, stdin, code) in cases {
        let mut recorder = Recorder::default();
        let ran = run(&mut recorder, changes, stdin);
        assert_eq!(ran.error()["code"], code, "{changes:?} {stdin}");
        assert!(recorder.calls.is_empty(), "{changes:?} {stdin}");
    }
}

#[test]
fn each_verb_is_served_from_the_version_on_that_has_it() {
    let serves = |verb: &str, version: Version| {
        let mut recorder = Recorder::default();
        let stdin = json!({"cniVersion": version.as_str(), "name": "n", "prevResult": {}});
        let ran = run(&mut recorder, &[("CNI_COMMAND", verb)], &stdin.to_string());
        if recorder.calls.is_empty() {
            let error = ran.error();
            assert_eq!(error["code"], 1, "{error}");
            assert_eq!(
                error["msg"],
                format!("config version does not allow {verb}")
            );
            return false;
        }
        assert_eq!((ran.status, ran.stdout.as_str()), (0, ""));
        true
    };
    for version in Version::SUPPORTED {
        assert_eq!(serves("CHECK", version), version >= Version::V0_4_0);
        assert_eq!(serves("STATUS", version), version >= Version::V1_1_0);
        assert_eq!(serves("GC", version), version >= Version::V1_1_0);
    }
}

#[test]
fn a_check_reads_the_result_that_it_is_about() {
    let check = |prev: &Value| {
        let mut recorder = Recorder::default();
        let stdin = json!({"cniVersion": "1.0.0", "name": "n", "prevResult": prev});
        let ran = run(
            &mut recorder,
            &[("CNI_COMMAND", "CHECK")],
            &stdin.to_string(),
        );
        (recorder.calls, ran)
    };
    let (calls, _) = check(&json!({
        "interfaces": [
            {"name": "weir0", "mac": "02:00:00:00:00:01"},
            {"name": "eth0", "sandbox": "/var/run/netns/x", "mac": "02:00:00:00:00:02"},
        ],
        "ips": [{"address": "10.0.1.17/32"}, {"address": "2001:db8::1/128"}],
    }));
    assert_eq!(calls, ["CHECK c0ffee/eth0 eth0"]);
    for (prev, code) in [
        (json!(null), 7),
        (json!([]), 6),
        (json!({"ips": {}}), 6),
        (json!({"ips": [{"address": "10.0.1"}]}), 6),
        (json!({"interfaces": 1}), 6),
    ] {
        let (calls, ran) = check(&prev);
        assert_eq!(ran.error()["code"], code, "{prev}");
        assert!(calls.is_empty(), "{prev}");
    }
}

#[test]
fn a_gc_takes_a_list_that_is_absent_for_no_list_and_one_that_is_wrong_for_an_error() {
    let gc = |fields: Value| {
        let mut recorder = Recorder::default();
        let mut stdin = json!({"cniVersion": "1.1.0", "name": "n"});
        let map = stdin.as_object_mut().unwrap();
        map.extend(fields.as_object().unwrap().clone());
        let changes = [
            ("CNI_COMMAND", "GC"),
            ("CNI_CONTAINERID", ""),
            ("CNI_NETNS", ""),
            ("CNI_IFNAME", ""),
        ];
        let ran = run(&mut recorder, &changes, &stdin.to_string());
        (recorder.calls, ran)
    };
    let key = "cni.dev/valid-attachments";
    let one = json!([{"containerID": "a", "ifname": "eth0"}]);
    for (fields, told) in [
        (json!({}), "GC n None"),
        (json!({key: null}), "GC n None"),
        (json!({key: []}), "GC n Some(\"\")"),
        (json!({key: one}), "GC n Some(\"a/eth0\")"),
        (json!({"cni.dev/attachments": one}), "GC n Some(\"a/eth0\")"),
    ] {
        let (calls, ran) = gc(fields);
        assert_eq!((ran.status, ran.stdout.as_str()), (0, ""));
        assert_eq!(calls, [told]);
    }
    for wrong in [
        json!({}),
        json!("a"),
        json!([1]),
        json!([{"containerID": "a"}]),
        json!([{"containerID": "../a", "ifname": "eth0"}]),
        json!([{"containerID": "a", "ifname": "e/0"}]),
    ] {
        let (calls, ran) = gc(json!({key: wrong}));
        assert_eq!(ran.error()["code"], 7, "{wrong}");
        assert!(calls.is_empty(), "{wrong}");
    }
}

#[test]
fn the_plugins_error_is_printed_in_the_configurations_version() {
    for verb in ["ADD", "DEL"] {
        let mut recorder = Recorder {
            fail: true,
            ..Recorder::default()
        };
        let stdin = r#"{"cniVersion": "0.3.1", "name": "n"}"#;
        let ran = run(&mut recorder, &[("CNI_COMMAND", verb)], stdin);
        assert_eq!(
            ran.error(),
            json!({"cniVersion": "0.3.1", "code": 11, "msg": "no", "details": "why"})
        );
    }
}

/// Reading it is the failure.
struct Unreadable;

impl Read for Unreadable {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("unreadable"))
    }
}

/// Writing to it is the failure.
struct Unwritable;

impl Write for Unwritable {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn version_does_not_read_stdin_and_the_others_report_what_they_cannot_read() {
    let run = |verb: &str| {
        let map: HashMap<_, _> = FULL.into_iter().chain([("CNI_COMMAND", verb)]).collect();
        let mut stdout = Vec::new();
        let status = dispatch(
            &mut Recorder::default(),
            Streams {
                env: &|name| map.get(name).map(OsString::from),
                stdin: &mut Unreadable,
                stdout: &mut stdout,
                stderr: &mut io::sink(),
            },
        );
        (status, serde_json::from_slice::<Value>(&stdout).unwrap())
    };
    assert_eq!(
        run("VERSION"),
        (
            0,
            json!({
                "cniVersion": "1.1.0",
                "supportedVersions": ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
            })
        )
    );
    let (status, error) = run("ADD");
    assert_eq!((status, error["code"].as_u64()), (1, Some(5)));
}

#[test]
fn a_result_that_could_not_be_written_is_a_failure() {
    let map: HashMap<_, _> = FULL.into_iter().collect();
    let mut stderr = Vec::new();
    let status = dispatch(
        &mut Recorder::default(),
        Streams {
            env: &|name| map.get(name).map(OsString::from),
            stdin: &mut CONFIG.as_bytes(),
            stdout: &mut Unwritable,
            stderr: &mut stderr,
        },
    );
    assert_eq!(status, 1);
    assert!(String::from_utf8(stderr).unwrap().contains("stdout"));
}

#[test]
fn a_person_reads_what_it_is_on_stderr() {
    let ran = run(&mut Recorder::default(), &[("CNI_COMMAND", "")], "");
    assert_eq!((ran.status, ran.stdout.as_str()), (0, ""));
    assert!(
        ran.stderr.starts_with("a recorder\nCNI versions: 0.3.0, "),
        "{}",
        ran.stderr
    );
}
