//! Labs that stay, and how people get into them from another terminal.
//!
//! A lab lives as long as the process that raised it: the *holder*. A holder that registers its lab is found by
//! `vpc-lab list`, entered by `vpc-lab enter` and ended by `vpc-lab down`. A program that wants to leave its lab
//! behind and still give the terminal back [begins](begin) with a *front*: a process that only waits for
//! the holder, and that [`Holder::keep`] lets go.

mod join;
mod register;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process, setsid};

pub use join::{Place, join};
pub use register::{Held, Registration, find, list};

use crate::{Lab, sandbox};

/// Tells the second process of [`begin`] which one it is.
pub(crate) const BEHIND_A_FRONT: &str = "VPC_LAB_BEHIND_A_FRONT";

/// Which of the two processes this is.
#[derive(Debug)]
pub enum Side {
    /// The front: all is done, and `main` returns this.
    Front(ExitCode),
    /// The holder, already in the [sandbox]: here the program goes on.
    Holder(Holder),
}

/// The holder's end of what ties it to its front.
#[derive(Debug)]
pub struct Holder {
    front: UnixStream,
}

/// Starts this program a second time, in the sandbox, with the same arguments and output, and waits for it. To be
/// called first in `main`, instead of [`sandbox::enter`]. If the front dies, so does the holder.
///
/// # Errors
/// As [`sandbox::enter`], or when the program can't be started again.
pub fn begin() -> anyhow::Result<Side> {
    if std::env::var_os(BEHIND_A_FRONT).is_some() {
        sandbox::enter()?;
        return Ok(Side::Holder(Holder::new()?));
    }
    let (mut ours, theirs) = UnixStream::pair()?;
    let mut holder = Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .env(BEHIND_A_FRONT, "1")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .context("starting this program again, to hold the lab")?;
    let mut code = [0];
    if ours.read_exact(&mut code).is_ok() {
        return Ok(Side::Front(ExitCode::from(code[0])));
    }
    let status = holder.wait()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(Side::Front(code.map_or(ExitCode::FAILURE, ExitCode::from)))
}

impl Holder {
    /// Takes the front's line, which is where standard input would be.
    fn new() -> anyhow::Result<Holder> {
        let front = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
        // What this program starts must not inherit the line.
        replace(std::io::stdin().as_raw_fd(), &File::open("/dev/null")?)?;
        let mut watched = front.try_clone()?;
        // Nothing is ever sent to the holder: the read ends when the front does.
        thread::spawn(move || {
            let let_go = watched.read(&mut [0]).is_err();
            if !let_go && rustix::process::getsid(None).ok() != Some(rustix::process::getpid()) {
                // As if it had been sent to the whole group.
                kill_process(rustix::process::getpid(), Signal::TERM).ok();
            }
        });
        Ok(Holder { front })
    }

    /// Lets the front exit with `code`, and stays with the lab until `vpc-lab down`, SIGTERM or SIGINT. The terminal
    /// is given back: from here on, output goes nowhere.
    ///
    /// # Errors
    /// When the lab can't be registered.
    pub fn keep(self, name: &str, lab: &Lab, code: u8) -> anyhow::Result<()> {
        let _registration = Registration::new(name, lab)?;
        setsid().context("leaving the terminal's session")?;
        std::io::stdout().flush()?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        for descriptor in [std::io::stdout().as_raw_fd(), std::io::stderr().as_raw_fd()] {
            replace(descriptor, &null)?;
        }
        let mut front = self.front;
        front
            .write_all(&[code])
            .context("letting the front process go")?;
        wait_for_the_end()
    }
}

/// Waits for SIGINT, SIGTERM or SIGHUP.
///
/// # Errors
/// When signals can't be caught.
pub fn wait_for_the_end() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        Ok(())
    })
}

/// Ends a held lab, and returns when it is gone.
///
/// # Errors
/// When it may not be ended, or does not go even when killed.
pub fn take_down(lab: &Held) -> anyhow::Result<()> {
    let pid = i32::try_from(lab.pid)
        .ok()
        .and_then(Pid::from_raw)
        .context("a pid of 0")?;
    for signal in [Signal::TERM, Signal::KILL] {
        match kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error).with_context(|| format!("ending process {}", lab.pid)),
        }
        for _ in 0..500 {
            if !lab.is_alive() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
    bail!("process {} does not end", lab.pid)
}

/// Puts `file` in the place of an open descriptor.
fn replace(descriptor: i32, file: &File) -> anyhow::Result<()> {
    #[expect(
        unsafe_code,
        reason = "standard streams have no owner whom the type system knows"
    )]
    // SAFETY: the standard streams are open for the whole life of the process, and this owner is forgotten before
    // it could close them.
    let mut place = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let replaced = rustix::io::dup2(file, &mut place);
    std::mem::forget(place);
    replaced.context("giving the terminal back")
}
