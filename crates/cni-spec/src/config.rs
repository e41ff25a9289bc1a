//! The network configuration: what the runtime writes to the plugin's stdin.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::environment::{Attachment, Command, is_name};
use crate::error::{Code, Error};
use crate::version::Version;

/// One plugin's configuration out of a conflist, as libcni hands it over.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkConfig {
    version: Version,
    name: String,
    prev_result: Option<Value>,
    all: Map<String, Value>,
}

/// What was read before anything was checked: an error object can carry its cniVersion already.
#[derive(Clone, Debug)]
pub(crate) struct Document(Map<String, Value>);

impl Document {
    pub(crate) fn parse(stdin: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(stdin).map(Self).map_err(|error| {
            Error::new(
                Code::Decode,
                "the network configuration on stdin is not a JSON object",
                error.to_string(),
            )
        })
    }

    /// The cniVersion as it is written, be it right or wrong.
    pub(crate) fn said_version(&self) -> Option<&str> {
        self.0.get("cniVersion").and_then(Value::as_str)
    }
}

impl NetworkConfig {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// Code 6 when it is no JSON object, 7 when its name is missing or malformed, 1 when its version is not
    /// spoken.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        Self::check(Document::parse(text)?)
    }

    /// Checks the name first, then the version, as the reference skeleton does.
    pub(crate) fn check(document: Document) -> Result<Self, Error> {
        let name = match document.0.get("name") {
            Some(Value::String(name)) if is_name(name) => name.clone(),
            None => {
                return Err(invalid(
                    "the network configuration has no name",
                    "add \"name\"",
                ));
            }
            Some(other) => {
                return Err(invalid(
                    format!("invalid network name {other}"),
                    "a name is a string that starts with a letter or digit and goes on with letters, \
                     digits, '_', '.' or '-'",
                ));
            }
        };
        let version = match document.0.get("cniVersion") {
            Some(Value::String(_)) | None => Version::of_config(document.said_version())?,
            Some(other) => {
                return Err(Error::new(
                    Code::Decode,
                    format!("cniVersion {other} is not a string"),
                    "write it as in \"cniVersion\": \"1.0.0\"",
                ));
            }
        };
        let prev_result = document
            .0
            .get("prevResult")
            .filter(|prev| !prev.is_null())
            .cloned();
        Ok(Self {
            version,
            name,
            prev_result,
            all: document.0,
        })
    }

    /// The version that the result is to be in.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The network's name: the conflist's.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// At ADD, what the plugins before this one made; at DEL, what the whole chain made. Not checked: a DEL
    /// must not fail over it.
    #[must_use]
    pub fn prev_result(&self) -> Option<&Value> {
        self.prev_result.as_ref()
    }

    /// What the runtime fills in for the capabilities that the conflist declares (`portMappings` and so on).
    #[must_use]
    pub fn runtime_config(&self) -> Option<&Map<String, Value>> {
        self.all.get("runtimeConfig").and_then(Value::as_object)
    }

    /// That the configuration's version has this verb.
    ///
    /// # Errors
    /// Code 1, as the reference skeleton has it.
    pub(crate) fn require(&self, since: Version, verb: Command) -> Result<(), Error> {
        if self.version >= since {
            return Ok(());
        }
        Err(Error::new(
            Code::IncompatibleVersion,
            format!("config version does not allow {}", verb.as_str()),
            format!(
                "config is \"{}\", and {} is in the contract since {since}",
                self.version,
                verb.as_str()
            ),
        ))
    }

    /// `cni.dev/valid-attachments`. None when it is absent or null: a runtime that says nothing (`cnitool gc`) does not
    /// say that nothing is valid. `cni.dev/attachments` is how libcni has spelt it besides.
    ///
    /// # Errors
    /// Code 7 when it is anything but a list of attachments: what can't be read must not count as not valid.
    pub(crate) fn valid_attachments(&self) -> Result<Option<Vec<Attachment>>, Error> {
        const KEYS: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];
        let said = KEYS.into_iter().find_map(|key| {
            let value = self.all.get(key).filter(|value| !value.is_null())?;
            Some((key, value))
        });
        let Some((key, value)) = said else {
            return Ok(None);
        };
        let wrong = |what: String| {
            invalid(
                format!("\"{key}\" is wrong: {what}"),
                "it is a list of {\"containerID\": ..., \"ifname\": ...}; nothing was collected",
            )
        };
        let list = value
            .as_array()
            .ok_or_else(|| wrong(format!("{value} is not a list")))?;
        let attachment = |entry: &Value| {
            let field = |name: &str| {
                let text = entry.get(name).and_then(Value::as_str);
                text.map(str::to_owned)
                    .ok_or_else(|| wrong(format!("{entry} has no {name}")))
            };
            Attachment::new(field("containerID")?, field("ifname")?)
                .map_err(|error| wrong(error.to_string()))
        };
        list.iter()
            .map(attachment)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// The plugin's own fields. Fields that `T` does not have are ignored: the contract allows an error, but
    /// an older plugin must go on working under a newer conflist.
    ///
    /// # Errors
    /// Code 7 when a field has the wrong type, naming what was found and expected.
    pub fn own<T: DeserializeOwned>(&self) -> Result<T, Error> {
        T::deserialize(Value::Object(self.all.clone())).map_err(|error| {
            invalid(
                "a field of the network configuration is wrong",
                error.to_string(),
            )
        })
    }
}

fn invalid(msg: impl Into<String>, details: impl Into<String>) -> Error {
    Error::new(Code::InvalidConfig, msg, details)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    fn check(text: &str) -> Result<NetworkConfig, Error> {
        NetworkConfig::parse(text.as_bytes())
    }

    #[test]
    fn what_is_wrong_has_its_code() {
        let cases = [
            ("", 6),
            ("{", 6),
            ("[]", 6),
            ("null", 6),
            ("\u{1}", 6),
            (r#"{"name": "n", "cniVersion": 1}"#, 6),
            (r#"{"cniVersion": "1.0.0"}"#, 7),
            (r#"{"cniVersion": "1.0.0", "name": ""}"#, 7),
            (r#"{"cniVersion": "1.0.0", "name": "a/b"}"#, 7),
            (r#"{"cniVersion": "1.0.0", "name": 7}"#, 7),
            (r#"{"cniVersion": "9.9.9"}"#, 7),
            (r#"{"cniVersion": "9.9.9", "name": "n"}"#, 1),
            (r#"{"name": "n"}"#, 1),
        ];
        for (text, code) in cases {
            assert_eq!(check(text).unwrap_err().code.number(), code, "{text}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(check(&deep).unwrap_err().code.number(), 6);
    }

    #[test]
    fn unknown_fields_are_ignored_and_known_ones_kept() {
        #[derive(Debug, Deserialize)]
        struct Own {
            mtu: Option<u32>,
        }
        let config = check(
            r#"{"name": "aws-cni", "cniVersion": "0.4.0", "type": "weir-cni", "mtu": 1500, "x": {"y": 1},
                "runtimeConfig": {"portMappings": [{"hostPort": 1}]}, "prevResult": {"ips": []}}"#,
        )
        .unwrap();
        assert_eq!(config.name(), "aws-cni");
        assert_eq!(config.version(), Version::V0_4_0);
        assert_eq!(config.own::<Own>().unwrap().mtu, Some(1500));
        assert!(config.prev_result().is_some());
        assert!(
            config
                .runtime_config()
                .unwrap()
                .contains_key("portMappings")
        );

        let config =
            check(r#"{"name": "n", "cniVersion": "1.0.0", "mtu": "x", "prevResult": null}"#);
        let config = config.unwrap();
        let error = config.own::<Own>().unwrap_err();
        assert_eq!(error.code.number(), 7);
        assert!(error.details.contains("\"x\""), "{}", error.details);
        assert!(config.prev_result().is_none());
    }
}
