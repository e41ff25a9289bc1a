//! LocalStack itself, as a process on the loopback of a namespace.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use vpc_lab::Netns;
use vpc_lab::netns::Running;

use crate::venv;

/// The namespace is ours alone, so the port can be LocalStack's own.
pub(crate) const ADDRESS: &str = "127.0.0.1:4566";

/// Its first start ever, with cold caches, took 2 s.
const START: Duration = Duration::from_secs(90);

/// Stopped when dropped.
#[derive(Debug)]
pub(crate) struct LocalStack {
    process: Running,
}

impl LocalStack {
    /// Starts it and returns when it is ready.
    pub(crate) fn start(netns: &Netns) -> anyhow::Result<Self> {
        let folder = venv::folder();
        let (home, files, log) = (
            folder.join("home"),
            folder.join("files"),
            folder.join("log"),
        );
        fs::create_dir_all(&home)?;
        fs::create_dir_all(&files)?;
        let output = File::create(&log)?;
        let mut command = Command::new(venv::python());
        command
            .args(["-m", "localstack.runtime.main"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &home)
            .env("LANG", "C.UTF-8")
            .env("PYTHONUNBUFFERED", "1")
            .env("FILESYSTEM_ROOT", &files)
            // Where /.dockerenv exists it would take itself for a container, listen on all addresses, serve
            // DNS and rewrite /etc/resolv.conf.
            .env("OVERRIDE_IN_DOCKER", "0")
            .env("DNS_ADDRESS", "0")
            // The default server ignores the address that it is told and listens on all.
            .env("GATEWAY_SERVER", "hypercorn")
            .env("GATEWAY_LISTEN", ADDRESS)
            // Nothing is asked of the internet.
            .env("SKIP_SSL_CERT_DOWNLOAD", "1")
            .env("DISABLE_EVENTS", "1")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let mut localstack = Self {
            process: netns.spawn(command)?,
        };
        let deadline = Instant::now() + START;
        loop {
            let said = fs::read_to_string(&log).unwrap_or_default();
            if said.lines().any(|line| line.starts_with("Ready")) {
                return Ok(localstack);
            }
            let ended = localstack.process.child().try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                bail!("LocalStack does not start ({ended:?}):\n{said}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn terminate(&mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.process.pid())?;
        kill_process(Pid::from_raw(pid).context("pid 0")?, Signal::TERM)?;
        // It hung on SIGTERM in 9 of 23 measured stops; `Running` kills it then.
        let deadline = Instant::now() + Duration::from_secs(3);
        while self.process.child().try_wait()?.is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for LocalStack {
    fn drop(&mut self) {
        // Whatever fails here, dropping the process kills it.
        drop(self.terminate());
    }
}

/// Sockets of the namespace that others could reach: listening TCP, and UDP, off 127.0.0.1.
pub(crate) fn listeners_off_loopback(netns: &Netns) -> anyhow::Result<Vec<String>> {
    /// 127.0.0.1 as /proc/net writes it on a little-endian machine, and ::1.
    const LOOPBACK: [&str; 2] = ["0100007F", "00000000000000000000000001000000"];
    const TCP_LISTEN: &str = "0A";
    let mut found = Vec::new();
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let path = format!("/proc/thread-self/net/{table}");
        let text = netns.run(|| fs::read_to_string(&path));
        for line in text
            .with_context(|| format!("reading {path}"))?
            .lines()
            .skip(1)
        {
            let mut fields = line.split_whitespace();
            let local = fields.nth(1).unwrap_or_default();
            let state = fields.nth(1).unwrap_or_default();
            let address = local.split(':').next().unwrap_or_default();
            let reachable = table.starts_with("udp") || state == TCP_LISTEN;
            if reachable && !LOOPBACK.contains(&address) {
                found.push(format!("{table} {local}"));
            }
        }
    }
    Ok(found)
}
