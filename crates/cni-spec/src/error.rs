//! The error object: what a runtime reads from stdout when a verb fails.

use serde::Serialize;

/// Why a verb failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{msg}{}{details}", if details.is_empty() { "" } else { "; " })]
pub struct Error {
    /// For programs.
    pub code: Code,
    /// The sentence for people.
    pub msg: String,
    /// What else is known; may be empty. Runtimes print it after the message.
    pub details: String,
}

/// The contract's codes, and the plugin's own from 100 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// 1: the configuration's cniVersion is not spoken.
    IncompatibleVersion,
    /// 2: a field of the configuration is not supported; the message names it and its value.
    UnsupportedField,
    /// 3: the container is not known. It tells the runtime that no DEL is needed, so it is wrong once
    /// anything was made.
    UnknownContainer,
    /// 4: a `CNI_` variable is missing or malformed; the message names it.
    InvalidEnvironment,
    /// 5: reading or writing failed.
    Io,
    /// 6: what was read is not what it should be: no JSON, or of another shape.
    Decode,
    /// 7: the configuration is JSON, but wrong.
    InvalidConfig,
    /// 8: `CNI_NETNS` is no network namespace for a pod (in the reference's code, not in the text).
    InvalidNetNs,
    /// 11: it will pass; the runtime should try again later.
    TryAgainLater,
    /// 50: STATUS: no ADD can be served.
    NotAvailable,
    /// 51: STATUS: no ADD can be served, and containers already there may have limited connectivity.
    NotAvailableLimited,
    /// 100 and above: the plugin's own.
    Own(OwnCode),
}

/// A code of the plugin's own: 100 or above, since those below belong to the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnCode(u32);

impl OwnCode {
    /// The code 100 + `offset`.
    #[must_use]
    pub const fn from_100(offset: u8) -> Self {
        Self(100 + offset as u32)
    }
}

impl Code {
    /// The number that the runtime reads.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::IncompatibleVersion => 1,
            Self::UnsupportedField => 2,
            Self::UnknownContainer => 3,
            Self::InvalidEnvironment => 4,
            Self::Io => 5,
            Self::Decode => 6,
            Self::InvalidConfig => 7,
            Self::InvalidNetNs => 8,
            Self::TryAgainLater => 11,
            Self::NotAvailable => 50,
            Self::NotAvailableLimited => 51,
            Self::Own(OwnCode(number)) => number,
        }
    }
}

impl Error {
    /// An error with details; pass an empty string where there are none.
    #[must_use]
    pub fn new(code: Code, msg: impl Into<String>, details: impl Into<String>) -> Self {
        Self {
            code,
            msg: msg.into(),
            details: details.into(),
        }
    }

    /// The error object. `cni_version` is the configuration's, as far as it is known: the contract wants it,
    /// though the reference's own errors leave it out.
    #[must_use]
    pub fn to_json(&self, cni_version: &str) -> String {
        #[derive(Serialize)]
        struct Object<'a> {
            #[serde(rename = "cniVersion")]
            cni_version: &'a str,
            code: u32,
            msg: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            details: &'a str,
        }
        let object = Object {
            cni_version,
            code: self.code.number(),
            msg: &self.msg,
            details: &self.details,
        };
        // Strings and a number always serialize; an empty text would still mean failure to a runtime.
        serde_json::to_string(&object).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_object_has_the_keys_of_the_contract() {
        let error = Error::new(Code::TryAgainLater, "not \"now\"", "later");
        let object: Value = serde_json::from_str(&error.to_json("1.0.0")).unwrap();
        assert_eq!(
            object,
            json!({"cniVersion": "1.0.0", "code": 11, "msg": "not \"now\"", "details": "later"})
        );
    }

    #[test]
    fn own_codes_start_at_100() {
        assert_eq!(Code::Own(OwnCode::from_100(0)).number(), 100);
        assert_eq!(Code::Own(OwnCode::from_100(21)).number(), 121);
    }
}
