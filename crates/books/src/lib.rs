//! The books on disk: what the pool must still know after a restart of ipamd.
//!
//! One JSON file, written whole: temporary file, fsync, rename, fsync of the folder. At every moment the file
//! is there and whole, the old one or the new one. The one before is kept as `.previous`, for people alone:
//! it lacks the last grants, so the pool must never be built from it. The next write is written over it: who keeps
//! the books open for as long as two writes reads some of each.
//!
//! A file that cannot be trusted is neither used nor deleted: it is renamed aside, and said ([`Distrust`]).
//!
//! All of this blocks: call it where blocking is allowed.

mod format;
mod grants;
mod lines;
mod open;
mod write;

use std::path::{Path, PathBuf};

use ipam::{InstanceId, Ledger};

use grants::GrantLines;

pub use format::{Distrust, decode, encode};
pub use open::OpenError;
pub use write::WriteError;

/// Whose these books are. Those of another instance (an image of a disk) or of another boot (its pods are
/// gone, and so is its clock) are not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The instance.
    pub instance_id: InstanceId,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
}

/// The state file of one node. One process writes it.
#[derive(Debug)]
pub struct Books {
    path: PathBuf,
    identity: Identity,
    /// What was written last: the next time there is room for as much, and what has not changed is there.
    bytes: Vec<u8>,
    lines: GrantLines,
    /// Whether the names of the files are on disk as they are: the last write came to its end.
    settled: bool,
}

/// What [`Books::open`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// No file: the first start since the boot.
    Fresh,
    /// The books, whole and ours.
    Found(Ledger),
    /// A file that cannot be trusted, renamed aside.
    ///
    /// Unless its pods are gone for sure ([`Distrust::pods_may_run`]), pods may still use addresses that EC2
    /// will call held and that nothing calls owned. Say it loudly, and give none of them out: what the kernel
    /// routes to a pod's link is owned, whatever the books say.
    SetAside {
        /// Why, in words.
        reason: Distrust,
        /// Where it is now.
        moved_to: PathBuf,
    },
}

impl Books {
    /// Where they are.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The path with more at its end: `books.json` and `.tmp` give `books.json.tmp`.
fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// The folder that the path is in.
fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests;
