//! STATUS: whether an ADD could be served.
//!
//! containerd asks every few seconds, and a failure makes the node NotReady: what runs on it is taken out of its
//! Services, and evicted some minutes later. So what is wrong with the pool's growth is no failure (a full node works),
//! and neither is an ipamd that is being replaced.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cni_spec::{Code, Error, StatusRequest};

use crate::codes;
use crate::ipamd::{Ipamd, Readiness};
use crate::settings::Settings;

/// For how long ipamd may be away or not ready: a DaemonSet replaces its pod well within that.
const GRACE: Duration = Duration::from_secs(60);
/// ipamd answers from memory.
const PATIENCE: Duration = Duration::from_secs(2);

/// Without these no ADD is served, not even from what the node holds.
const FAILURES: &[&str] = &["STARTING", "BOOKS_FAILED", "SHUTTING_DOWN"];

/// Whether an ADD could be served, or could be within the grace.
pub(crate) async fn status(request: &StatusRequest) -> Result<(), Error> {
    let settings = Settings::of(&request.config)?;
    let since = Since::beside(&settings.ipamd_socket);
    let ready = async {
        Ipamd::connect(&settings.ipamd_socket, PATIENCE)
            .await?
            .status(PATIENCE)
            .await
    };
    let (reason, msg) = match ready.await {
        Ok(Readiness::Not { id, reason }) if FAILURES.contains(&id.as_str()) => (id, reason),
        Ok(_) => {
            since.forget();
            return Ok(());
        }
        Err(error) => ("IPAMD_UNREACHABLE".to_owned(), error.to_string()),
    };
    if since.first().is_some_and(|lasted| lasted < GRACE) {
        return Ok(());
    }
    Err(Error::new(
        Code::NotAvailable,
        msg,
        codes::details(
            &reason,
            "pods that run keep their network; new ones wait",
            "see whether Weir's pod runs on this node, and its log",
        ),
    ))
}

/// Since when STATUS would fail: the age of a file beside ipamd's socket. Each call is a process of its own.
struct Since(PathBuf);

impl Since {
    fn beside(socket: &Path) -> Self {
        Self(socket.with_file_name("not-ready-since"))
    }

    /// How long it has been so, from now on if it was not. None where that can't be kept: then there is no grace.
    fn first(&self) -> Option<Duration> {
        // There already as a rule: its age is what counts.
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&self.0);
        if made.is_ok() {
            return Some(Duration::ZERO);
        }
        let changed = fs::metadata(&self.0).and_then(|file| file.modified());
        // A clock that went back is no reason to wait for longer.
        SystemTime::now().duration_since(changed.ok()?).ok()
    }

    fn forget(&self) {
        // Absent as a rule. What can't be removed costs the grace of the next time.
        let _ignored = fs::remove_file(&self.0);
    }
}
