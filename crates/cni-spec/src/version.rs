//! The versions of the contract.

use std::fmt;

use crate::error::{Code, Error};

/// A version of the contract that is spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 0.3.0
    V0_3_0,
    /// 0.3.1
    V0_3_1,
    /// 0.4.0: CHECK, and prevResult at DEL.
    V0_4_0,
    /// 1.0.0: no `version` in `ips`.
    V1_0_0,
    /// 1.1.0: GC, STATUS, and `mtu` of an interface.
    V1_1_0,
}

/// What a configuration without a `cniVersion` means (the reference skeleton's rule).
const UNSAID: &str = "0.1.0";

impl Version {
    /// All of them, oldest first.
    pub const SUPPORTED: [Self; 5] = [
        Self::V0_3_0,
        Self::V0_3_1,
        Self::V0_4_0,
        Self::V1_0_0,
        Self::V1_1_0,
    ];

    /// The newest.
    pub const LATEST: Self = Self::V1_1_0;

    /// `1.1.0` and so on.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// The version that a configuration asks for. Only an exact member will do: there is no range logic in
    /// the contract.
    ///
    /// # Errors
    /// Code 1 for any other, naming those that would do.
    pub fn of_config(said: Option<&str>) -> Result<Self, Error> {
        let asked = said.unwrap_or(UNSAID);
        if let Some(version) = Self::SUPPORTED.into_iter().find(|v| v.as_str() == asked) {
            return Ok(version);
        }
        let unsaid = if said.is_none() {
            " (it says none, which means 0.1.0)"
        } else {
            ""
        };
        let supported = Self::SUPPORTED.map(Self::as_str).join(", ");
        Err(Error::new(
            Code::IncompatibleVersion,
            "incompatible CNI versions",
            format!("config is \"{asked}\"{unsaid}, plugin supports {supported}"),
        ))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_members_are_spoken() {
        for version in Version::SUPPORTED {
            assert_eq!(Version::of_config(Some(version.as_str())), Ok(version));
        }
        for other in [
            "0.1.0", "0.2.0", "0.3", "1.0", "1.0.1", "1.2.0", "", "v1.0.0", " 1.0.0",
        ] {
            let error = Version::of_config(Some(other)).unwrap_err();
            assert_eq!(error.code.number(), 1, "{other:?}");
            assert!(
                error.details.contains(&format!("config is {other:?}")),
                "{}",
                error.details
            );
            assert!(error.details.contains("0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"));
        }
    }

    #[test]
    fn a_version_that_is_not_said_is_0_1_0_and_refused() {
        let error = Version::of_config(None).unwrap_err();
        assert_eq!(error.code.number(), 1);
        assert!(error.details.contains("\"0.1.0\""), "{}", error.details);
    }
}
