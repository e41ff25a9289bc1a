//! A few lines in a file, for the person who asks what the plugin did. Never on stdout.

use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use crate::settings::Settings;

/// How much to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// What failed.
    Error,
    /// Each verb's outcome too.
    Info,
    /// Each step too.
    Debug,
}

/// One call's log. What can't be logged is not: a full disk must not cost a pod its network.
#[derive(Debug)]
pub(crate) struct Journal {
    file: Option<File>,
    level: Level,
    /// The verb, and whom it is about.
    subject: String,
    started: Instant,
}

/// Beyond this many bytes the file is renamed to `*.old`, in place of the one before.
const ROTATE_AT: u64 = 10 << 20;

impl Journal {
    /// `subject`: the attachment, or the network.
    pub(crate) fn open(settings: &Settings, verb: &str, subject: impl Display) -> Self {
        Self {
            file: settings.log_file.as_deref().and_then(append_to),
            level: settings.log_level,
            subject: format!("{verb} {subject}"),
            started: Instant::now(),
        }
    }

    pub(crate) fn error(&mut self, what: impl Display) {
        self.line(Level::Error, "ERROR", what);
    }

    pub(crate) fn info(&mut self, what: impl Display) {
        self.line(Level::Info, "INFO", what);
    }

    pub(crate) fn debug(&mut self, what: impl Display) {
        self.line(Level::Debug, "DEBUG", what);
    }

    fn line(&mut self, level: Level, name: &str, what: impl Display) {
        if level > self.level {
            return;
        }
        if let Some(file) = &mut self.file {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            // One write, so that lines of plugins that run at the same time do not mix.
            let line = format!(
                "{} {name} {} {what} ({:.1} ms)\n",
                rfc3339(now),
                self.subject,
                self.started.elapsed().as_secs_f64() * 1000.0,
            );
            let _ignored = file.write_all(line.as_bytes());
        }
    }
}

fn append_to(path: &Path) -> Option<File> {
    if fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() > ROTATE_AT) {
        let mut old = path.as_os_str().to_owned();
        old.push(".old");
        let _ignored = fs::rename(path, old);
    }
    OpenOptions::new().append(true).create(true).open(path).ok()
}

/// UTC.
fn rfc3339(since_1970: Duration) -> impl Display {
    humantime::format_rfc3339_millis(UNIX_EPOCH + since_1970)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::rfc3339;

    #[test]
    fn seconds_become_a_date() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_399, "2000-02-28T23:59:59.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (1_798_761_600, "2027-01-01T00:00:00.007Z"),
        ] {
            let at = Duration::new(seconds, 7_000_000);
            assert_eq!(rfc3339(at).to_string(), date);
        }
    }
}
