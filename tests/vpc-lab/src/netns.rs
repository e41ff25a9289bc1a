//! Named network namespaces, as `ip netns` knows them.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::{self, JoinHandle};

use anyhow::{Context, anyhow, bail};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::hold::BEHIND_A_FRONT;

/// Where `ip netns` looks for namespaces.
const RUN_NETNS: &str = "/run/netns";

/// A network namespace with a name; deleted when dropped.
///
/// What runs in it keeps it alive a little longer, as everywhere in Linux; its name is free at once.
pub struct Netns {
    name: String,
    mounted: Mounted,
    handle: File,
}

/// Where a namespace is mounted; deleted when dropped.
#[derive(Debug)]
pub struct Mounted {
    path: PathBuf,
}

impl Netns {
    /// Makes a namespace with its loopback up, and names it in `/run/netns`, so that `ip -n NAME` and
    /// `ip netns exec NAME` find it.
    ///
    /// # Errors
    /// When the name is taken, or this process did not [enter the sandbox](crate::sandbox::enter).
    pub fn create(name: &str) -> anyhow::Result<Netns> {
        let folder = Path::new(RUN_NETNS);
        if !folder.exists() {
            fs::create_dir_all(folder).with_context(|| format!("making {RUN_NETNS}"))?;
            // `ip netns exec` wants to mount over it, which must not spread.
            mount_bind(folder, folder).with_context(|| format!("mounting {RUN_NETNS}"))?;
            mount_change(folder, MountPropagationFlags::PRIVATE)?;
        }
        let path = folder.join(name);
        File::create_new(&path).with_context(|| {
            format!(
                "naming the namespace {name} ({} must not exist)",
                path.display()
            )
        })?;
        let mounted = Mounted { path };
        let handle =
            birth(&mounted.path).with_context(|| format!("making the network namespace {name}"))?;
        Ok(Netns {
            name: name.to_owned(),
            mounted,
            handle,
        })
    }

    /// The name, as in `ip -n NAME`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path, as a CNI plugin gets it in `CNI_NETNS`.
    pub fn path(&self) -> &Path {
        &self.mounted.path
    }

    /// Keeps the namespace, and no descriptor of it: whoever starts a process pays for all that are open.
    pub fn set_aside(self) -> Mounted {
        self.mounted
    }

    /// Runs `work` on a thread of its own inside the namespace, and waits for it. Sockets opened there
    /// stay there; `/proc/sys/net` is the namespace's.
    ///
    /// # Panics
    /// When `work` does, or when this process may not enter its own namespace.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                #[expect(clippy::expect_used, reason = "we made it, so we may enter it")]
                enter_net(self.handle.as_fd()).expect("entering a namespace of our own");
                work()
            });
            match inside.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Starts a thread that stays in the namespace.
    pub(crate) fn lasting_thread(
        &self,
        name: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> anyhow::Result<JoinHandle<()>> {
        let handle = self.handle.try_clone()?;
        let (entered, outcome) = mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let outcome = enter_net(handle.as_fd());
                let inside = outcome.is_ok();
                drop(entered.send(outcome));
                if inside {
                    work();
                }
            })?;
        outcome
            .recv()?
            .with_context(|| format!("entering {}", self.name))?;
        Ok(thread)
    }

    /// A command that will run inside the namespace, and be killed when the thread that starts it ends. Right
    /// for `output()` and `status()`; what is to run beside the caller is for [`Netns::spawn`].
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        self.put_inside(&mut command);
        command
    }

    /// Starts a command inside the namespace. It is killed when the returned value is dropped, and dies with this
    /// process, however that dies.
    ///
    /// # Errors
    /// When the program can't be started.
    pub fn spawn(&self, mut command: Command) -> anyhow::Result<Running> {
        let program = command.get_program().to_string_lossy().into_owned();
        self.put_inside(&mut command);
        let child = spawn_from_a_lasting_thread(command)
            .with_context(|| format!("starting {program} in {}", self.name))?;
        Ok(Running { child })
    }

    #[expect(unsafe_code, reason = "the namespace is entered between fork and exec")]
    fn put_inside(&self, command: &mut Command) {
        let handle = match self.handle.try_clone() {
            Ok(handle) => Arc::new(handle),
            // Out of descriptors: the start will fail for the same reason and say so.
            Err(_) => return,
        };
        command.env_remove(BEHIND_A_FRONT);
        // SAFETY: two plain system calls on a descriptor that is open; nothing is allocated.
        unsafe {
            command.pre_exec(move || {
                set_parent_process_death_signal(Some(Signal::KILL))?;
                enter_net(handle.as_fd())
            });
        }
    }
}

impl Drop for Mounted {
    /// Takes the name away, as `ip netns del` does.
    fn drop(&mut self) {
        // Nothing is mounted there when its birth failed, and nothing is there when somebody deleted it by hand.
        unmount(&self.path, UnmountFlags::DETACH).ok();
        drop(fs::remove_file(&self.path));
    }
}

impl fmt::Debug for Netns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Netns").field(&self.name).finish()
    }
}

/// A process inside a namespace; killed and reaped when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

impl Running {
    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child, for its pipes, or to wait for it.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Moves the calling thread into the network namespace.
pub(crate) fn enter_net(handle: BorrowedFd<'_>) -> io::Result<()> {
    move_into_link_name_space(handle, Some(LinkNameSpaceType::Network))?;
    Ok(())
}

/// Makes the namespace on a thread that then goes away; the mount at `path` keeps it.
fn birth(path: &Path) -> anyhow::Result<File> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| -> anyhow::Result<File> {
            #[expect(
                unsafe_code,
                reason = "rustix marks unshare unsafe for the sake of CLONE_FILES"
            )]
            // SAFETY: a namespace does not touch memory or descriptors.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.context("unshare")?;
            mount_bind("/proc/thread-self/ns/net", path).context("mounting it")?;
            let lo = Command::new("ip")
                .args(["link", "set", "lo", "up"])
                .status()
                .context("running ip")?;
            if !lo.success() {
                bail!("`ip link set lo up` failed: {lo}");
            }
            Ok(File::open(path)?)
        });
        thread
            .join()
            .map_err(|_| anyhow!("the thread that made it panicked"))?
    })
}

type Start = (Command, mpsc::SyncSender<io::Result<Child>>);

/// The kernel's parent-death signal follows the *thread* that forked: so one thread, which lasts, forks for all.
fn spawn_from_a_lasting_thread(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Start>> = OnceLock::new();
    let gone = || io::Error::other("the thread that starts processes is gone");
    let spawner = SPAWNER.get_or_init(|| {
        let (starts, queue) = mpsc::channel::<Start>();
        thread::spawn(move || {
            for (mut command, reply) in queue {
                drop(reply.send(command.spawn()));
            }
        });
        starts
    });
    let (reply, child) = mpsc::sync_channel(1);
    spawner.send((command, reply)).map_err(|_| gone())?;
    child.recv().map_err(|_| gone())?
}
