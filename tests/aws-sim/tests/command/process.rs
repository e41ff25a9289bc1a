//! Starts `aws-sim`, talks to it, and ends it whatever happens.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Far more than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

const SIGNATURE: &str = "Authorization: AWS4-HMAC-SHA256 \
    Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/ec2/aws4_request, SignedHeaders=host, Signature=00\r\n";

/// A running `aws-sim`; killed when dropped.
pub(crate) struct Served {
    process: Child,
    /// What it said at its start, as JSON.
    pub(crate) said: Value,
    log: PathBuf,
}

/// A file in the folder for tests' files.
pub(crate) fn file(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path
}

impl Served {
    /// With these flags, and a log of this name.
    pub(crate) fn start(name: &str, flags: &[&str]) -> Served {
        let log = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.log"));
        let mut process = Command::new(env!("CARGO_BIN_EXE_aws-sim"))
            .args(["--listen", "127.0.0.1:0", "--output", "json"])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let said = serde_json::from_str(&line);
        let served = Served {
            process,
            said: said.unwrap_or_default(),
            log,
        };
        assert!(served.said.is_object(), "{line:?}: {}", served.log());
        served
    }

    /// What it said of a thing: `id("subnets", "subnet-a")`.
    pub(crate) fn id(&self, kind: &str, name: &str) -> String {
        self.said[kind][name].as_str().unwrap().to_owned()
    }

    /// What it wrote on standard error.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Asks EC2: status and body.
    pub(crate) fn ec2(&self, form: &str) -> (u16, String) {
        let form = format!("{form}&Version=2016-11-15");
        let kind = "Content-Type: application/x-www-form-urlencoded\r\n";
        self.send(
            "endpoint",
            "POST",
            "/",
            &format!("{SIGNATURE}{kind}"),
            &form,
        )
    }

    /// Asks the control port: status and body.
    pub(crate) fn control(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.send("control", method, path, "", body)
    }

    /// The same, for what must work; the body as JSON.
    #[track_caller]
    pub(crate) fn done(&self, method: &str, path: &str, body: &str) -> Value {
        let (status, said) = self.control(method, path, body);
        assert_eq!(status, 200, "{method} {path} {body}: {said}");
        serde_json::from_str(&said).unwrap()
    }

    fn send(&self, to: &str, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: here\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        let reply = self.raw(to, request.as_bytes(), false);
        parse(&String::from_utf8(reply).unwrap())
    }

    /// Sends bytes, and reads until the server closes. `half` closes the sending side first.
    pub(crate) fn raw(&self, to: &str, bytes: &[u8], half: bool) -> Vec<u8> {
        let address = self.said[to]
            .as_str()
            .unwrap()
            .trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        if half {
            stream.shutdown(Shutdown::Write).unwrap();
        }
        let mut reply = Vec::new();
        // A reset on purpose ends the reply too.
        drop(stream.read_to_end(&mut reply));
        reply
    }

    /// Sends a signal, and waits for its end.
    pub(crate) fn end(mut self, signal: Signal) -> ExitStatus {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// A reply's status and body.
pub(crate) fn parse(reply: &str) -> (u16, String) {
    let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((reply, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (status.unwrap_or(0), body.to_owned())
}
