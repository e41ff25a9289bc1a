//! Entering a held lab from outside.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, bail};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use super::register::Held;
use crate::netns::enter_net;

/// Where in a lab: a node, a pod, `vpc`, `internet` or `peer`.
#[derive(Debug, Clone)]
pub struct Place {
    /// The name of the namespace.
    pub netns: String,
    /// What AWS clients need there.
    pub env: Vec<(String, String)>,
}

/// Moves this process into a place in a held lab: its user, mount and network namespaces. To be called while the
/// process has one thread.
///
/// # Errors
/// When the lab has no such place, or belongs to somebody else.
pub fn join(lab: &Held, place: &str) -> anyhow::Result<Place> {
    let places = lab.namespaces()?;
    let netns = format!("{}{place}", lab.prefix);
    if !places.contains(&netns) {
        bail!(
            "lab {} has no {place:?}; it has {}",
            lab.name,
            places.join(", ")
        );
    }
    let open = |kind: &str| {
        let path = format!("/proc/{}/ns/{kind}", lab.pid);
        File::open(&path).with_context(|| format!("opening {path}"))
    };
    let (user, mounts) = (open("user")?, open("mnt")?);
    let ours = File::open("/proc/self/ns/user")?;
    if user.metadata()?.ino() != ours.metadata()?.ino() {
        move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User))
            .context("entering the lab's user namespace")?;
    }
    let here = std::env::current_dir();
    move_into_link_name_space(mounts.as_fd(), Some(LinkNameSpaceType::Mount))
        .context("entering the lab's mounts")?;
    let handle = File::open(format!("/run/netns/{netns}"))
        .with_context(|| format!("opening the namespace {netns}"))?;
    enter_net(handle.as_fd()).with_context(|| format!("entering {netns}"))?;
    show_its_links_in_sys()?;
    if let Ok(here) = here {
        // A folder that only exists outside is no reason to fail.
        std::env::set_current_dir(here).ok();
    }
    let node = lab.nodes.iter().find(|node| node.name == place);
    Ok(Place {
        netns,
        env: node.map(|node| node.env.clone()).unwrap_or_default(),
    })
}

/// `/sys` shows the network of whoever mounted it: so mount it again, for this process alone.
fn show_its_links_in_sys() -> anyhow::Result<()> {
    #[expect(
        unsafe_code,
        reason = "rustix marks unshare unsafe for the sake of CLONE_FILES"
    )]
    // SAFETY: a mount namespace does not touch memory or descriptors.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.context("leaving the others' mounts alone")?;
    mount_change(
        "/",
        MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
    )?;
    // Some containers forbid it; `ip` does without.
    mount(
        "sysfs",
        "/sys",
        "sysfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        None,
    )
    .ok();
    Ok(())
}
