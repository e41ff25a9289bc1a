//! A network namespace, by the path that a runtime gives.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// An open network namespace other than the caller's own.
#[derive(Debug)]
pub struct NetNs {
    path: PathBuf,
    fd: OwnedFd,
    identity: Identity,
}

/// What tells two network namespaces apart: device and inode of the namespace file (namespaces(7)). A number
/// can come back after its namespace is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// `st_dev`: the kernel's nsfs.
    pub dev: u64,
    /// `st_ino`: what `net:[4026531840]` shows.
    pub inode: u64,
}

/// Why a path can't be used as a pod's network namespace.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetNsError {
    /// Nothing is at the path: the sandbox is gone.
    #[error("network namespace {0} is not there: its sandbox is gone or was never made")]
    Absent(PathBuf),
    /// Something is at the path, but no network namespace.
    #[error("{0} is not a network namespace: pass the path that the runtime mounted one at")]
    NotANetNs(PathBuf),
    /// The path names the namespace that the caller is in.
    #[error("{0} is the network namespace of this process itself: a pod needs one of its own")]
    Own(PathBuf),
    /// The file could not be opened or examined.
    #[error("network namespace {path} could not be opened")]
    Io {
        /// The path as given.
        path: PathBuf,
        /// The kernel's reason.
        #[source]
        source: std::io::Error,
    },
}

impl NetNs {
    /// Opens the namespace at `path` (as `/var/run/netns/x` or `/proc/PID/ns/net`).
    ///
    /// # Errors
    /// When nothing is there, when it is no network namespace, or the caller's own.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, NetNsError> {
        let _ = path;
        todo!()
    }

    /// The path as given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What tells this namespace from others.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }
}
