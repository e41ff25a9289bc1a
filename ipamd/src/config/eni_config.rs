//! aws-node's ENIConfig, out of a file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ipam::{SecurityGroupId, SubnetChoice, SubnetId};
use saphyr_parser::{Event, Parser};
use serde_json::{Map, Value};

const SUBNET: &str = "subnet";
const GROUPS: &str = "securityGroups";

/// Where custom networking makes ENIs, and with which security groups.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EniConfig(pub(super) SubnetChoice);

/// Why a file can't be taken for an ENIConfig.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EniConfigError {
    #[error("the ENIConfig {file} can't be read: {source}. WEIR_ENI_CONFIG says where it is")]
    Unreadable { file: PathBuf, source: io::Error },
    #[error("the ENIConfig {file} is neither YAML nor JSON: {what}")]
    Malformed { file: PathBuf, what: String },
    #[error("the ENIConfig {file}: {field} {rule}")]
    Field {
        file: PathBuf,
        field: String,
        rule: &'static str,
    },
}

impl EniConfig {
    /// The file's `spec`, or the whole file where it has none.
    pub(super) fn read(file: &Path) -> Result<Self, EniConfigError> {
        let text = fs::read_to_string(file).map_err(|source| EniConfigError::Unreadable {
            file: file.to_owned(),
            source,
        })?;
        let value = yaml(&text).map_err(|what| EniConfigError::Malformed {
            file: file.to_owned(),
            what,
        })?;
        let spec = value.get("spec").unwrap_or(&value);
        Self::of(spec).map_err(|(field, rule)| EniConfigError::Field {
            file: file.to_owned(),
            field,
            rule,
        })
    }

    fn of(spec: &Value) -> Result<Self, (String, &'static str)> {
        const A_SUBNET: &str = "must be the id of a subnet, such as subnet-0123456789abcdef0";
        const A_GROUP: &str = "must be the id of a security group, such as sg-0123456789abcdef0";
        let Value::Object(fields) = spec else {
            return Err((
                "its content".to_owned(),
                "must be a mapping with the field subnet, and securityGroups where they are not the primary ENI's",
            ));
        };
        let known = |field: &&String| [SUBNET, GROUPS].contains(&field.as_str());
        if let Some(field) = fields.keys().find(|field| !known(field)) {
            let rule = "is no field of an ENIConfig's spec, which has subnet and securityGroups: correct it or leave it out";
            return Err((field.clone(), rule));
        }
        let subnet = fields.get(SUBNET).and_then(Value::as_str);
        let subnet = subnet.filter(|id| is_id(id, "subnet-"));
        let subnet = subnet.ok_or_else(|| (SUBNET.to_owned(), A_SUBNET))?;
        let groups = match fields.get(GROUPS) {
            None => &[][..],
            Some(Value::Array(groups)) => groups.as_slice(),
            Some(_) => {
                return Err((
                    GROUPS.to_owned(),
                    "must be a list of ids of security groups; leave it out for those of the primary ENI",
                ));
            }
        };
        let groups = (0..).zip(groups).map(|(at, group)| {
            let id = group.as_str().filter(|id| is_id(id, "sg-"));
            let wrong = || (format!("{GROUPS}[{at}]"), A_GROUP);
            id.map(SecurityGroupId::new).ok_or_else(wrong)
        });
        Ok(Self(SubnetChoice {
            id: SubnetId::new(subnet),
            groups: groups.collect::<Result<_, _>>()?,
        }))
    }
}

fn is_id(text: &str, kind: &str) -> bool {
    let digits = text.strip_prefix(kind);
    digits.is_some_and(|digits| {
        digits.len() >= 8 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    })
}

/// The first document of a YAML text, of which JSON is a part; every scalar is text, and an empty one is nothing.
fn yaml(text: &str) -> Result<Value, String> {
    let events: Result<Vec<_>, _> = Parser::new_from_str(text).collect();
    let events = events.map_err(|error| error.to_string())?;
    let mut events = events.into_iter().map(|(event, _)| event);
    let starts = |event: &Event<'_>| matches!(event, Event::DocumentStart(_));
    if !events.by_ref().any(|event| starts(&event)) {
        return Ok(Value::Null);
    }
    Ok(node(&mut events)?.unwrap_or_default())
}

/// The next value; none at the end of what it would be in.
fn node<'t>(events: &mut impl Iterator<Item = Event<'t>>) -> Result<Option<Value>, String> {
    let value = match events.next() {
        Some(Event::Scalar(text, ..)) if text.is_empty() => Value::Null,
        Some(Event::Scalar(text, ..)) => Value::String(text.into_owned()),
        Some(Event::SequenceStart(..)) => {
            let mut values = Vec::new();
            while let Some(value) = node(events)? {
                values.push(value);
            }
            Value::Array(values)
        }
        Some(Event::MappingStart(..)) => {
            let mut fields = Map::new();
            while let Some(key) = node(events)? {
                let key = key.as_str().ok_or("a key that is no text")?.to_owned();
                let value = node(events)?.unwrap_or_default();
                if fields.insert(key.clone(), value).is_some() {
                    return Err(format!("{key} stands twice"));
                }
            }
            Value::Object(fields)
        }
        Some(Event::Alias(_)) => return Err("an alias, which is not taken here".to_owned()),
        _ => return Ok(None),
    };
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<EniConfig, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("eni-config.yaml");
        fs::write(&file, text).unwrap();
        EniConfig::read(&file).map_err(|error| error.to_string())
    }

    fn config(subnet: &str, groups: &[&str]) -> EniConfig {
        EniConfig(SubnetChoice {
            id: SubnetId::new(subnet),
            groups: groups.iter().map(|id| SecurityGroupId::new(*id)).collect(),
        })
    }

    #[test]
    fn an_eni_config_is_aws_nodes_spec_or_the_whole_of_it_in_yaml_or_in_json() {
        let json = r#"{"subnet": "subnet-0123456789abcdef0", "securityGroups": ["sg-01234567", "sg-89abcdef"]}"#;
        let yaml =
            "subnet: subnet-0123456789abcdef0\nsecurityGroups:\n  - sg-01234567\n  - sg-89abcdef\n";
        let whole = "apiVersion: crd.k8s.amazonaws.com/v1alpha1\nkind: ENIConfig\nmetadata:\n  name: eu-west-1a\n\
                     spec:\n  subnet: subnet-0123456789abcdef0\n  securityGroups: [sg-01234567, sg-89abcdef]\n";
        for text in [json, yaml, whole] {
            let expected = config("subnet-0123456789abcdef0", &["sg-01234567", "sg-89abcdef"]);
            assert_eq!(read(text), Ok(expected), "{text}");
        }
        for text in [
            "subnet: subnet-01234567\n",
            "subnet: subnet-01234567\nsecurityGroups: []\n",
        ] {
            assert_eq!(read(text), Ok(config("subnet-01234567", &[])), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_in_an_eni_config_is_named_with_its_field_and_the_rule() {
        for (text, words) in [
            ("", "its content must be a mapping"),
            ("- subnet-01234567", "its content must be a mapping"),
            ("{", "neither YAML nor JSON"),
            (
                "securityGroups: [sg-01234567]",
                "subnet must be the id of a subnet",
            ),
            ("subnet: 10.0.0.0/24", "subnet must be the id of a subnet"),
            (
                "subnet: subnet-01234567\nsubnet: subnet-89abcdef",
                "subnet stands twice",
            ),
            (
                "subnet: subnet-01234567\nsecurityGroups: sg-01234567",
                "securityGroups must be a list",
            ),
            (
                "subnet: subnet-01234567\nsecurityGroups: [sg-01234567, web]",
                "securityGroups[1] must be the id",
            ),
            (
                "subnet: subnet-01234567\nsecurityGroup: []",
                "securityGroup is no field",
            ),
            (
                "spec:\n  subnet: nothing",
                "subnet must be the id of a subnet",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(words), "{text:?}: {error}");
            assert!(error.contains("eni-config.yaml"), "{error}");
        }
        let missing = EniConfig::read(Path::new("/nowhere/eni.yaml"))
            .unwrap_err()
            .to_string();
        assert!(
            missing.contains("/nowhere/eni.yaml") && missing.contains("WEIR_ENI_CONFIG"),
            "{missing}"
        );
    }
}
