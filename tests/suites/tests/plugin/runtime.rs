//! What a container runtime does: make a network namespace, start the plugin, read what it prints. And what
//! the kernel says of it, by `ip -j`.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use suites::programs;

use crate::fake_ipamd::FakeIpamd;

/// A network namespace for a pod. It goes when this is dropped.
pub(crate) struct PodNetNs {
    name: String,
}

impl PodNetNs {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pod{}", NEXT.fetch_add(1, Ordering::Relaxed));
        ip(&["netns", "add", &name]);
        Self { name }
    }

    /// As `ip netns` has it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// By the way that runtimes write it.
    pub(crate) fn path(&self) -> String {
        format!("/var/run/netns/{}", self.name)
    }

    /// `ip -j` inside it.
    pub(crate) fn ip(&self, args: &[&str]) -> Value {
        ip(&[&["-n", self.name.as_str()], args].concat())
    }

    /// Ends it as a runtime does when a sandbox dies.
    pub(crate) fn end(self) -> String {
        self.path()
    }
}

impl Drop for PodNetNs {
    fn drop(&mut self) {
        let deleted = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
        assert!(deleted.is_ok_and(|s| s.success()) || std::thread::panicking());
    }
}

/// Runs `ip -j`, which must succeed.
pub(crate) fn ip(args: &[&str]) -> Value {
    let output = Command::new("ip").arg("-j").args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {said}", args.join(" "));
    match output.stdout.trim_ascii() {
        b"" => json!([]),
        text => serde_json::from_slice(text).unwrap(),
    }
}

/// Runs `ip` for what it does, which must succeed.
pub(crate) fn run_ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {said}", args.join(" "));
}

/// The rule that ipamd makes at its start. It goes when this is dropped.
pub(crate) struct Rule;

impl Rule {
    pub(crate) fn to_pods() -> Self {
        let table = datapath::layout::PODS_TABLE.to_string();
        run_ip(&["rule", "add", "pref", "512", "table", &table, "proto", "87"]);
        Self
    }
}

impl Drop for Rule {
    fn drop(&mut self) {
        let deleted = Command::new("ip")
            .args(["rule", "del", "pref", "512"])
            .status();
        assert!(deleted.is_ok_and(|s| s.success()) || std::thread::panicking());
    }
}

/// The names of the host's links.
pub(crate) fn host_links() -> Vec<String> {
    let links = ip(&["link"]);
    let names = links.as_array().unwrap().iter();
    names
        .map(|link| link["ifname"].as_str().unwrap().to_owned())
        .collect()
}

/// That nothing of ours is on the host. A veth goes some milliseconds after its namespace, so it is given a
/// moment.
pub(crate) fn assert_host_is_clean(when: &str) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let links = host_links();
        let routes = ip(&["route", "show", "table", "all", "proto", "87"]);
        let neighbours = ip(&["neigh", "show", "nud", "permanent"]);
        let left = [&routes, &neighbours]
            .iter()
            .any(|list| !list.as_array().unwrap().is_empty());
        if links == ["lo"] && !left {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "left on the host {when}: links {links:?}, routes {routes}, neighbours {neighbours}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One call of the plugin, to be changed before it runs.
pub(crate) struct Call {
    env: Vec<(String, String)>,
    pub(crate) config: Value,
    pub(crate) stdin: Option<String>,
    args: Vec<String>,
    through: Vec<String>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Call {
    /// As containerd calls, with all variables, for container `id`.
    pub(crate) fn new(verb: &str, ipamd: &FakeIpamd, netns: &str, id: &str) -> Self {
        let env = [
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", id),
            ("CNI_NETNS", netns),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", "/opt/cni/bin"),
            (
                "CNI_ARGS",
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0;\
                 K8S_POD_INFRA_CONTAINER_ID=x;K8S_POD_UID=1-2-3",
            ),
        ];
        Self {
            env: env.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec(),
            config: json!({
                "cniVersion": "1.0.0", "name": "aws-cni", "type": "weir-cni",
                "ipamdSocket": ipamd.socket(), "addTimeoutSeconds": 20,
            }),
            stdin: None,
            args: Vec::new(),
            through: Vec::new(),
        }
    }

    /// As a person starts it.
    pub(crate) fn by_person(args: &[&str]) -> Self {
        Self {
            env: Vec::new(),
            config: Value::Null,
            stdin: Some(String::new()),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            through: Vec::new(),
        }
    }

    /// Starts it by another program.
    pub(crate) fn through(mut self, program: &[&str]) -> Self {
        self.through = program.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Sets a variable.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Takes a variable away.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self
    }

    /// Sets a field of the configuration.
    pub(crate) fn field(mut self, name: &str, value: Value) -> Self {
        self.config[name] = value;
        self
    }

    /// Sets the whole of stdin.
    pub(crate) fn stdin(mut self, text: &str) -> Self {
        self.stdin = Some(text.to_owned());
        self
    }

    pub(crate) fn run(self) -> Outcome {
        let started = Instant::now();
        let weir_cni = programs::path("weir-cni")
            .unwrap()
            .into_os_string()
            .into_string()
            .unwrap();
        let words = [self.through, vec![weir_cni], self.args].concat();
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .env_clear()
            .envs(self.env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let text = self.stdin.unwrap_or_else(|| self.config.to_string());
        // A plugin that fails before it reads closes the pipe; that is its right.
        let written = child.stdin.take().unwrap().write_all(text.as_bytes());
        assert!(written.is_ok() || written.unwrap_err().kind() == std::io::ErrorKind::BrokenPipe);
        let output = child.wait_with_output().unwrap();
        Outcome {
            status: output.status.code().expect("it was not killed"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            took: started.elapsed(),
        }
    }
}

impl Outcome {
    /// The result of an ADD that must have succeeded.
    pub(crate) fn result(&self) -> Value {
        assert_eq!(self.status, 0, "{self:?}");
        assert_eq!(self.stderr, "", "nothing on stderr of a success");
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// The error object of a call that must have failed.
    pub(crate) fn error(&self) -> Value {
        assert_eq!(self.status, 1, "{self:?}");
        let error: Value = serde_json::from_str(&self.stdout).unwrap();
        assert!(error["cniVersion"].is_string(), "{error}");
        assert!(!error["msg"].as_str().unwrap().is_empty(), "{error}");
        error
    }

    /// The same, with its code and what its message and details must say.
    pub(crate) fn assert_error(&self, code: u32, says: &[&str]) {
        let error = self.error();
        assert_eq!(error["code"], code, "{error}");
        let text = format!("{} {}", error["msg"], error["details"]);
        for part in says {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
    }

    /// Success, and not a byte printed.
    pub(crate) fn assert_silent_success(&self) {
        assert_eq!(
            (self.status, self.stdout.as_str(), self.stderr.as_str()),
            (0, "", "")
        );
    }
}
