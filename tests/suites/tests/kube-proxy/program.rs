//! The real kube-proxy, built from the module that Kubernetes publishes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// The newest that is published; its staging modules have the same number, from 0 on.
const VERSION: &str = "1.36.3";

/// It took two minutes on two cores.
const PATIENCE: Duration = Duration::from_mins(8);

/// Where it is installed.
pub(crate) fn path() -> PathBuf {
    folder().join(format!("kube-proxy-{VERSION}"))
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("kube-proxy")
}

/// Builds it unless it is there. To be called outside the sandbox, which has no way to the module proxy.
///
/// # Errors
/// When there is no Go, or the modules can't be had: with the reason, for the skip.
pub(crate) fn install() -> anyhow::Result<()> {
    if path().is_file() {
        return Ok(());
    }
    println!("building kube-proxy v{VERSION} for the first time: minutes");
    let folder = folder();
    fs::create_dir_all(&folder)?;
    let module = format!("k8s.io/kubernetes@v{VERSION}");
    let told = go(&folder, &["mod", "download", "-json", &module])
        .with_context(|| format!("{module} can't be had"))?;
    let told: Value = serde_json::from_str(&told)?;
    let source = Path::new(told["Dir"].as_str().context("a module without a folder")?);
    fs::write(
        folder.join("go.mod"),
        go_mod(&fs::read_to_string(source.join("go.mod"))?)?,
    )?;
    fs::write(folder.join("go.sum"), fs::read(source.join("go.sum"))?)?;
    let version = |package: &str| format!("-X {package}.gitVersion=v{VERSION}");
    let flags = format!(
        "-s -w {} {}",
        version("k8s.io/component-base/version"),
        version("k8s.io/client-go/pkg/version")
    );
    let new = folder.join("new");
    let out = new.display().to_string();
    let package = "k8s.io/kubernetes/cmd/kube-proxy";
    go(&folder, &["build", "-ldflags", &flags, "-o", &out, package])?;
    Ok(fs::rename(new, path())?)
}

/// Kubernetes' own pins, with the modules that it has in its tree taken from where they are published: replacements
/// of a dependency do not count.
fn go_mod(upstream: &str) -> anyhow::Result<String> {
    let staging = VERSION.strip_prefix("1.").context("a version of 1")?;
    let mut text = String::from("module example.invalid/kube-proxy\n");
    for line in upstream.lines() {
        let line = line.trim();
        if line.starts_with("module ") || line.contains("=> ./staging/") {
            continue;
        }
        let pinned = line.strip_suffix(" v0.0.0");
        match pinned.filter(|name| name.starts_with("k8s.io/")) {
            Some(name) => text += &format!("{name} v0.{staging}\n"),
            None => text += &format!("{line}\n"),
        }
    }
    Ok(text + &format!("require k8s.io/kubernetes v{VERSION}\n"))
}

fn go(folder: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let log = folder.join("go.log");
    let out = folder.join("go.out");
    let mut child = Command::new("go")
        .args(arguments)
        .current_dir(folder)
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-mod=mod -trimpath -buildvcs=false")
        .stdin(Stdio::null())
        .stdout(fs::File::create(&out)?)
        .stderr(fs::File::create(&log)?)
        .spawn()
        .context("there is no Go here: `go` is not in PATH")?;
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("`go {}` is not done after {PATIENCE:?}", arguments[0]);
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let said = fs::read_to_string(log)?;
    ensure!(
        status.success(),
        "`go {}`: {status}: {}",
        arguments[0],
        said.trim().lines().last().unwrap_or("it said nothing")
    );
    Ok(fs::read_to_string(out)?)
}
