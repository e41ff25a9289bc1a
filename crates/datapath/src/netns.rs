//! A network namespace, by the path that a runtime gives.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use tokio::runtime::{Handle, RuntimeFlavor};

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
        source: io::Error,
    },
}

/// The calling thread's own: `/proc/self` would be the main thread's.
const OWN: &str = "/proc/thread-self/ns/net";

impl NetNs {
    /// Opens the namespace at `path` (as `/var/run/netns/x` or `/proc/PID/ns/net`).
    ///
    /// # Errors
    /// When nothing is there, when it is no network namespace, or the caller's own.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, NetNsError> {
        let path = path.as_ref().to_owned();
        let io = |source: rustix::io::Errno| NetNsError::Io {
            path: path.clone(),
            source: source.into(),
        };
        // NONBLOCK: the path could be a FIFO.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {
                return Err(NetNsError::Absent(path));
            }
            Err(error) => return Err(io(error)),
        };
        if !is_netns(fd.as_fd()).map_err(io)? {
            return Err(NetNsError::NotANetNs(path));
        }
        let identity = Identity::of(&rustix::fs::fstat(&fd).map_err(io)?);
        let own = Identity::of(&rustix::fs::stat(OWN).map_err(io)?);
        if identity == own {
            return Err(NetNsError::Own(path));
        }
        Ok(Self { path, fd, identity })
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

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Runs `work` in the namespace and returns what it made, within the tokio runtime of the caller: a
    /// socket opened in it belongs to the namespace for life.
    ///
    /// The only worker of a runtime goes there and back: `work` does not wait, so nobody else's comes in between, and the
    /// start of a thread costs as much as half of the wiring. Of several workers none may ever change its namespace: a
    /// thread is made for it and thrown away.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let runtime = Handle::current();
        if runtime.runtime_flavor() == RuntimeFlavor::CurrentThread {
            let own = rustix::fs::open(OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            self.enter()?;
            let _back = WayBack(own);
            return Ok(work());
        }
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().spawn_scoped(scope, || {
                self.enter()?;
                let _runtime = runtime.enter();
                Ok(work())
            })?;
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn enter(&self) -> io::Result<()> {
        Ok(move_into_link_name_space(
            self.fd(),
            Some(LinkNameSpaceType::Network),
        )?)
    }
}

/// The namespace that this thread was in: it is in it again when this is dropped, also by a panic.
struct WayBack(OwnedFd);

impl Drop for WayBack {
    fn drop(&mut self) {
        let back = move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network));
        if back.is_err() {
            // Whatever came next would be done to the pod's namespace in place of the node's.
            std::process::abort();
        }
    }
}

impl Identity {
    fn of(stat: &rustix::fs::Stat) -> Self {
        Self {
            dev: stat.st_dev,
            inode: stat.st_ino,
        }
    }
}

/// Whether the file is a namespace file, and of the network kind.
fn is_netns(fd: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    /// linux/magic.h
    const NSFS_MAGIC: u64 = 0x6e73_6673;
    let kind = rustix::fs::fstatfs(fd)?.f_type;
    if u64::try_from(kind) != Ok(NSFS_MAGIC) {
        return Ok(false);
    }
    #[expect(unsafe_code, reason = "ioctl has no safe form in rustix")]
    // SAFETY: the file is of nsfs, whose NS_GET_NSTYPE takes no argument and returns a number.
    let kind = unsafe { rustix::ioctl::ioctl(fd, GetNsType)? };
    Ok(kind == UnshareFlags::NEWNET.bits())
}

/// `NS_GET_NSTYPE` (ioctl_ns(2)): the CLONE_NEW* flag of the namespace.
struct GetNsType;

#[expect(unsafe_code, reason = "the trait is unsafe to implement")]
// SAFETY: NS_GET_NSTYPE is _IO(0xb7, 3): no argument, the result is the return value.
unsafe impl Ioctl for GetNsType {
    type Output = u32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        0xb703
    }

    fn as_ptr(&mut self) -> *mut rustix::ffi::c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(
        output: IoctlOutput,
        _: *mut rustix::ffi::c_void,
    ) -> rustix::io::Result<u32> {
        u32::try_from(output).map_err(|_| rustix::io::Errno::RANGE)
    }
}
