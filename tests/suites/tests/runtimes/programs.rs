//! What the suite installs: cnitool, the reference plugins, and what runs in pods.

use std::path::{Path, PathBuf};

use suites::go::GoPrograms;

fn programs() -> GoPrograms {
    GoPrograms {
        packages: &[
            &["github.com/containernetworking/cni/cnitool@v1.3.0"],
            &[
                // containerd calls it for each pod.
                "github.com/containernetworking/plugins/plugins/main/loopback@v1.9.1",
                "github.com/containernetworking/plugins/plugins/meta/portmap@v1.9.1",
                "github.com/containernetworking/plugins/plugins/meta/bandwidth@v1.9.1",
                "github.com/containernetworking/plugins/plugins/meta/tuning@v1.9.1",
                "github.com/containernetworking/plugins/plugins/meta/firewall@v1.9.1",
            ],
        ],
        tags: "",
        sources: &[("pod", include_str!("pod.go"))],
        folder: Path::new(env!("CARGO_TARGET_TMPDIR")).join("runtimes"),
    }
}

/// The containerd that asks for STATUS: Debian 12 has an older one.
pub(crate) fn containerd_2() -> GoPrograms {
    GoPrograms {
        packages: &[&[
            "github.com/containerd/containerd/v2/cmd/containerd@v2.4.2",
            "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2@v2.4.2",
            "github.com/containerd/containerd/v2/cmd/ctr@v2.4.2",
        ]],
        // Snapshotters that nobody asks for here, and that need C libraries.
        tags: "no_btrfs,no_devmapper,no_zfs",
        sources: &[],
        folder: Path::new(env!("CARGO_TARGET_TMPDIR")).join("containerd-2"),
    }
}

/// Installs them unless they are there.
///
/// # Errors
/// When there is no Go, or the module proxy can't be reached: with the reason, for the skip.
pub(crate) fn install() -> anyhow::Result<()> {
    programs().install()
}

/// The path of one of them.
pub(crate) fn program(name: &str) -> PathBuf {
    programs().bin().join(name)
}
