//! containerd with runc, on a node of the lab.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use suites::harness::{SOON, eventually};
use vpc_lab::Netns;
use vpc_lab::netns::Running;

use crate::cri::{Cri, LinuxSandbox, NODE, Namespaces, SandboxConfig, SandboxMetadata, Security};
use crate::image;
use crate::programs;

/// Where cgroups are mounted, of either version.
const CGROUPS: &str = "/sys/fs/cgroup";

/// What the names of our cgroups begin with; the pid of the suite follows.
const CGROUP: &str = "weir-runtimes-";

/// Which containerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    /// The machine's own: Debian 12 has 1.6, which calls ADD and DEL.
    Debians,
    /// [`programs::containerd_2`], which calls STATUS too.
    Two,
}

impl Release {
    pub(crate) const ALL: [Self; 2] = [Self::Debians, Self::Two];

    /// Builds it unless it is there.
    pub(crate) fn install(self) -> anyhow::Result<()> {
        match self {
            Self::Debians => Ok(()),
            Self::Two => programs::containerd_2().install(),
        }
    }

    /// What `ctr` needs to unpack an image for the native snapshotter.
    fn import_options(self) -> &'static [&'static str] {
        match self {
            Self::Debians => &[],
            // Its service for that is set up for overlayfs alone.
            Self::Two => &["--local"],
        }
    }

    /// The `PATH` by which its programs are found.
    fn path(self) -> anyhow::Result<OsString> {
        let machines = std::env::var_os("PATH").unwrap_or_default();
        let own = match self {
            Self::Debians => None,
            Self::Two => Some(programs::containerd_2().bin()),
        };
        let folders = own.into_iter().chain(std::env::split_paths(&machines));
        Ok(std::env::join_paths(folders)?)
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Debians => "debians_containerd",
            Self::Two => "containerd_2",
        })
    }
}

/// A containerd, and all that it starts. They share a PID namespace, so that none outlives this, however this process
/// ends; and a mount namespace, so that nothing has to be unmounted.
pub(crate) struct Containerd {
    /// `unshare`, whose child is the namespace's first process: a shell that starts the rest.
    first: Running,
    /// The shell's standard input; when it is closed, the shell ends, and all with it.
    shell: Option<ChildStdin>,
    scripts: usize,
    folder: PathBuf,
    release: Release,
}

impl Containerd {
    /// Starts containerd in a node's network namespace, with an image to run, and waits until it answers. All its files
    /// lie in `folder`, which may be of an earlier one: then it finds what that left, as after a reboot.
    pub(crate) async fn start(
        release: Release,
        node: &Netns,
        folder: &Path,
        conf_dir: &Path,
        bin_dir: &Path,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        // What does not outlive a reboot.
        for gone in ["state", "containerd.sock"] {
            remove(&folder.join(gone))?;
        }
        let config = config(folder, conf_dir, bin_dir);
        fs::write(folder.join("config.toml"), config)?;
        let mut command = Command::new("unshare");
        let log = File::create(folder.join("shell.log"))?;
        command
            .env("PATH", release.path()?)
            .args(["--pid", "--fork", "--kill-child=KILL", "--mount-proc", "sh"])
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut first = node.spawn(command)?;
        let shell = first.child().stdin.take();
        let mut containerd = Self {
            first,
            shell,
            scripts: 0,
            folder: folder.to_owned(),
            release,
        };
        containerd.launch().await?;
        Ok(containerd)
    }

    /// Starts containerd, and waits until it answers and has the image.
    pub(crate) async fn launch(&mut self) -> anyhow::Result<()> {
        let folder = self.folder.display();
        let start = format!(
            "containerd --config {folder}/config.toml >>{folder}/log 2>&1 & echo $! >{folder}/pid"
        );
        self.script(&start).await?;
        let asked = eventually("containerd answers", async || {
            let answer = async { self.cri().await?.is("RuntimeReady").await };
            Ok(answer.await.ok().filter(|ready| *ready))
        });
        asked
            .await
            .with_context(|| format!("the end of its log:\n{}", self.log_tail()))?;
        let archive = self.folder.join("image.tar");
        if !archive.exists() {
            image::write(&mut File::create(&archive)?)?;
        }
        let import = Command::new("ctr")
            .env("PATH", self.release.path()?)
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", "k8s.io", "images", "import"])
            .args(self.release.import_options())
            .args(["--snapshotter", "native"])
            .arg(&archive)
            .stdin(Stdio::null())
            .output()
            .context("starting ctr")?;
        ensure!(import.status.success(), "ctr import: {import:?}");
        Ok(())
    }

    /// Kills containerd alone: its shims and pods stay.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        let pid = fs::read_to_string(self.folder.join("pid"))?;
        let pid = pid.trim();
        self.script(&format!("kill -KILL {pid}; wait {pid}; test $? = 137"))
            .await
    }

    /// The kubelet's connection to it.
    pub(crate) async fn cri(&self) -> anyhow::Result<Cri> {
        Cri::connect(&self.socket()).await
    }

    /// Runs a line of shell among containerd's processes, until it succeeds.
    pub(crate) async fn script(&mut self, line: &str) -> anyhow::Result<()> {
        self.scripts += 1;
        let told = self.folder.join(format!("script-{}", self.scripts));
        let path = told.display();
        // The status is there whole or not at all.
        writeln!(
            self.shell.as_mut().context("the shell's stdin")?,
            "{line}\necho $? >{path}.new; mv {path}.new {path}"
        )?;
        let ended = eventually("a line of shell", async || {
            Ok(fs::read_to_string(&told).ok())
        });
        let status = ended.await.with_context(|| line.to_owned())?;
        let said = fs::read_to_string(self.folder.join("shell.log")).unwrap_or_default();
        ensure!(status.trim() == "0", "`{line}` ended with {status}: {said}");
        Ok(())
    }

    /// The end of its log, for people.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("containerd.sock")
    }
}

impl Drop for Containerd {
    /// Returns when everything in the namespace has ended: what follows may use the folder.
    fn drop(&mut self) {
        drop(self.shell.take());
        let deadline = Instant::now() + SOON;
        while let Ok(None) = self.first.child().try_wait()
            && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn config(folder: &Path, conf_dir: &Path, bin_dir: &Path) -> String {
    let (folder, conf_dir, bin_dir) = (folder.display(), conf_dir.display(), bin_dir.display());
    let image = image::NAME;
    // The native snapshotter copies: it works on any filesystem. Without CAP_SYS_RESOURCE no process may be protected
    // from the OOM killer, which containerd wants for its pods.
    // Version 2 of the file is what 1.6 reads, and 2.4 still takes.
    format!(
        r#"version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp", "io.containerd.nri.v1.nri",
]
[grpc]
address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{image}"
restrict_oom_score_adj = true
stream_server_address = "127.0.0.1"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".cni]
conf_dir = "{conf_dir}"
bin_dir = "{bin_dir}"
"#
    )
}

/// A pod as the kubelet asks for it, in a network namespace of its own.
pub(crate) fn pod(name: &str) -> SandboxConfig {
    SandboxConfig {
        metadata: Some(SandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-of-{name}"),
            namespace: "demo".to_owned(),
        }),
        log_directory: String::new(),
        port_mappings: Vec::new(),
        linux: Some(LinuxSandbox {
            cgroup_parent: format!("/{CGROUP}{}", std::process::id()),
            security: None,
        }),
    }
}

/// Whether pods can be run here at all: one is, on the node's own network, where no plugin is called.
///
/// # Errors
/// When they can't: with the reason, for the skip.
pub(crate) fn works_here(release: Release) -> anyhow::Result<()> {
    for program in ["containerd", "ctr", "runc"] {
        let mut command = Command::new(program);
        command.env("PATH", release.path()?);
        let started = command.arg("--version").output();
        ensure!(
            started.is_ok_and(|output| output.status.success()),
            "{program} is not in PATH (Debian packages containerd and runc)"
        );
    }
    remove_cgroups()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let works = runtime.block_on(run_on_the_nodes_network(release));
    works.context("containerd runs no pods here")
}

async fn run_on_the_nodes_network(release: Release) -> anyhow::Result<()> {
    let netns = Netns::create("containerd-works")?;
    let folder = Path::new("/run/containerd-works");
    let containerd = Containerd::start(release, &netns, folder, folder, folder).await?;
    let mut config = pod("works");
    if let Some(linux) = &mut config.linux {
        let namespaces = Some(Namespaces { network: NODE });
        linux.security = Some(Security { namespaces });
    }
    let cri = containerd.cri().await?;
    let sandbox = cri.run(&config).await?;
    let container = cri
        .start(&sandbox, &config, "works", image::NAME, &[])
        .await?;
    // Run, it says that it knows no such word.
    let said = cri.exec(&container, &[image::PROGRAM, "well?"]).await?;
    ensure!(said.exit_code == 1, "{said:?}");
    drop(containerd);
    remove(folder)
}

/// Removes the cgroups of this process's pods, and of suites that were killed. The processes in them die in their
/// own time.
///
/// # Errors
/// When some of ours can't be removed within 20 s.
pub(crate) fn remove_cgroups() -> anyhow::Result<()> {
    let ours = std::process::id().to_string();
    // Version 1 has a hierarchy for each controller.
    let mut roots = folders(Path::new(CGROUPS)).unwrap_or_default();
    roots.push(CGROUPS.into());
    for folder in roots
        .iter()
        .flat_map(|root| folders(root).unwrap_or_default())
    {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        match name.strip_prefix(CGROUP) {
            Some(pid) if pid == ours => remove_soon(&folder)?,
            // Another user's can't be removed.
            Some(pid) if !Path::new("/proc").join(pid).exists() => drop(remove_cgroup(&folder)),
            _ => {}
        }
    }
    Ok(())
}

fn remove_soon(folder: &Path) -> anyhow::Result<()> {
    let deadline = Instant::now() + SOON;
    while let Err(error) = remove_cgroup(folder) {
        if Instant::now() > deadline {
            bail!("removing {}: {error}", folder.display());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A cgroup goes by `rmdir` when it has no process and no child; its files need not be removed.
fn remove_cgroup(folder: &Path) -> io::Result<()> {
    for child in folders(folder)? {
        remove_cgroup(&child)?;
    }
    fs::remove_dir(folder)
}

fn folders(of: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(of)?.filter_map(Result::ok);
    Ok(entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect())
}

/// Removes what may be there.
fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else if path.exists() {
        fs::remove_file(path)
    } else {
        Ok(())
    };
    removed.with_context(|| format!("removing {}", path.display()))
}
