//! The plugin's own fields in the conflist.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cni_spec::{Code, Error, NetworkConfig};
use datapath::layout::VethPrefix;
use datapath::pod::egress::Egress;
use serde::{Deserialize, Deserializer};

use crate::journal::Level;

/// The fields beside `type`; all have defaults.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Settings {
    /// Where ipamd listens.
    pub(crate) ipamd_socket: PathBuf,
    /// The pod link's MTU in bytes; none takes what ipamd says.
    pub(crate) mtu: Option<u32>,
    /// What the names of the host's ends of pods' links begin with.
    #[serde(deserialize_with = "veth_prefix")]
    pub(crate) veth_prefix: VethPrefix,
    /// The family that pods without an address in it reach by their node's; none leaves them without.
    pub(crate) egress: Option<Family>,
    /// How long an ADD waits for ipamd's answer.
    pub(crate) add_timeout_seconds: u64,
    /// Where to log; none logs nothing.
    pub(crate) log_file: Option<PathBuf>,
    /// How much to log.
    pub(crate) log_level: Level,
}

/// `"v4"` or `"v6"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Family {
    V4,
    V6,
}

fn veth_prefix<'de, D: Deserializer<'de>>(from: D) -> Result<VethPrefix, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(serde::de::Error::custom)
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ipamd_socket: PathBuf::from(proto::DEFAULT_SOCKET),
            mtu: None,
            veth_prefix: VethPrefix::default(),
            egress: None,
            // The kubelet gives up on a sandbox after 4 minutes, and EC2 attaches an ENI well within one.
            add_timeout_seconds: 55,
            log_file: None,
            log_level: Level::Info,
        }
    }
}

/// The smallest MTU that every IPv4 host must take (RFC 791), and the largest that a VPC carries.
const MTU: std::ops::RangeInclusive<u32> = 576..=9001;

/// Up to the kubelet's 4 minutes for a sandbox.
const ADD_TIMEOUT: std::ops::RangeInclusive<u64> = 1..=240;

/// `sun_path` in bytes, without its closing zero (unix(7)).
const SOCKET_PATH_BYTES: usize = 107;

impl Settings {
    /// Reads and checks the fields.
    pub(crate) fn of(config: &NetworkConfig) -> Result<Self, Error> {
        let settings: Self = config.own()?;
        let wrong = |field: &str, found: String, rule: String| {
            Err(Error::new(
                Code::InvalidConfig,
                format!("invalid {field} {found}"),
                rule,
            ))
        };
        let socket = &settings.ipamd_socket;
        if !socket.is_absolute() || socket.as_os_str().len() > SOCKET_PATH_BYTES {
            return wrong(
                "ipamdSocket",
                format!("{}", socket.display()),
                format!("it must be an absolute path of at most {SOCKET_PATH_BYTES} bytes"),
            );
        }
        if let Some(mtu) = settings.mtu.filter(|mtu| !MTU.contains(mtu)) {
            let rule = format!("it must be {} to {} bytes", MTU.start(), MTU.end());
            return wrong("mtu", mtu.to_string(), rule);
        }
        if !ADD_TIMEOUT.contains(&settings.add_timeout_seconds) {
            let rule = format!(
                "it must be {} to {}",
                ADD_TIMEOUT.start(),
                ADD_TIMEOUT.end()
            );
            return wrong(
                "addTimeoutSeconds",
                settings.add_timeout_seconds.to_string(),
                rule,
            );
        }
        Ok(settings)
    }

    /// As [`Settings::of`], but what is wrong gives the defaults: a DEL must not fail over a field that failed
    /// the ADD before it.
    pub(crate) fn of_or_default(config: &NetworkConfig) -> Self {
        Self::of(config).unwrap_or_default()
    }

    /// The way out that a pod with these addresses gets besides.
    pub(crate) fn egress_for(&self, addresses: &[IpAddr]) -> Option<Egress> {
        let egress = match self.egress? {
            Family::V4 => Egress::V4,
            Family::V6 => Egress::V6,
        };
        egress.is_for(addresses).then_some(egress)
    }

    /// How long an ADD waits for ipamd's answer.
    pub(crate) fn add_timeout(&self) -> Duration {
        Duration::from_secs(self.add_timeout_seconds)
    }

    /// Where releases wait for an ipamd that could not be told: beside its socket, on the same tmpfs as its
    /// books, so that the two are lost together at a reboot.
    pub(crate) fn spool(&self) -> PathBuf {
        self.ipamd_socket
            .parent()
            .unwrap_or(Path::new("/"))
            .join("spool")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(fields: &serde_json::Value) -> Result<Settings, Error> {
        let mut config = json!({"cniVersion": "1.0.0", "name": "aws-cni", "type": "weir-cni"});
        config
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        Settings::of(&NetworkConfig::parse(config.to_string().as_bytes()).unwrap())
    }

    #[test]
    fn nothing_said_gives_the_defaults() {
        let settings = read(&json!({"somethingElse": 1})).unwrap();
        assert_eq!(settings, Settings::default());
        assert_eq!(settings.ipamd_socket.to_str(), Some("/run/weir/ipamd.sock"));
        assert_eq!(settings.spool().to_str(), Some("/run/weir/spool"));
        assert_eq!(settings.add_timeout(), Duration::from_secs(55));
    }

    #[test]
    fn what_is_said_is_taken() {
        let settings = read(&json!({
            "ipamdSocket": "/tmp/x/i.sock", "mtu": 1500, "addTimeoutSeconds": 5,
            "logFile": "/tmp/x/log", "logLevel": "debug", "egress": "v4",
            "vethPrefix": "eni",
        }))
        .unwrap();
        assert_eq!(settings.spool().to_str(), Some("/tmp/x/spool"));
        assert_eq!(
            (settings.mtu, settings.add_timeout_seconds),
            (Some(1500), 5)
        );
        assert_eq!(settings.log_level, Level::Debug);
        assert_eq!(settings.egress, Some(Family::V4));
        assert_eq!(settings.veth_prefix.as_str(), "eni");
    }

    #[test]
    fn what_is_wrong_is_code_7_and_named() {
        let long = format!("/{}", "x".repeat(107));
        let cases = [
            (
                json!({"ipamdSocket": "relative.sock"}),
                "ipamdSocket relative.sock",
            ),
            (json!({"ipamdSocket": long}), "ipamdSocket"),
            (json!({"ipamdSocket": 7}), "7"),
            (json!({"mtu": 575}), "mtu 575"),
            (json!({"mtu": 9002}), "mtu 9002"),
            (json!({"mtu": -1}), "-1"),
            (json!({"mtu": "1500"}), "1500"),
            (json!({"addTimeoutSeconds": 0}), "addTimeoutSeconds 0"),
            (json!({"addTimeoutSeconds": 241}), "addTimeoutSeconds 241"),
            (json!({"logLevel": "loud"}), "loud"),
            (json!({"egress": "v5"}), "v5"),
            (json!({"vethPrefix": "eth"}), "\"eth\" can't be the prefix"),
        ];
        for (fields, named) in cases {
            let error = read(&fields).unwrap_err();
            assert_eq!(error.code, Code::InvalidConfig, "{fields}");
            assert!(error.to_string().contains(named), "{fields}: {error}");
        }
    }
}
