//! The names that a file gives to things, and `$name` in its texts.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::ids::{EniId, InstanceId};
use crate::world::{Eni, World};

/// What is behind a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A VPC.
    Vpc,
    /// A subnet.
    Subnet,
    /// A security group.
    Group,
    /// An instance.
    Instance,
    /// An ENI.
    Eni,
    /// What a step of a story saved.
    Saved,
}

impl Kind {
    /// As people call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Vpc => "VPC",
            Kind::Subnet => "subnet",
            Kind::Group => "security group",
            Kind::Instance => "instance",
            Kind::Eni => "ENI",
            Kind::Saved => "saved value",
        }
    }
}

/// Names, and the ids that they stand for.
#[derive(Clone, Debug, Default)]
pub struct Names(BTreeMap<String, (Kind, String)>);

impl Names {
    /// Gives a thing a name.
    ///
    /// # Errors
    /// Says what has the name already.
    pub(super) fn add(&mut self, kind: Kind, name: &str, id: &str) -> Result<(), String> {
        if let Some((kind, _)) = self.0.get(name) {
            let kind = kind.as_str();
            return Err(format!(
                "another {kind} is called {name:?} already: a name is used once in a file"
            ));
        }
        self.0.insert(name.to_owned(), (kind, id.to_owned()));
        Ok(())
    }

    /// Saves a value under a name, in place of what was saved under it.
    pub(super) fn save(&mut self, name: &str, value: &str) {
        self.0
            .insert(name.to_owned(), (Kind::Saved, value.to_owned()));
    }

    /// The id of the thing of this kind with this name.
    ///
    /// # Errors
    /// Says which names there are.
    pub(super) fn id(&self, kind: Kind, name: &str) -> Result<String, String> {
        if let Some((found, id)) = self.0.get(name)
            && *found == kind
        {
            return Ok(id.clone());
        }
        let known: Vec<String> = self.of(kind).map(|(name, _)| format!("{name:?}")).collect();
        let (kind, known) = (kind.as_str(), known.join(", "));
        Err(match known.as_str() {
            "" => format!("no {kind} is called {name:?}: there are none before it in the file"),
            known => format!("no {kind} is called {name:?}: there are {known}"),
        })
    }

    /// All of a kind, by name.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = (&str, &str)> {
        let of_kind = self.0.iter().filter(move |(_, (found, _))| *found == kind);
        of_kind.map(|(name, (_, id))| (name.as_str(), id.as_str()))
    }

    /// The text with each `$name` and `${name}` in it replaced by what it stands for; `$$` is a dollar. `.mac`,
    /// `.eni` and `.address` after the name of an instance or an ENI are the MAC address, the id and the primary
    /// address of the (primary) ENI.
    ///
    /// # Errors
    /// Says which name is not known.
    pub fn replace(&self, world: &World, text: &str) -> Result<String, String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                out.push('$');
                rest = after;
                continue;
            }
            let (name, after) = match after.strip_prefix('{') {
                Some(braced) => braced
                    .split_once('}')
                    .ok_or_else(|| format!("{text:?} has a ${{ that does not end: write a }}"))?,
                None => after.split_at(after.find(|c| !is_of_name(c)).unwrap_or(after.len())),
            };
            out.push_str(&self.value(world, name)?);
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }

    /// What a name stands for, with its part after the dot.
    fn value(&self, world: &World, name: &str) -> Result<String, String> {
        if let Some((_, value)) = self.0.get(name) {
            return Ok(value.clone());
        }
        let part = name.rsplit_once('.').and_then(|(name, part)| {
            let (_, id) = self.0.get(name)?;
            let eni = eni_of(world, id)?;
            match part {
                "mac" => Some(eni.mac_text()),
                "eni" => Some(eni.id.to_string()),
                "address" => eni.addresses().next().map(|address| address.to_string()),
                _ => None,
            }
        });
        part.ok_or_else(|| {
            let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
            let known = known.join(", ");
            format!(
                "nothing is called ${name}: there are {known}, with .mac, .eni and .address for instances and \
                 ENIs; write $$ for a dollar"
            )
        })
    }

    /// With the parts of instances and ENIs too: `NAME.eni` and `NAME.mac`.
    pub(super) fn with_parts(&self, world: &World) -> Names {
        let mut all = self.clone();
        for (name, (kind, id)) in &self.0 {
            let eni = eni_of(world, id).filter(|_| matches!(kind, Kind::Instance | Kind::Eni));
            let Some(eni) = eni else { continue };
            all.0
                .entry(format!("{name}.mac"))
                .or_insert((Kind::Saved, eni.mac_text()));
            if *kind == Kind::Instance {
                all.0
                    .entry(format!("{name}.eni"))
                    .or_insert((Kind::Saved, eni.id.to_string()));
            }
        }
        all
    }

    /// The text with each id that has a name replaced by `$` and the name: for logs that people read.
    #[must_use]
    pub fn restore(&self, text: &str) -> String {
        // Short values, such as numbers, would be found where nobody meant them.
        let known = self.0.iter().filter(|(_, (_, id))| id.len() > 6);
        let mut known: Vec<(&String, &String)> = known.map(|(name, (_, id))| (id, name)).collect();
        // The longest first: one address can be the beginning of another.
        known.sort_by_key(|(id, name)| (Reverse(id.len()), name.as_str()));
        let all = known.into_iter();
        all.fold(text.to_owned(), |text, (id, name)| {
            replace_words(&text, id, &format!("${name}"))
        })
    }
}

/// Replaces `word` where no letter or digit is before or after it.
fn replace_words(text: &str, word: &str, by: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(word) {
        let joined = before.ends_with(is_of_word) || after.starts_with(is_of_word);
        out.push_str(before);
        out.push_str(if joined { word } else { by });
        rest = after;
    }
    out.push_str(rest);
    out
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '$'
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

fn eni_of<'w>(world: &'w World, id: &str) -> Option<&'w Eni> {
    world
        .eni(&EniId::from(id))
        .or_else(|| world.primary_eni(&InstanceId::from(id)))
}
