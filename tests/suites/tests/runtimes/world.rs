//! What the tests stand on: a node that was set up as its DaemonSet does it.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Once;
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use rustix::mount::{MountFlags, mount};
use serde_json::Value;
use suites::harness::eventually;
use suites::node::Node;
use suites::programs;
use vpc_lab::{Lab, LabConfig};

/// Where the plugin and ipamd meet when nobody says otherwise.
const WEIR: &str = "/run/weir";

/// Two m5.large nodes, `a` and `b`, whose ENIs' links come soon after they are attached.
pub(crate) fn lab() -> anyhow::Result<Lab> {
    Lab::start(LabConfig {
        link_lag: Duration::from_millis(50),
        ..LabConfig::default()
    })
}

/// Node `a`, with the plugin installed, ipamd serving and the conflist written.
pub(crate) struct Host<'lab> {
    pub(crate) node: Node<'lab>,
}

impl<'lab> Host<'lab> {
    /// Sets the node up; `portmap` is one of the runtime's own plugins there if there is one.
    pub(crate) async fn start(lab: &'lab Lab, portmap: Option<&Path>) -> anyhow::Result<Self> {
        let mut host = Self::without_ipamd(lab)?;
        if let Some(portmap) = portmap {
            host.add_plugin(portmap)?;
        }
        host.serve().await?;
        Ok(host)
    }

    /// The same up to ipamd's start: the plugin is there, and no conflist.
    pub(crate) fn without_ipamd(lab: &'lab Lab) -> anyhow::Result<Self> {
        hide_var_lib()?;
        let node = Node::new(lab, "a");
        let run_dir = node.lab().run_dir();
        let (bin_dir, conf_dir) = (run_dir.join("bin"), run_dir.join("net.d"));
        fs::create_dir(&bin_dir)?;
        fs::create_dir(&conf_dir)?;
        // There may be an earlier test's.
        if fs::symlink_metadata(WEIR).is_ok() {
            fs::remove_file(WEIR)?;
        }
        symlink(run_dir, WEIR)?;
        let node = node
            .with("MINIMUM_IP_TARGET", 6)
            .with("WARM_IP_TARGET", 2)
            .with("WEIR_CONFLIST_DIR", conf_dir.display())
            .with("WEIR_PLUGIN_DIR", bin_dir.display());
        let host = Self { node };
        host.install_plugin()?;
        Ok(host)
    }

    /// Starts ipamd, and waits until it has written the conflist.
    pub(crate) async fn serve(&mut self) -> anyhow::Result<()> {
        self.node.start_ipamd().await?;
        let conflist = self.conflist_path();
        let written = eventually("ipamd writes the conflist", async || {
            Ok(conflist.is_file().then_some(()))
        });
        written.await
    }

    /// As the init container of the DaemonSet does.
    fn install_plugin(&self) -> anyhow::Result<()> {
        let installed = self
            .node
            .lab()
            .netns()
            .command(programs::path("ipamd")?)
            .args(["install", "--plugin"])
            .arg(programs::path("weir-cni")?)
            .arg("--bin-dir")
            .arg(self.bin_dir())
            .stdin(Stdio::null())
            .output()?;
        ensure!(installed.status.success(), "{installed:?}");
        Ok(())
    }

    /// Where the runtime finds plugins.
    pub(crate) fn bin_dir(&self) -> PathBuf {
        self.node.lab().run_dir().join("bin")
    }

    /// Where the runtime finds conflists.
    pub(crate) fn conf_dir(&self) -> PathBuf {
        self.node.lab().run_dir().join("net.d")
    }

    fn conflist_path(&self) -> PathBuf {
        self.conf_dir().join("10-aws.conflist")
    }

    /// Puts a plugin that is not ours among the runtime's.
    pub(crate) fn add_plugin(&self, program: &Path) -> anyhow::Result<()> {
        let name = program.file_name().context("a program without a name")?;
        symlink(program, self.bin_dir().join(name))
            .with_context(|| format!("adding {}", program.display()))
    }

    /// Changes the conflist, as an operator would.
    pub(crate) fn edit_conflist(&self, edit: impl FnOnce(&mut Value)) -> anyhow::Result<()> {
        let mut conflist = serde_json::from_slice(&fs::read(self.conflist_path())?)?;
        edit(&mut conflist);
        Ok(fs::write(self.conflist_path(), conflist.to_string())?)
    }

    /// Lets the plugin's STATUS, which has failed before, believe that it has failed for so long.
    pub(crate) fn has_missed_ipamd_for(&self, time: Duration) -> anyhow::Result<()> {
        let since = self.node.lab().run_dir().join("not-ready-since");
        let since = File::options().write(true).open(since)?;
        Ok(since.set_modified(SystemTime::now() - time)?)
    }

    /// How many addresses pods own, by ipamd's word.
    pub(crate) async fn owned(&self) -> anyhow::Result<u32> {
        Ok(self.node.pool().await?.totals.context("totals")?.owned)
    }

    /// That nothing of any pod is left on the node.
    pub(crate) async fn is_clean(&self) -> anyhow::Result<()> {
        let (links, owned) = (self.node.pod_links()?, self.owned().await?);
        ensure!(
            (links, owned) == (0, 0),
            "{links} links and {owned} addresses of pods are left:\n{}",
            self.node.log_tail()
        );
        Ok(())
    }
}

/// libcni keeps its results in /var/lib/cni, wherever it runs: here in a folder that only the sandbox has.
fn hide_var_lib() -> anyhow::Result<()> {
    static HIDDEN: Once = Once::new();
    let mut outcome = Ok(());
    HIDDEN.call_once(|| outcome = mount_over_var_lib());
    outcome
}

fn mount_over_var_lib() -> anyhow::Result<()> {
    let here = std::env::current_exe()?;
    ensure!(
        !here.starts_with("/var/lib"),
        "{} is in /var/lib, over which this suite mounts: build elsewhere, by CARGO_TARGET_DIR",
        here.display()
    );
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("weir-runtimes", "/var/lib", "tmpfs", flags, None).context("mounting over /var/lib")
}
