//! A few lines in a file, for the person who asks what the plugin did. Never on stdout.

use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

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
    /// The verb, the container and the interface.
    subject: String,
    started: Instant,
}

/// Beyond this many bytes the file is renamed to `*.old`, in place of the one before.
const ROTATE_AT: u64 = 10 << 20;

impl Journal {
    pub(crate) fn open(settings: &Settings, verb: &str, key: &cni_spec::Attachment) -> Self {
        Self {
            file: settings.log_file.as_deref().and_then(append_to),
            level: settings.log_level,
            subject: format!("{verb} {}/{}", key.container_id(), key.ifname()),
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
                rfc3339(now.as_secs(), now.subsec_millis()),
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

/// UTC, by the days-to-civil algorithm for the Gregorian calendar with years that start in March.
fn rfc3339(seconds: u64, millis: u32) -> String {
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn seconds_become_a_date() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_399, "2000-02-28T23:59:59.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (1_798_761_600, "2027-01-01T00:00:00.007Z"),
        ] {
            assert_eq!(rfc3339(seconds, 7), date);
        }
    }
}
