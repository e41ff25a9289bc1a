//! Go programs of others, at pinned versions, built from their modules.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::install::run;

/// Go programs, and where they are installed.
#[derive(Debug)]
pub struct GoPrograms {
    /// What `go install` takes, as `module/path@version`; those of one module together.
    pub packages: &'static [&'static [&'static str]],
    /// A folder for these programs alone.
    pub folder: PathBuf,
}

impl GoPrograms {
    /// The folder in which the programs lie.
    #[must_use]
    pub fn bin(&self) -> PathBuf {
        self.folder.join("bin")
    }

    /// Builds the programs unless they are there. To be called outside the sandbox, which has no way to the module proxy.
    ///
    /// # Errors
    /// When there is no Go, or the modules can't be had: with the reason, for the skip.
    pub fn install(&self) -> anyhow::Result<()> {
        let installed = self.folder.join("installed");
        let wanted = self.packages.concat().join("\n");
        if fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
            return Ok(());
        }
        let go = Command::new("go")
            .arg("version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        ensure!(
            go.is_ok_and(|status| status.success()),
            "there is no Go here: `go` is not in PATH"
        );
        fs::create_dir_all(&self.folder)?;
        for packages in self.packages {
            println!("installing {} for the first time", packages.join(", "));
            run(
                &self.folder,
                Command::new("go")
                    .args(["install", "-trimpath", "-ldflags=-s -w"])
                    .args(*packages)
                    .env("CGO_ENABLED", "0")
                    .env("GOBIN", self.bin())
                    .current_dir(&self.folder),
            )
            .with_context(|| format!("{} can't be had", packages.join(", ")))?;
        }
        fs::write(installed, wanted)?;
        Ok(())
    }
}
