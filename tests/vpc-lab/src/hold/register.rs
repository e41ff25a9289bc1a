//! The files by which held labs are found: one per holder, in the folder for temporary files.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use crate::Lab;

const PREFIX: &str = "vpc-lab-";

/// A lab that somebody holds, as its file tells.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Held {
    /// What it was called.
    pub name: String,
    /// The holder.
    pub pid: u32,
    /// When the holder was started, in clock ticks since boot: a pid may come again, this with it may not.
    started: u64,
    /// The prefix of its namespaces.
    pub prefix: String,
    /// Its nodes.
    pub nodes: Vec<HeldNode>,
    /// What it looks like, for people.
    pub description: String,
}

/// A node of a held lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HeldNode {
    /// Its name.
    pub name: String,
    /// What [`crate::Node::env`] said.
    pub env: Vec<(String, String)>,
}

impl Held {
    /// Whether its holder still runs.
    pub fn is_alive(&self) -> bool {
        started(self.pid).is_some_and(|started| started == self.started)
    }

    /// Its namespaces, with those of pods.
    ///
    /// # Errors
    /// When the holder has gone, or belongs to somebody else.
    pub fn namespaces(&self) -> anyhow::Result<Vec<String>> {
        let folder = format!("/proc/{}/root/run/netns", self.pid);
        let mut names = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("reading {folder}"))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }
}

/// Keeps a lab findable; dropped, it is not.
#[derive(Debug)]
pub struct Registration {
    path: PathBuf,
}

impl Registration {
    /// Writes the file.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn new(name: &str, lab: &Lab) -> anyhow::Result<Registration> {
        let pid = std::process::id();
        let held = Held {
            name: name.to_owned(),
            pid,
            started: started(pid).context("reading /proc/self/stat")?,
            prefix: lab.prefix().to_owned(),
            nodes: lab
                .nodes()
                .iter()
                .map(|node| HeldNode {
                    name: node.name().to_owned(),
                    env: node.env().to_vec(),
                })
                .collect(),
            description: lab.describe(),
        };
        let path = std::env::temp_dir().join(format!("{PREFIX}{pid}.json"));
        // Left by an earlier process with our pid, if at all.
        fs::remove_file(&path).ok();
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("writing {}", path.display()))?;
        file.write_all(&serde_json::to_vec_pretty(&held)?)?;
        Ok(Registration { path })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        fs::remove_file(&self.path).ok();
    }
}

/// All labs of this user that are held now. The files of those that died unexpectedly are swept away.
///
/// # Errors
/// When the folder for temporary files can't be read.
pub fn list() -> anyhow::Result<Vec<Held>> {
    let folder = std::env::temp_dir();
    let mut labs = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with(PREFIX) || !name.ends_with(".json") {
            continue;
        }
        let Some(held) = read(&path) else { continue };
        if held.is_alive() {
            labs.push(held);
        } else {
            fs::remove_file(&path).ok();
        }
    }
    labs.sort_by_key(|lab| lab.pid);
    Ok(labs)
}

/// The lab of this name or pid; the only one, if none is named.
///
/// # Errors
/// When there is none, or more than one.
pub fn find(which: Option<&str>) -> anyhow::Result<Held> {
    let mut labs = list()?;
    labs.retain(|lab| which.is_none_or(|w| lab.name == w || lab.pid.to_string() == w));
    match (labs.len(), which) {
        (1, _) => Ok(labs.remove(0)),
        (0, None) => bail!("no lab is up; raise one with `vpc-lab up`"),
        (0, Some(which)) => bail!("no lab {which:?} is up; see `vpc-lab list`"),
        _ => bail!("several labs are up; choose one by --lab NAME or PID from `vpc-lab list`"),
    }
}

/// A file of this user's own; anybody may put files there.
fn read(path: &Path) -> Option<Held> {
    let file = File::open(path).ok()?;
    if file.metadata().ok()?.uid() != geteuid().as_raw() {
        return None;
    }
    serde_json::from_reader(file).ok()
}

/// The 22nd field of `/proc/PID/stat` (proc(5)); the second may contain anything, in parentheses. `None` when
/// there is no such process, or only its remains.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    if *fields.first()? == "Z" {
        return None;
    }
    fields.get(19)?.parse().ok()
}
