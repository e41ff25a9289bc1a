//! Identifiers: one type each, so that none is taken for another. Cheap to clone.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Shared text in serde's data model: a string.
mod text {
    use std::sync::Arc;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<str>, D::Error> {
        String::deserialize(from).map(Arc::from)
    }
}

macro_rules! string_ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(#[serde(with = "text")] Arc<str>);

        impl $name {
            /// Takes the identifier as AWS gave it.
            pub fn new(id: impl Into<Arc<str>>) -> Self {
                Self(id.into())
            }

            /// The identifier as AWS gave it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                // In a pool most ids are clones of one: then there is nothing to compare.
                if Arc::ptr_eq(&self.0, &other.0) {
                    Ordering::Equal
                } else {
                    self.0.cmp(&other.0)
                }
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

string_ids! {
    /// `i-0123456789abcdef0`.
    InstanceId;
    /// `eni-0123456789abcdef0`.
    EniId;
    /// `eni-attach-0123456789abcdef0`.
    AttachmentId;
    /// `subnet-0123456789abcdef0`.
    SubnetId;
    /// `sg-0123456789abcdef0`.
    SecurityGroupId;
    /// `vpc-0123456789abcdef0`.
    VpcId;
    /// EC2's idempotency token: the same token and parameters give the same ENI, however often asked.
    ClientToken;
}

/// A MAC address; EC2 and the kernel name an ENI's link by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

/// A text that is not a MAC address.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a MAC address: expected six pairs of hexadecimal digits joined by colons")]
pub struct MacError(String);

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let malformed = || MacError(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts
                .next()
                // `from_str_radix` takes a sign as well.
                .filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))
                .ok_or_else(malformed)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| malformed())?;
        }
        if parts.next().is_some() {
            return Err(malformed());
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Mac {
    type Error = MacError;

    fn try_from(text: String) -> Result<Self, MacError> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A moment: milliseconds of the node's `CLOCK_BOOTTIME`, which never steps, goes on through a restart of
/// ipamd, and ends with the boot, as the books do.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Time(pub u64);

impl Time {
    /// The moment `duration` later; the end of time when there is none.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
        )
    }

    /// How long ago `earlier` was; nothing when it is yet to come.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// What addresses are held by: one interface of one pod sandbox.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sandbox {
    /// `CNI_CONTAINERID`.
    #[serde(with = "text")]
    pub container_id: Arc<str>,
    /// `CNI_IFNAME`.
    #[serde(with = "text")]
    pub ifname: Arc<str>,
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.container_id, self.ifname)
    }
}

/// The pod that a sandbox belongs to: for people, nothing is decided by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pod {
    /// Its namespace; empty when unknown.
    pub namespace: String,
    /// Its name; empty when unknown.
    pub name: String,
    /// Its uid; empty when unknown.
    pub uid: String,
}

/// One request of a plugin, so that its answer finds the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// One call to EC2, so that its reply is matched to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Counts the changes of the [`Ledger`](crate::Ledger): what has version n on disk has all before it too.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct BooksVersion(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_six_pairs_of_hexadecimal_digits_and_nothing_else() {
        let mac: Mac = "02:00:0A:00:01:05".parse().unwrap();
        assert_eq!(mac, Mac([2, 0, 10, 0, 1, 5]));
        assert_eq!(mac.to_string(), "02:00:0a:00:01:05");
        assert_eq!(format!("{mac:?}"), mac.to_string());
        for wrong in [
            "",
            "02:00:0a:00:01",
            "02:00:0a:00:01:05:06",
            "02:00:0a:00:01:5",
            "02:00:0a:00:01:+5",
            "02:00:0a:00:01:g5",
            "02-00-0a-00-01-05",
        ] {
            let error = wrong.parse::<Mac>().unwrap_err().to_string();
            assert!(error.contains(&format!("{wrong:?}")), "{error}");
        }
    }

    #[test]
    fn a_sandbox_reads_as_its_container_and_its_interface() {
        let sandbox = Sandbox {
            container_id: "0f3a".into(),
            ifname: "eth0".into(),
        };
        assert_eq!(sandbox.to_string(), "0f3a/eth0");
    }
}
