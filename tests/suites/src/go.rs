//! Go programs: those of others, at pinned versions, built from their modules, and our own of one file.

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
    /// Build tags for all of them, separated by commas.
    pub tags: &'static str,
    /// Programs of our own, by name: the text of their one file, which imports nothing but Go's library.
    pub sources: &'static [(&'static str, &'static str)],
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
        let mut wanted = self.packages.concat().join("\n");
        for (name, source) in self.sources {
            wanted += &format!("\n{name}\n{source}");
        }
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
            self.go("install", |go| go.args(*packages))
                .with_context(|| format!("{} can't be had", packages.join(", ")))?;
        }
        for (name, source) in self.sources {
            let file = self.folder.join(format!("{name}.go"));
            fs::write(&file, source)?;
            let out = self.bin().join(name);
            self.go("build", |go| go.arg("-o").arg(out).arg(&file))
                .with_context(|| format!("building {name}.go"))?;
        }
        fs::write(installed, wanted)?;
        Ok(())
    }

    fn go(
        &self,
        verb: &str,
        arguments: impl FnOnce(&mut Command) -> &mut Command,
    ) -> anyhow::Result<()> {
        let mut go = Command::new("go");
        // Static, so that they run anywhere.
        go.args([verb, "-trimpath", "-ldflags=-s -w", "-tags", self.tags])
            .env("CGO_ENABLED", "0")
            .env("GOBIN", self.bin())
            .current_dir(&self.folder);
        run(&self.folder, arguments(&mut go))
    }
}
