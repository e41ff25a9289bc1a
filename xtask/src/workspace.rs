//! Where the workspace and its target folder are, and how cargo is called.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use cargo_metadata::{Artifact, Message, MetadataCommand};

/// The checkout.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}

/// What cargo knows of our own packages; dependencies are not resolved, so it costs nothing.
///
/// # Errors
/// When cargo can't read the manifests.
pub(crate) fn metadata() -> anyhow::Result<cargo_metadata::Metadata> {
    MetadataCommand::new()
        .current_dir(root())
        .no_deps()
        .exec()
        .context("asking `cargo metadata` about this workspace")
}

/// Cargo's target folder: where CARGO_TARGET_DIR or cargo's configuration says, else `target`.
///
/// # Errors
/// When cargo can't read the manifests.
pub(crate) fn target_directory() -> anyhow::Result<PathBuf> {
    Ok(metadata()?.target_directory.into_std_path_buf())
}

/// A call to the cargo that runs this xtask, in the checkout.
pub(crate) fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.current_dir(root());
    // `cargo xtask` sets these for its own package; build scripts of others must not see them.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Builds with `cargo build` and the given arguments, and answers what was built. Progress goes to stderr,
/// so that what the caller prints on stdout stays alone there.
///
/// # Errors
/// When the build fails; the compiler's own words are on stderr by then.
pub(crate) fn build(args: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<Vec<Artifact>> {
    let mut command = cargo();
    command
        .arg("build")
        .args(args)
        .arg("--message-format=json-render-diagnostics")
        .envs(environment.iter().copied())
        .stdout(Stdio::piped());
    let mut child = command.spawn().context("starting cargo")?;
    let stdout = child.stdout.take().context("cargo's stdout")?;
    let mut artifacts = Vec::new();
    for message in Message::parse_stream(std::io::BufReader::new(stdout)) {
        if let Message::CompilerArtifact(artifact) = message.context("reading cargo's messages")? {
            artifacts.push(artifact);
        }
    }
    let status = child.wait().context("waiting for cargo")?;
    if !status.success() {
        bail!("`cargo build {}` failed ({status})", args.join(" "));
    }
    Ok(artifacts)
}

/// The path of the named binary among what a build made.
///
/// # Errors
/// When the build made no such binary.
pub(crate) fn binary(artifacts: &[Artifact], name: &str) -> anyhow::Result<PathBuf> {
    artifacts
        .iter()
        // A build of all targets makes the binary's own unit tests too.
        .filter(|artifact| artifact.target.name == name && artifact.target.is_bin())
        .filter(|artifact| !artifact.profile.test)
        .find_map(|artifact| artifact.executable.clone())
        .map(cargo_metadata::camino::Utf8PathBuf::into_std_path_buf)
        .with_context(|| format!("cargo built no binary `{name}`"))
}
