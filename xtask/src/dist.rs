//! `cargo xtask dist`: the binaries that ship.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

use crate::workspace;

/// Build the binaries that ship: ipamd and weir-cni, static.
///
/// Each is built by itself, so that neither gets the other's features, with its own profile (`dist` and
/// `plugin` in Cargo.toml), and linked statically: they run on a node with any C library and in an image
/// without one. The plugin gets musl, with which it starts sooner; where Rust's standard library for musl can't be
/// installed it gets glibc, as ipamd does. They go to target/dist. The first build takes some ten minutes on two cores.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo xtask dist")]
pub(crate) struct Args {}

/// A program that ships.
struct Program {
    package: &'static str,
    name: &'static str,
    profile: &'static str,
    /// For rustc, besides what makes it static.
    flags: &'static str,
    /// Whether musl suits it: that starts faster, and has the slower allocator.
    musl: bool,
}

const IPAMD: Program = Program {
    package: "ipamd",
    name: "ipamd",
    profile: "dist",
    flags: "",
    musl: false,
};

const PLUGIN: Program = Program {
    package: "cni-plugin",
    name: "weir-cni",
    profile: "plugin",
    // It hashes two short names, and to look for the CPU's own instructions takes longer where CPUID leaves the virtual
    // machine.
    flags: r#"--cfg sha2_backend="soft""#,
    // glibc asks for the same at its start, some 75 times (docs/decisions/0029).
    musl: true,
};

/// The target of programs with musl.
pub(crate) const MUSL: &str = if cfg!(target_arch = "aarch64") {
    "aarch64-unknown-linux-musl"
} else {
    "x86_64-unknown-linux-musl"
};

pub(crate) fn run(_: &Args) -> anyhow::Result<ExitCode> {
    for path in build()? {
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        println!(
            "{}  {:>9} bytes  sha256:{}",
            path.display(),
            bytes.len(),
            hex(&Sha256::digest(&bytes))
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the named binary lies when it has been built.
///
/// # Errors
/// When cargo can't say where its target folder is.
pub(crate) fn path(name: &str) -> anyhow::Result<PathBuf> {
    Ok(workspace::target_directory()?.join("dist").join(name))
}

/// Builds all that ships and answers the paths.
///
/// # Errors
/// When a build fails, or gives a binary that needs a loader.
pub(crate) fn build() -> anyhow::Result<Vec<PathBuf>> {
    crate::setup::ensure_all()?;
    [IPAMD, PLUGIN].iter().map(build_program).collect()
}

/// Builds the plugin as it ships and answers its path.
///
/// # Errors
/// As [`build`].
pub(crate) fn build_plugin() -> anyhow::Result<PathBuf> {
    crate::setup::ensure_all()?;
    build_program(&PLUGIN)
}

fn build_program(program: &Program) -> anyhow::Result<PathBuf> {
    let target = target_of(program)?;
    // With `--target`, cargo keeps these flags from build scripts and procedural macros, which can't be static.
    let given = std::env::var("RUSTFLAGS").unwrap_or_default();
    let own = program.flags;
    let flags = format!("{given} -C target-feature=+crt-static {own}");
    let name = program.name;
    eprintln!("dist: building {name} for {target}");
    let arguments = [
        "-p",
        program.package,
        "--bin",
        name,
        "--profile",
        program.profile,
        "--target",
        &target,
    ];
    let built = workspace::build(&arguments, &[("RUSTFLAGS", &flags)])?;
    let from = workspace::binary(&built, name)?;
    let bytes = fs::read(&from).with_context(|| format!("reading {}", from.display()))?;
    if needs_a_loader(&bytes)? {
        bail!("{name} is linked dynamically: it would not start in an image from scratch");
    }
    let to = path(name)?;
    fs::create_dir_all(to.parent().unwrap_or(Path::new(".")))?;
    fs::copy(&from, &to).with_context(|| format!("copying to {}", to.display()))?;
    Ok(to)
}

fn target_of(program: &Program) -> anyhow::Result<String> {
    if program.musl && has_target(MUSL) {
        return Ok(MUSL.to_owned());
    }
    let host = host_target()?;
    if program.musl {
        eprintln!(
            "dist: {} gets glibc and takes longer to start: Rust's standard library for {MUSL} is not here (`cargo xtask setup` says why)",
            program.name
        );
    }
    Ok(host)
}

/// Whether Rust's standard library for a target is here, whoever installed it.
pub(crate) fn has_target(target: &str) -> bool {
    let mut rustc = Command::new("rustc");
    let asked = rustc.args(["--print", "target-libdir", "--target", target]);
    asked.output().is_ok_and(|answer| {
        let folder = String::from_utf8_lossy(&answer.stdout);
        answer.status.success() && Path::new(folder.trim()).is_dir()
    })
}

/// The target that this machine's own compiler builds for.
fn host_target() -> anyhow::Result<String> {
    let output = Command::new("rustc")
        .arg("-vV")
        .output()
        .context("running rustc")?;
    let text = String::from_utf8(output.stdout)?;
    let host = text
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("`rustc -vV` names no host")?;
    if !host.ends_with("-linux-gnu") {
        bail!("{host}: binaries that ship are built on Linux with glibc");
    }
    Ok(host.to_owned())
}

/// Whether an ELF file asks for a dynamic loader: it has a PT_INTERP program header (elf(5)).
fn needs_a_loader(elf: &[u8]) -> anyhow::Result<bool> {
    const PT_INTERP: u32 = 3;
    let short = "not a 64-bit little-endian ELF file";
    if elf.get(..6) != Some(b"\x7fELF\x02\x01") {
        bail!(short);
    }
    let number = |at: usize, bytes: usize| -> anyhow::Result<u64> {
        let field = elf.get(at..at + bytes).context(short)?;
        Ok(field
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    let (offset, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        let header = usize::try_from(offset + index * size)?;
        if number(header, 4)? == u64::from(PT_INTERP) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Bytes as lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_needs_a_loader() {
        // This test itself: tests are linked dynamically.
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(needs_a_loader(&own).unwrap());
    }

    #[test]
    fn a_static_program_needs_none() {
        // An ELF header whose one program header is PT_LOAD.
        let mut elf = vec![0; 64 + 56];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (elf[32], elf[54], elf[56], elf[64]) = (64, 56, 1, 1);
        assert!(!needs_a_loader(&elf).unwrap());
        elf[64] = 3;
        assert!(needs_a_loader(&elf).unwrap());
    }

    #[test]
    fn what_is_no_program_is_refused() {
        assert!(needs_a_loader(b"#!/bin/sh").is_err());
    }
}
