//! The steps of a story, as a file has them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use crate::events::Event;
use crate::time::{maybe_text, text};

/// One step. It does one thing: `call`, `imds`, `event`, `wait` or `say`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Step {
    /// The instance that asks, or an account; without one, an administrator.
    pub(super) r#as: Option<String>,
    /// An action of EC2.
    pub(super) call: Option<String>,
    /// Its parameters. A list is `Name.1`, `Name.2` and so on.
    #[serde(default)]
    pub(super) with: BTreeMap<String, Texts>,
    /// A path of the metadata service, such as `meta-data/mac`.
    pub(super) imds: Option<String>,
    /// What happens from outside, now.
    pub(super) event: Option<Event>,
    /// Time that passes.
    #[serde(default, with = "maybe_text")]
    pub(super) wait: Option<Duration>,
    /// A remark for who reads the log.
    pub(super) say: Option<String>,

    /// How long the caller waits for the reply.
    #[serde(default = "minute", with = "text")]
    pub(super) patience: Duration,
    /// `ok`, EC2's error code, an HTTP status of the metadata service, or what the caller sees of a fault:
    /// `(timeout)`, `(reset)` or `(truncated)`.
    pub(super) expect: Option<Texts>,
    /// Elements of the reply, and texts that are among theirs.
    #[serde(default)]
    pub(super) has: BTreeMap<String, Texts>,
    /// Elements of the reply, and texts that are not among theirs; an empty list: there is no such element.
    #[serde(default)]
    pub(super) lacks: BTreeMap<String, Texts>,
    /// How many elements of a name there are.
    #[serde(default)]
    pub(super) count: BTreeMap<String, usize>,
    /// Lines of the metadata.
    #[serde(default)]
    pub(super) shows: Texts,
    /// What is not a line of the metadata.
    #[serde(default)]
    pub(super) hides: Texts,
    /// Names, and the elements (or the numbers of lines) whose texts they stand for from then on.
    #[serde(default)]
    pub(super) save: BTreeMap<String, Texts>,
    /// Again and again until it is as expected, at most so long.
    #[serde(default, with = "maybe_text")]
    pub(super) until: Option<Duration>,
    /// How long between two tries.
    #[serde(default = "second", with = "text")]
    pub(super) every: Duration,
}

fn minute() -> Duration {
    Duration::from_secs(60)
}

fn second() -> Duration {
    Duration::from_secs(1)
}

/// What a step does.
#[derive(Clone, Debug)]
pub(super) enum Doing<'a> {
    Call(&'a str),
    Imds(&'a str),
    Event(&'a Event),
    Wait(Duration),
    Say(&'a str),
}

impl Step {
    /// # Errors
    /// The field that is wrong, and why: when it does nothing, or several things.
    pub(super) fn doing(&self) -> Result<Doing<'_>, (&'static str, String)> {
        let all = [
            self.call.as_deref().map(Doing::Call),
            self.imds.as_deref().map(Doing::Imds),
            self.event.as_ref().map(Doing::Event),
            self.wait.map(Doing::Wait),
            self.say.as_deref().map(Doing::Say),
        ];
        let mut done = all.into_iter().flatten();
        match (done.next(), done.next()) {
            (Some(one), None) => self.fits(&one).map(|()| one),
            (None, _) => {
                let what =
                    "it does nothing: give it one of `call`, `imds`, `event`, `wait` and `say`";
                Err(("", what.to_owned()))
            }
            (Some(_), Some(_)) => Err((
                "",
                "it does several things: make each of them a [[step]]".to_owned(),
            )),
        }
    }

    /// Whether it has only fields that mean something for what it does.
    fn fits(&self, doing: &Doing<'_>) -> Result<(), (&'static str, String)> {
        let (call, imds) = (
            matches!(doing, Doing::Call(_)),
            matches!(doing, Doing::Imds(_)),
        );
        let only = [
            ("with", !self.with.is_empty(), call),
            ("has", !self.has.is_empty(), call),
            ("lacks", !self.lacks.is_empty(), call),
            ("count", !self.count.is_empty(), call),
            ("shows", !self.shows.0.is_empty(), imds),
            ("hides", !self.hides.0.is_empty(), imds),
            ("as", self.r#as.is_some(), call || imds),
            ("expect", self.expect.is_some(), call || imds),
            ("save", !self.save.is_empty(), call || imds),
            ("until", self.until.is_some(), call || imds),
        ];
        match only.iter().find(|(_, is_there, fits)| *is_there && !fits) {
            Some((field, _, _)) => Err((
                *field,
                format!("`{field}` means nothing for what it does: leave it out"),
            )),
            None => Ok(()),
        }
    }
}

/// One text or several; numbers and booleans are texts too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Texts(pub(super) Vec<String>);

impl Texts {
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl fmt::Display for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Texts, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, true or false, or a list of those")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts(vec![text.to_owned()]))
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Texts, E> {
                self.visit_str(&value.to_string())
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Texts, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Texts, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Texts, A::Error> {
                let mut all = Vec::new();
                while let Some(Texts(texts)) = seq.next_element()? {
                    all.extend(texts);
                }
                Ok(Texts(all))
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}
