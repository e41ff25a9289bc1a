//! moto's own server, as a process on the loopback of a namespace.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use suites::venv::Venv;
use vpc_lab::Netns;
use vpc_lab::netns::Running;

/// The namespace is ours alone, so any port is free.
pub(crate) const ADDRESS: &str = "127.0.0.1:5566";

/// From its start to listening. The first one ever took a second.
const START: Duration = Duration::from_secs(60);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("moto")
}

fn venv() -> Venv {
    Venv {
        what: "moto (316 MB)",
        packages: &["moto[server,ec2]==5.2.5"],
        constraints: include_str!("../conformance/constraints.txt"),
        folder: folder(),
    }
}

/// Installs the packages unless they are there.
///
/// # Errors
/// When there is no Python with venv, or its package index can't be reached: with the reason, for the skip.
pub(crate) fn install() -> anyhow::Result<()> {
    venv().install()
}

/// Starts the server and returns when it listens.
pub(crate) fn start(netns: &Netns) -> anyhow::Result<Running> {
    let log = folder().join("log");
    let output = File::create(&log)?;
    let (host, port) = ADDRESS.split_once(':').context("an address with a port")?;
    let mut command = Command::new(venv().program("moto_server"));
    command
        .args(["-H", host, "-p", port])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", folder())
        .env("LANG", "C.UTF-8")
        // As strict as it can be told to be.
        .env("MOTO_ENABLE_AMI_VALIDATION", "1")
        .env("MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION", "1")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    let mut process = netns.spawn(command).context("starting moto_server")?;
    let deadline = Instant::now() + START;
    while netns.run(|| TcpStream::connect(ADDRESS).is_err()) {
        let ended = process.child().try_wait()?;
        if ended.is_some() || Instant::now() > deadline {
            let said = fs::read_to_string(&log).unwrap_or_default();
            bail!("moto does not start ({ended:?}):\n{said}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(process)
}
