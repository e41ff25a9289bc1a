//! How much of EC2 the pool asks for when EC2 is in trouble, or a person says so.

use std::fmt;
use std::str::FromStr;

/// From all to nothing. Pods get addresses that are held in every mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Everything.
    #[default]
    Normal,
    /// Only what who waits needs: nothing is kept warm and nothing is given back.
    AllocateOnly,
    /// No call that changes anything: pods get what is held.
    Frozen,
}

/// A text that is no mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a mode: it is one of normal, allocate-only and frozen")]
pub struct ModeError(String);

impl Mode {
    /// `normal`, `allocate-only` or `frozen`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::AllocateOnly => "allocate-only",
            Self::Frozen => "frozen",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Mode {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, ModeError> {
        [Self::Normal, Self::AllocateOnly, Self::Frozen]
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or_else(|| ModeError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_read_as_it_is_written_and_nothing_else_is_a_mode() {
        for (mode, name) in [
            (Mode::Normal, "normal"),
            (Mode::AllocateOnly, "allocate-only"),
            (Mode::Frozen, "frozen"),
        ] {
            assert_eq!(mode.to_string(), name);
            assert_eq!(name.parse(), Ok(mode));
        }
        for wrong in ["", "Frozen", "allocate"] {
            let error = wrong.parse::<Mode>().unwrap_err().to_string();
            assert!(error.contains(&format!("{wrong:?}")), "{error}");
        }
    }
}
