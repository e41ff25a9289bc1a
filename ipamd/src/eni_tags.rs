//! `ADDITIONAL_ENI_TAGS`: what users put on the ENIs that are made here, beside our own tags.

use std::collections::BTreeMap;

use thiserror::Error;

/// What is in a key like this is the CNI's own, as aws-node has it...
const RESERVED: &str = "k8s.amazonaws.com";
/// ...and these tell whose an ENI is, too.
const OURS: [&str; 2] = ["eks:eni:owner", "weir/client-token"];
/// EC2 keeps keys that begin so for AWS itself, and refuses the whole request, in any case of letters.
const AWS: &str = "aws:";
/// EC2 takes 50 tags on an ENI, and five are ours.
const MOST: usize = 45;
/// In characters, as EC2 counts.
const LONGEST_KEY: usize = 128;
const LONGEST_VALUE: usize = 256;

/// A value that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum EniTagsError {
    #[error(
        "ADDITIONAL_ENI_TAGS must be a JSON object of strings, such as {{\"team\":\"network\"}}: {0}"
    )]
    Json(String),
    #[error(
        "ADDITIONAL_ENI_TAGS has {0} tags: EC2 takes {MOST} beside the CNI's own. Leave some out"
    )]
    TooMany(usize),
    #[error(
        "ADDITIONAL_ENI_TAGS has the key {0:?}: EC2 takes keys of 1 to {LONGEST_KEY} characters"
    )]
    Key(String),
    #[error(
        "ADDITIONAL_ENI_TAGS has a value for {0:?} that is too long: EC2 takes up to {LONGEST_VALUE} characters"
    )]
    Value(String),
}

/// The tags to put on ENIs, and a sentence for each that is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EniTags {
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) left_out: Vec<String>,
}

/// Reads the setting; keys that are not the user's to set are left out, as aws-node does, but said.
pub(crate) fn read(text: &str) -> Result<EniTags, EniTagsError> {
    if text.trim().is_empty() {
        return Ok(EniTags::default());
    }
    let all: BTreeMap<String, String> =
        serde_json::from_str(text).map_err(|error| EniTagsError::Json(error.to_string()))?;
    let mut read = EniTags::default();
    for (key, value) in all {
        let rule = if key.contains(RESERVED) || OURS.contains(&key.as_str()) {
            "is the CNI's own: its tools tell by it whose an ENI is"
        } else if key.to_ascii_lowercase().starts_with(AWS) {
            "begins with aws:, which AWS keeps for itself"
        } else if !(1..=LONGEST_KEY).contains(&key.chars().count()) {
            return Err(EniTagsError::Key(key));
        } else if value.chars().count() > LONGEST_VALUE {
            return Err(EniTagsError::Value(key));
        } else {
            read.tags.insert(key, value);
            continue;
        };
        read.left_out.push(format!(
            "ADDITIONAL_ENI_TAGS: the tag {key:?} is left out, as its key {rule}"
        ));
    }
    match read.tags.len() {
        many if many > MOST => Err(EniTagsError::TooMany(many)),
        _ => Ok(read),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_and_those_that_are_not_the_users_to_set_are_left_out_and_said() {
        let read = read(
            r#"{"team": "network", "empty": "", "node.k8s.amazonaws.com/instance_id": "i-1",
                "eks:eni:owner": "me", "AWS:x": "y"}"#,
        )
        .unwrap();
        let tags: Vec<_> = read
            .tags
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(tags, [("empty", ""), ("team", "network")]);
        for (said, key) in read
            .left_out
            .iter()
            .zip(["AWS:x", "eks:eni:owner", "node.k8s."])
        {
            assert!(said.contains(key) && said.contains("left out"), "{said}");
        }
        assert_eq!(read.left_out.len(), 3);
    }

    #[test]
    fn nothing_asks_for_nothing() {
        for text in ["", " ", "{}"] {
            assert_eq!(read(text), Ok(EniTags::default()), "{text:?}");
        }
    }

    #[test]
    fn what_can_not_be_used_is_refused_with_the_rule() {
        let many: BTreeMap<_, _> = (0..46).map(|n| (format!("key-{n}"), "")).collect();
        let many = serde_json::to_string(&many).unwrap();
        let long_key = format!("{{\"{}\": \"\"}}", "k".repeat(129));
        let long_value = format!("{{\"team\": \"{}\"}}", "v".repeat(257));
        for (text, rule) in [
            ("team=network", "must be a JSON object of strings"),
            ("[\"team\"]", "must be a JSON object of strings"),
            ("{\"team\": 1}", "must be a JSON object of strings"),
            ("{\"team\": \"network\"", "must be a JSON object of strings"),
            (many.as_str(), "46 tags: EC2 takes 45"),
            ("{\"\": \"x\"}", "1 to 128 characters"),
            (long_key.as_str(), "1 to 128 characters"),
            (long_value.as_str(), "\"team\" that is too long"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(
                error.contains(rule) && error.contains("ADDITIONAL_ENI_TAGS"),
                "{error}"
            );
        }
    }
}
