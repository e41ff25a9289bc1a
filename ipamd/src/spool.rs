//! Releases that DELs left behind while ipamd did not answer.
//!
//! A DEL must succeed without the daemon, so the plugin leaves a file (docs/release-spool.md). It is replayed
//! as a DEL and removed once the books have it. That happens at start before any ADD is served, before each
//! ADD while there are such files (a sandbox could else be added and then lose its address to its own older
//! DEL), and every minute, for a plugin that gave up on a busy or restarting ipamd.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipam::{Answer, Event, Sandbox};
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::engine::{Engine, Gone};

const EVERY: Duration = Duration::from_secs(60);

/// The folder of releases. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Spool {
    folder: Arc<Path>,
    engine: Engine,
    /// One replay at a time: between reading a file and removing it, nobody else may act on it.
    turn: Arc<Mutex<()>>,
}

#[derive(Debug, Deserialize)]
struct Release {
    container_id: String,
    ifname: String,
}

impl Spool {
    /// The spool beside the socket.
    pub(crate) fn beside(socket: &Path, engine: Engine) -> Self {
        Self {
            folder: socket.with_file_name("spool").into(),
            engine,
            turn: Arc::default(),
        }
    }

    /// Replays what is there. A file that can't be understood is renamed aside, and said.
    pub(crate) async fn replay(&self) -> Result<(), Gone> {
        // Also with no file to be seen: it may just have been withdrawn by the ADD that asks, while another
        // replay still acts on what it has read.
        let _turn = self.turn.lock().await;
        // On tmpfs, and nearly always absent or empty: cheap enough to do inline before each ADD.
        for file in self.files() {
            match read(&file) {
                Ok(sandbox) => self.release(&file, sandbox).await?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => set_aside(&file, &error),
            }
        }
        Ok(())
    }

    /// Replays again and again until the pool is gone.
    pub(crate) async fn watch(self) {
        let mut ticks = tokio::time::interval(EVERY);
        loop {
            ticks.tick().await;
            if self.replay().await.is_err() {
                return;
            }
        }
    }

    async fn release(&self, file: &Path, sandbox: Sandbox) -> Result<(), Gone> {
        let released = sandbox.clone();
        let answer = self
            .engine
            .request(|request| Event::Del { request, sandbox })
            .await?;
        match answer {
            Answer::Refused(refusal) => {
                tracing::warn!(sandbox = %released, "a spooled release stays for later: {refusal}");
            }
            _ => {
                tracing::info!(sandbox = %released, "replayed a release that a DEL left behind");
                if let Err(error) = fs::remove_file(file) {
                    tracing::warn!(file = %file.display(), "a replayed release can't be removed: {error}");
                }
            }
        }
        Ok(())
    }

    /// In order of their names, for want of a better one: releases do not depend on each other.
    fn files(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            // No folder: no DEL ever found ipamd away.
            return Vec::new();
        };
        let mut files: Vec<_> = entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "json")
            })
            .collect();
        files.sort();
        files
    }
}

fn read(file: &Path) -> io::Result<Sandbox> {
    let release: Release = serde_json::from_slice(&fs::read(file)?)?;
    if release.container_id.is_empty() || release.ifname.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "container_id or ifname is empty",
        ));
    }
    Ok(Sandbox {
        container_id: release.container_id.into(),
        ifname: release.ifname.into(),
    })
}

fn set_aside(file: &Path, error: &io::Error) {
    let aside = file.with_extension("bad");
    let renamed = fs::rename(file, &aside);
    tracing::warn!(
        file = %file.display(),
        "a spooled release can't be understood ({error}); {}",
        match renamed {
            Ok(()) => format!("it is {} now", aside.display()),
            Err(error) => format!("it could not be set aside: {error}"),
        }
    );
}
