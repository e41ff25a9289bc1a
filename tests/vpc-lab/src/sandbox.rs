//! A private corner of the kernel for everything that the lab makes.
//!
//! A process that has entered lives in network and mount namespaces of its own, with an empty `/run`: no
//! link, rule, socket or namespace that it makes is seen outside, and all of it goes when the last process
//! in it goes, however that dies. Without root it works in a user namespace too.

use std::fs;
use std::process::Command;

use anyhow::{Context, bail};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{getegid, geteuid};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// The source of the mount over `/run`, by which a process in the sandbox is known.
const RUN: &str = "weir-lab";

/// Whether this process is in a sandbox.
pub fn is_entered() -> bool {
    let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap_or_default();
    mounts
        .lines()
        .any(|mount| mount.starts_with(&format!("{RUN} /run tmpfs ")))
}

/// Moves this process into its own namespaces. To be called once, first in `main`, before any thread.
///
/// # Errors
/// When the kernel refuses (an unprivileged process where user namespaces are off), or `ip` is not there.
pub fn enter() -> anyhow::Result<()> {
    let (uid, gid) = (geteuid(), getegid());
    let mut flags = UnshareFlags::NEWNET | UnshareFlags::NEWNS;
    if !uid.is_root() {
        flags |= UnshareFlags::NEWUSER;
    }
    #[expect(
        unsafe_code,
        reason = "rustix marks unshare unsafe for the sake of CLONE_FILES"
    )]
    // SAFETY: file descriptors stay shared; namespaces do not touch memory.
    unsafe { unshare_unsafe(flags) }.context(
        "the kernel gives this process no namespaces of its own: run as root, or allow \
         unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1)",
    )?;
    if !uid.is_root() {
        // Root inside is this user outside; `setgroups` must be given up first (user_namespaces(7)).
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {} 1", uid.as_raw()))?;
        fs::write("/proc/self/gid_map", format!("0 {} 1", gid.as_raw()))?;
    }
    mount_change(
        "/",
        MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
    )
    .context("making the mounts private")?;
    mount(
        RUN,
        "/run",
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        None,
    )
    .context("mounting an empty /run")?;
    let lo = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()
        .context("running ip")?;
    if !lo.success() {
        bail!("`ip link set lo up` failed: {lo}");
    }
    Ok(())
}
