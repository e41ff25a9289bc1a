//! `ipamd install`, and the conflist: what a node needs before a runtime can call the plugin.
//!
//! The image has no shell, so an init container runs `ipamd install` to put the plugin on the node. The conflist
//! is another matter: a runtime that finds it takes the node for ready, so ipamd writes it itself, and only once
//! it serves ([`ConflistArgs`]). Both are put in place by rename, so that a runtime never
//! starts half a plugin nor reads half a conflist.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use datapath::layout::VethPrefix;
use datapath::pod::egress::Egress;

/// Where the image keeps the plugin.
const PLUGIN_IN_IMAGE: &str = "/opt/weir/weir-cni";

/// aws-node's file name, so that whichever of the two wrote last is the one that the runtime uses.
const CONFLIST: &str = "10-aws.conflist";

/// Put the CNI plugin on the node, for an init container.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example, with the node's folders mounted under /host:\n  \
    ipamd install --bin-dir /host/opt/cni/bin"
)]
pub(crate) struct Args {
    /// The plugin to install
    #[arg(long, value_name = "FILE", default_value = PLUGIN_IN_IMAGE)]
    plugin: PathBuf,
    /// The folder from which the container runtime starts plugins
    #[arg(long, value_name = "DIR", default_value = "/host/opt/cni/bin")]
    bin_dir: PathBuf,
}

/// What the plugin is to call pods' links.
#[derive(Clone, Debug, Default, clap::Args)]
struct LinkArgs {
    /// What the names of pods' links on the node begin with: 1 to 4 letters, digits, - or _; for filters that match
    /// interfaces by name. Pods that run keep theirs
    #[arg(
        long,
        env = "AWS_VPC_K8S_CNI_VETHPREFIX",
        value_name = "TEXT",
        default_value = "weir",
        help_heading = "Node"
    )]
    veth_prefix: VethPrefix,
}

/// What ipamd itself takes, for the conflist that it writes once it serves.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ConflistArgs {
    /// Write 10-aws.conflist into this folder once ipamd serves, which makes the node ready; not written
    /// unless given
    #[arg(
        long,
        env = "WEIR_CONFLIST_DIR",
        value_name = "DIR",
        help_heading = "Node"
    )]
    conflist_dir: Option<PathBuf>,
    /// The folder of the runtime's plugins, as ipamd sees it: portmap is chained if it is there
    #[arg(
        long,
        env = "WEIR_PLUGIN_DIR",
        default_value = "/opt/cni/bin",
        value_name = "DIR",
        help_heading = "Node"
    )]
    plugin_dir: PathBuf,
    #[command(flatten)]
    links: LinkArgs,
}

/// The plugin's own fields in the conflist.
#[derive(Default)]
struct Fields {
    /// The family that pods reach by their node; without it the plugin gives them no way there.
    egress: Option<Egress>,
    veth_prefix: VethPrefix,
}

impl ConflistArgs {
    /// Writes the conflist, if it is wanted, and answers its path. To be called when ipamd serves. Safe to repeat.
    ///
    /// # Errors
    /// When the file can't be written; what was there before stands.
    pub(crate) fn write(&self, egress: Option<Egress>) -> Result<Option<PathBuf>, InstallError> {
        let folder = self.conflist_dir.as_deref();
        let fields = Fields {
            egress,
            veth_prefix: self.links.veth_prefix.clone(),
        };
        folder
            .map(|folder| write_conflist(folder, &self.plugin_dir, &fields))
            .transpose()
    }
}

/// Why the plugin or the conflist could not be put in place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    /// The plugin can't be read.
    #[error("reading the plugin {path}: {source}; --plugin says where it is")]
    Source {
        /// Where it was looked for.
        path: PathBuf,
        /// The kernel's words.
        source: io::Error,
    },
    /// A file can't be written.
    #[error(
        "writing {path}: {source}; the folder must exist, be mounted writable, and belong to root"
    )]
    Write {
        /// Where it was to be.
        path: PathBuf,
        /// The kernel's words.
        source: io::Error,
    },
}

/// Carries out `ipamd install`.
///
/// # Errors
/// When the plugin can't be read, or a file can't be written; what was there before stands.
pub(crate) fn run(args: &Args) -> Result<(), InstallError> {
    let plugin = fs::read(&args.plugin).map_err(|source| InstallError::Source {
        path: args.plugin.clone(),
        source,
    })?;
    put(&args.bin_dir, "weir-cni", 0o755, &plugin).map(drop)
}

/// Writes the conflist into `conf_dir`, and answers its path.
///
/// `bin_dir` is where the runtime's plugins are, as seen from here: `portmap`, which is not ours, is chained only
/// if it is there, because a conflist that names a missing plugin fails every ADD.
///
/// # Errors
/// When the file can't be written; what was there before stands.
fn write_conflist(
    conf_dir: &Path,
    bin_dir: &Path,
    fields: &Fields,
) -> Result<PathBuf, InstallError> {
    let path = conf_dir.join(CONFLIST);
    let content = conflist(fields, bin_dir.join("portmap").is_file());
    // Not written again: runtimes reload at each change, and a disk that has filled up must not end an ipamd
    // that restarts on a node that works.
    if fs::read(&path).is_ok_and(|found| found == content.as_bytes()) {
        return Ok(path);
    }
    put(conf_dir, CONFLIST, 0o644, content.as_bytes())
}

/// The conflist. Its name is aws-node's, so that a DEL of a pod that aws-node made brings its previous result; its
/// version is 1.0.0, because containerd 1.x fails every ADD with 1.1.0; runtimes that read `cniVersions` (libcni 1.2 and
/// later) take the highest that they know, and have STATUS and GC by it.
fn conflist(fields: &Fields, has_portmap: bool) -> String {
    let mut veth_prefix = String::new();
    if fields.veth_prefix != VethPrefix::default() {
        // Nothing in it needs to be escaped.
        let prefix = fields.veth_prefix.as_str();
        veth_prefix = format!(",\n      \"vethPrefix\": \"{prefix}\"");
    }
    let egress = match fields.egress {
        Some(Egress::V4) => ",\n      \"egress\": \"v4\"",
        Some(Egress::V6) => ",\n      \"egress\": \"v6\"",
        None => "",
    };
    let portmap = if has_portmap {
        r#",
    {
      "type": "portmap",
      "capabilities": { "portMappings": true },
      "snat": true
    }"#
    } else {
        ""
    };
    format!(
        r#"{{
  "cniVersion": "1.0.0",
  "cniVersions": ["0.4.0", "1.0.0", "1.1.0"],
  "name": "aws-cni",
  "plugins": [
    {{
      "type": "weir-cni"{egress}{veth_prefix}
    }}{portmap}
  ]
}}
"#
    )
}

/// Puts a file in place whole: a temporary file beside it, fsync, rename, fsync of the folder. The temporary name
/// ends in none of `.conf`, `.conflist` and `.json`, which are what runtimes look for.
fn put(folder: &Path, name: &str, mode: u32, content: &[u8]) -> Result<PathBuf, InstallError> {
    let path = folder.join(name);
    let temporary = folder.join(format!(".{name}.weir-new"));
    let written = (|| {
        let mut file = File::create(&temporary)?;
        file.write_all(content)?;
        // After the content, and whatever the umask says.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(folder)?.sync_all()
    })();
    match written {
        Ok(()) => Ok(path),
        Err(source) => {
            // Best effort: the error that matters is the one above.
            drop(fs::remove_file(&temporary));
            Err(InstallError::Write { path, source })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use tempfile::TempDir;

    struct Node {
        _folder: TempDir,
        args: Args,
        conf_dir: PathBuf,
    }

    fn node() -> Node {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("bin")).unwrap();
        fs::create_dir(path("net.d")).unwrap();
        fs::write(path("plugin"), "new").unwrap();
        Node {
            args: Args {
                plugin: path("plugin"),
                bin_dir: path("bin"),
            },
            conf_dir: path("net.d"),
            _folder: folder,
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn types(conflist: &Path) -> Vec<Value> {
        let conflist: Value = serde_json::from_slice(&fs::read(conflist).unwrap()).unwrap();
        assert_eq!(conflist["name"], "aws-cni");
        assert_eq!(conflist["cniVersion"], "1.0.0");
        let versions = conflist["cniVersions"].as_array().unwrap();
        assert_eq!(versions.last().unwrap(), "1.1.0");
        let plugins = conflist["plugins"].as_array().unwrap();
        plugins
            .iter()
            .map(|plugin| plugin["type"].clone())
            .collect()
    }

    #[test]
    fn install_puts_an_executable_plugin_and_nothing_else() {
        let node = node();
        run(&node.args).unwrap();
        assert_eq!(names(&node.args.bin_dir), ["weir-cni"]);
        let installed = node.args.bin_dir.join("weir-cni");
        assert_eq!(fs::read(&installed).unwrap(), b"new");
        assert_eq!(
            fs::metadata(&installed).unwrap().permissions().mode() & 0o777,
            0o755
        );
        assert!(
            names(&node.conf_dir).is_empty(),
            "the node would count as ready"
        );
    }

    #[test]
    fn a_plugin_that_is_running_is_replaced_and_not_written_into() {
        let node = node();
        let installed = node.args.bin_dir.join("weir-cni");
        fs::write(&installed, "old").unwrap();
        let mut running = File::open(&installed).unwrap();
        run(&node.args).unwrap();
        assert_eq!(io::read_to_string(&mut running).unwrap(), "old");
        assert_eq!(fs::read(&installed).unwrap(), b"new");
    }

    #[test]
    fn the_conflist_chains_portmap_only_where_it_is_installed() {
        let node = node();
        let written =
            write_conflist(&node.conf_dir, &node.args.bin_dir, &Fields::default()).unwrap();
        assert_eq!(types(&written), [json!("weir-cni")]);
        fs::write(node.args.bin_dir.join("portmap"), "").unwrap();
        let written =
            write_conflist(&node.conf_dir, &node.args.bin_dir, &Fields::default()).unwrap();
        assert_eq!(types(&written), [json!("weir-cni"), json!("portmap")]);
        assert_eq!(names(&node.conf_dir), ["10-aws.conflist"]);
    }

    #[test]
    fn the_conflist_tells_the_plugin_what_to_call_links_where_that_is_asked_for() {
        let node = node();
        for (prefix, told) in [("weir", Value::Null), ("eni", json!("eni"))] {
            let fields = Fields {
                veth_prefix: prefix.parse().unwrap(),
                ..Fields::default()
            };
            let written = write_conflist(&node.conf_dir, &node.args.bin_dir, &fields).unwrap();
            let conflist: Value = serde_json::from_slice(&fs::read(written).unwrap()).unwrap();
            assert_eq!(conflist["plugins"][0]["vethPrefix"], told, "{conflist:#}");
        }
    }

    #[test]
    fn the_conflist_tells_the_plugin_which_family_pods_reach_by_their_node() {
        let node = node();
        for (egress, told) in [
            (Some(Egress::V4), json!("v4")),
            (Some(Egress::V6), json!("v6")),
            (None, Value::Null),
        ] {
            let fields = Fields {
                egress,
                ..Fields::default()
            };
            let written = write_conflist(&node.conf_dir, &node.args.bin_dir, &fields).unwrap();
            let conflist: Value = serde_json::from_slice(&fs::read(written).unwrap()).unwrap();
            assert_eq!(conflist["plugins"][0]["egress"], told, "{conflist:#}");
        }
    }

    #[test]
    fn a_conflist_that_is_right_already_is_left_alone_and_another_is_replaced() {
        use std::os::unix::fs::MetadataExt;
        let node = node();
        let write = || {
            let path =
                write_conflist(&node.conf_dir, &node.args.bin_dir, &Fields::default()).unwrap();
            (fs::metadata(&path).unwrap().ino(), path)
        };
        let (first, path) = write();
        // Held open, so that its inode's number is not used again.
        let _held = File::open(&path).unwrap();
        assert_eq!(write().0, first);
        fs::write(&path, "{}").unwrap();
        assert_ne!(write().0, first);
        assert_eq!(types(&path), [json!("weir-cni")]);
    }

    #[test]
    fn ipamd_writes_the_conflist_only_where_it_is_told() {
        let node = node();
        let mut wanted = ConflistArgs {
            conflist_dir: None,
            plugin_dir: node.args.bin_dir.clone(),
            links: LinkArgs::default(),
        };
        assert_eq!(wanted.write(None).unwrap(), None);
        assert!(names(&node.conf_dir).is_empty());
        wanted.conflist_dir = Some(node.conf_dir.clone());
        assert_eq!(
            wanted.write(None).unwrap(),
            Some(node.conf_dir.join("10-aws.conflist"))
        );
    }

    #[test]
    fn what_can_not_be_read_or_written_is_named_with_the_remedy() {
        let mut node = node();
        node.args.bin_dir = node.conf_dir.join("nowhere");
        let error = run(&node.args).unwrap_err().to_string();
        assert!(
            error.contains("nowhere/weir-cni") && error.contains("must exist"),
            "{error}"
        );
        node.args.plugin = node.conf_dir.join("no-plugin");
        let error = run(&node.args).unwrap_err().to_string();
        assert!(
            error.contains("no-plugin") && error.contains("--plugin"),
            "{error}"
        );
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file_and_no_temporary_one() {
        let node = node();
        // A folder in its place can't be renamed over.
        let in_the_way = node.args.bin_dir.join("weir-cni");
        fs::create_dir(&in_the_way).unwrap();
        fs::write(in_the_way.join("x"), "").unwrap();
        run(&node.args).unwrap_err();
        assert_eq!(names(&node.args.bin_dir), ["weir-cni"]);
    }

    /// deploy/manifests/weir.yaml, as far as ipamd must understand it.
    const MANIFEST: &str = include_str!("../../deploy/manifests/weir.yaml");

    #[test]
    fn the_manifest_sets_only_what_ipamd_knows() {
        use clap::CommandFactory;
        let command = crate::config::Cli::command();
        let known: Vec<_> = command
            .get_arguments()
            .filter_map(|argument| argument.get_env()?.to_str())
            .collect();
        // Commented-out settings too: somebody will set them.
        let set: Vec<_> = MANIFEST
            .lines()
            .filter_map(|line| line.trim_start_matches([' ', '#']).strip_prefix("- name: "))
            .filter(|name| {
                name.chars()
                    .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
            })
            .collect();
        assert!(
            set.contains(&"CLUSTER_NAME") && set.contains(&"WEIR_CONFLIST_DIR"),
            "{set:?}"
        );
        for name in set {
            assert!(
                known.contains(&name),
                "ipamd knows no {name}, only {known:?}"
            );
        }
    }

    #[test]
    fn the_manifest_calls_ipamd_by_commands_that_it_has() {
        use clap::Parser;
        let commands: Vec<Vec<_>> = MANIFEST
            .lines()
            .filter_map(|line| line.trim().strip_prefix("command: [")?.strip_suffix(']'))
            .map(|words| words.split(", ").collect())
            .collect();
        assert!(
            commands.iter().any(|words| words.contains(&"install")),
            "{commands:?}"
        );
        for words in commands {
            crate::config::Cli::try_parse_from(&words)
                .unwrap_or_else(|error| panic!("{words:?}: {error}"));
        }
    }
}
