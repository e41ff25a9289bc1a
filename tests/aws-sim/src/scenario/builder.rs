//! Makes what a file describes, by EC2's own actions: what EC2 would refuse, a file can't have.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use super::document::{Entry, FileError};
use super::names::{Kind, Names};
use crate::actions;
use crate::error::Ec2Error;
use crate::params::{Input, Params};
use crate::time::SimTime;
use crate::world::{Tags, World};

/// A world that is being made, at its beginning.
pub(super) struct Builder<'a> {
    pub(super) world: &'a mut World,
    pub(super) names: &'a mut Names,
}

impl Builder<'_> {
    /// Does an action as this account would: not throttled, not logged. Returns the reply.
    pub(super) fn ec2(
        &mut self,
        account: &str,
        action: &str,
        asked: Asked,
    ) -> Result<String, Ec2Error> {
        let perform = actions::find(action).ok_or_else(|| Ec2Error::invalid_action(action))?;
        let asked = asked.with("Action", action).with("Version", "2016-11-15");
        let params = Params::from_pairs(asked.0);
        let reply = perform(self.world, SimTime::ZERO, &Input::new(&params, account))?;
        Ok(reply.into_response(action, ""))
    }

    /// Names a thing, and tags it: with its name too.
    pub(super) fn name(
        &mut self,
        (entry, kind): (&Entry<'_>, Kind),
        account: &str,
        name: &str,
        id: &str,
        tags: &Tags,
    ) -> Result<(), FileError> {
        self.names
            .add(kind, name, id)
            .map_err(|what| entry.error("name", what))?;
        let own = tags.iter().filter(|(key, _)| *key != "Name");
        let own = own.map(|(key, value)| (key.as_str(), value.as_str()));
        let mut asked = Asked::new().with("ResourceId.1", id);
        for (n, (key, value)) in (1..).zip([("Name", name)].into_iter().chain(own)) {
            asked = asked
                .with(&format!("Tag.{n}.Key"), key)
                .with(&format!("Tag.{n}.Value"), value);
        }
        let tagged = self.ec2(account, "CreateTags", asked);
        tagged
            .map(drop)
            .map_err(|error| refused(entry, "tags", &error))
    }

    /// The id behind a name that a field holds.
    pub(super) fn id(
        &self,
        entry: &Entry<'_>,
        field: &str,
        kind: Kind,
        name: &str,
    ) -> Result<String, FileError> {
        self.names
            .id(kind, name)
            .map_err(|what| entry.error(field, what))
    }

    /// The same; without a name, the only one there is.
    pub(super) fn id_or_only(
        &self,
        entry: &Entry<'_>,
        field: &str,
        kind: Kind,
        name: Option<&str>,
    ) -> Result<String, FileError> {
        if let Some(name) = name {
            return self.id(entry, field, kind, name);
        }
        let mut all = self.names.of(kind);
        match (all.next(), all.next()) {
            (Some((_, only)), None) => Ok(only.to_owned()),
            _ => {
                let kind = kind.as_str();
                let what = format!(
                    "`{field}` is missing: it may be left out only when the file has one {kind}"
                );
                Err(entry.error(field, what))
            }
        }
    }
}

/// The error for what EC2 would not make.
pub(super) fn refused(entry: &Entry<'_>, field: &str, error: &Ec2Error) -> FileError {
    let remedy = match error.code.as_str() {
        "InvalidInstanceType" => "; data/instance-types.csv has the types that are known",
        "PrivateIpAddressLimitExceeded" | "Ipv6AddressLimitExceeded" => {
            "; give it fewer addresses and prefixes, or the instance a larger type"
        }
        "AttachmentLimitExceeded" => "; give the instance fewer ENIs, or a larger type",
        "InsufficientFreeAddressesInSubnet" | "InsufficientCidrBlocks" => {
            "; make the subnet larger"
        }
        "NetworkInterfaceLimitExceeded" => "; raise `eni-quota` in [world]",
        "InvalidSubnet.Range" => "; it must be a /16 to a /28 within a CIDR of its VPC",
        "InvalidSubnet.Conflict" => "; subnets of a VPC must not overlap",
        "InvalidVpc.Range" => "; it must be a /16 to a /28, apart from the VPC's others",
        _ => "",
    };
    entry.error(field, format!("EC2 refuses `{field}`: {error}{remedy}"))
}

/// Parameters of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked(Vec<(String, String)>);

impl Asked {
    pub(super) fn new() -> Asked {
        Asked::default()
    }

    pub(super) fn with(mut self, name: &str, value: impl fmt::Display) -> Asked {
        self.0.push((name.to_owned(), value.to_string()));
        self
    }

    /// `count` when it is a number, else a parameter for each, called `of(1)`, `of(2)` and so on.
    pub(super) fn many(self, count: &str, of: impl Fn(usize) -> String, many: &Many) -> Asked {
        match many {
            Many::Count(0) => self,
            Many::Count(number) => self.with(count, number),
            Many::These(these) => {
                let numbered = (1..).zip(these);
                numbered.fold(self, |asked, (n, value)| asked.with(&of(n), value))
            }
        }
    }
}

/// A number of addresses or prefixes, or certain ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Many {
    Count(u64),
    These(Vec<String>),
}

impl Default for Many {
    fn default() -> Many {
        Many::Count(0)
    }
}

impl Many {
    pub(super) fn is_none(&self) -> bool {
        match self {
            Many::Count(count) => *count == 0,
            Many::These(these) => these.is_empty(),
        }
    }
}

impl<'de> Deserialize<'de> for Many {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Many, D::Error> {
        struct NumberOrList;

        impl<'de> Visitor<'de> for NumberOrList {
            type Value = Many;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("how many, such as 3, or a list, such as [\"10.0.0.5\"]")
            }

            fn visit_u64<E: Error>(self, count: u64) -> Result<Many, E> {
                Ok(Many::Count(count))
            }

            fn visit_i64<E: Error>(self, count: i64) -> Result<Many, E> {
                let count = u64::try_from(count);
                count
                    .map(Many::Count)
                    .map_err(|_| E::custom("a number can't be below 0"))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Many, A::Error> {
                let mut these = Vec::new();
                while let Some(one) = seq.next_element()? {
                    these.push(one);
                }
                Ok(Many::These(these))
            }
        }

        deserializer.deserialize_any(NumberOrList)
    }
}
