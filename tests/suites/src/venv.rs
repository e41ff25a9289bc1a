//! Python programs of others, at pinned versions: a virtual environment for each suite that runs some.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::install::run;

/// Packages from PyPI, and where they are installed.
#[derive(Debug)]
pub struct Venv {
    /// What they are, for people: "LocalStack (245 MB)".
    pub what: &'static str,
    /// What is asked of pip, as `name==version`.
    pub packages: &'static [&'static str],
    /// A constraints file: versions of all that they need in turn.
    pub constraints: &'static str,
    /// A folder for this environment alone.
    pub folder: PathBuf,
}

impl Venv {
    /// The Python that has the packages.
    #[must_use]
    pub fn python(&self) -> PathBuf {
        self.program("python")
    }

    /// A program that came with the packages.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join("venv/bin").join(name)
    }

    /// The folder in which the packages lie.
    ///
    /// # Errors
    /// When there is none.
    pub fn site_packages(&self) -> anyhow::Result<PathBuf> {
        let lib = self.folder.join("venv/lib");
        let python = fs::read_dir(&lib)
            .with_context(|| format!("reading {}", lib.display()))?
            .next()
            .context("a venv without lib/python3")??;
        Ok(python.path().join("site-packages"))
    }

    /// Installs the packages unless they are there. To be called outside the sandbox, which has no way to the index.
    ///
    /// # Errors
    /// When there is no Python with venv, or its package index can't be reached: with the reason, for the skip.
    pub fn install(&self) -> anyhow::Result<()> {
        let installed = self.folder.join("installed");
        let wanted = format!("{}\n{}", self.packages.join("\n"), self.constraints);
        if fs::read_to_string(&installed).is_ok_and(|text| text == wanted) && self.python().exists()
        {
            return Ok(());
        }
        fs::create_dir_all(&self.folder)?;
        let constraints = self.folder.join("constraints.txt");
        fs::write(&constraints, self.constraints)?;
        // Debian's own, before any that a version manager puts in front.
        let system = Path::new("/usr/bin/python3");
        let python3 = if system.exists() {
            system
        } else {
            Path::new("python3")
        };
        run(
            &self.folder,
            Command::new(python3)
                .args(["-m", "venv", "--clear"])
                .arg(self.folder.join("venv")),
        )
        .context("python3 venv not available (Debian package python3-venv)")?;
        println!("installing {} for the first time", self.what);
        run(
            &self.folder,
            Command::new(self.python())
                .env("PIP_CACHE_DIR", self.folder.join("pip-cache"))
                .args(["-m", "pip", "install", "--quiet"])
                .args(["--disable-pip-version-check", "--retries", "2"])
                .args(["--timeout", "15", "--constraint"])
                .arg(&constraints)
                .args(self.packages),
        )
        .with_context(|| format!("{} can't be had from the package index", self.what))?;
        fs::write(installed, wanted)?;
        Ok(())
    }
}
