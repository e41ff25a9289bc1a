//! TOML with places: whatever is wrong in a file is shown with its line.

use std::fmt;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

/// What is wrong in a file, and where. Prints the line itself too.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct FileError {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The entry, the rule that it breaks, and the remedy.
    pub what: String,
    /// What the line says.
    pub text: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FileError {
            file,
            line,
            what,
            text,
        } = self;
        write!(f, "{file}:{line}: {what}\n  {line} | {text}")
    }
}

/// The text of a file, for finding lines in it.
#[derive(Clone, Copy, Debug)]
struct Source<'t> {
    file: &'t str,
    text: &'t str,
}

impl Source<'_> {
    fn error(self, offset: usize, what: impl Into<String>) -> FileError {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        FileError {
            file: self.file.to_owned(),
            line,
            what: what.into(),
            text: self
                .text
                .lines()
                .nth(line - 1)
                .unwrap_or_default()
                .trim()
                .to_owned(),
        }
    }

    fn explain(self, error: &toml::de::Error, place: &str) -> FileError {
        let offset = error.span().map_or(0, |span| span.start);
        let message = error.message();
        if place.is_empty() {
            return self.error(offset, message);
        }
        self.error(offset, format!("{place}: {message}"))
    }
}

/// A file, parsed as far as TOML goes.
#[derive(Clone, Debug)]
pub(super) struct Document<'t> {
    source: Source<'t>,
    root: DeTable<'t>,
}

impl<'t> Document<'t> {
    /// # Errors
    /// When it is not TOML.
    pub(super) fn parse(file: &'t str, text: &'t str) -> Result<Document<'t>, FileError> {
        let source = Source { file, text };
        let parsed = DeTable::parse(text).map_err(|error| source.explain(&error, ""))?;
        Ok(Document {
            source,
            root: parsed.into_inner(),
        })
    }

    /// Checks that there are only these keys.
    ///
    /// # Errors
    /// Names the first other.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), FileError> {
        let other = self
            .root
            .keys()
            .find(|key| !known.contains(&key.get_ref().as_ref()));
        match other {
            None => Ok(()),
            Some(key) => {
                let (name, known) = (key.get_ref(), known.join(", "));
                let what = format!("there is no `{name}`; the parts of such a file are {known}");
                Err(self.source.error(key.span().start, what))
            }
        }
    }

    /// The text `name = ".."`.
    ///
    /// # Errors
    /// When it is not a text.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, FileError> {
        let Some(value) = self.root.get(name) else {
            return Ok(None);
        };
        match value.get_ref() {
            DeValue::String(text) => Ok(Some(text.to_string())),
            _ => {
                let what = format!("`{name}` is a text: write {name} = \"..\"");
                Err(self.source.error(value.span().start, what))
            }
        }
    }

    /// The table `[name]`.
    ///
    /// # Errors
    /// When it is not a table.
    pub(super) fn table(&self, name: &str) -> Result<Option<Entry<'t>>, FileError> {
        let Some(value) = self.root.get(name) else {
            return Ok(None);
        };
        self.entry(value, name, &format!("[{name}]")).map(Some)
    }

    /// The tables `[[name]]`, in order.
    ///
    /// # Errors
    /// When they are something else.
    pub(super) fn tables(&self, name: &str) -> Result<Vec<Entry<'t>>, FileError> {
        let Some(value) = self.root.get(name) else {
            return Ok(Vec::new());
        };
        let DeValue::Array(items) = value.get_ref() else {
            let what = format!("`{name}` is a list of tables: write [[{name}]]");
            return Err(self.source.error(value.span().start, what));
        };
        let numbered = items.iter().enumerate();
        numbered
            .map(|(i, item)| self.entry(item, &format!("{name} {}", i + 1), &format!("[[{name}]]")))
            .collect()
    }

    fn entry(
        &self,
        value: &Spanned<DeValue<'t>>,
        place: &str,
        form: &str,
    ) -> Result<Entry<'t>, FileError> {
        match value.get_ref() {
            DeValue::Table(_) => Ok(Entry {
                source: self.source,
                place: place.to_owned(),
                value: value.clone(),
            }),
            _ => {
                let what = format!("{place} is a table: write {form}");
                Err(self.source.error(value.span().start, what))
            }
        }
    }
}

/// One table of a file.
#[derive(Clone, Debug)]
pub(super) struct Entry<'t> {
    source: Source<'t>,
    /// What it is called in errors: `subnet "pods-a"`.
    place: String,
    value: Spanned<DeValue<'t>>,
}

impl<'t> Entry<'t> {
    /// Reads it as a `T`.
    ///
    /// # Errors
    /// What serde finds wrong, with its line.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, FileError> {
        T::deserialize(ValueDeserializer::from(self.value.clone()))
            .map_err(|error| self.source.explain(&error, &self.place))
    }

    /// The same, with each text in it replaced.
    ///
    /// # Errors
    /// What `replace` finds wrong, with its line.
    pub(super) fn replaced(
        &self,
        replace: &mut dyn FnMut(&str) -> Result<String, String>,
    ) -> Result<Entry<'t>, FileError> {
        let mut entry = self.clone();
        let replaced = replace_in(&mut entry.value, replace);
        replaced.map_err(|(offset, what)| {
            self.source.error(offset, format!("{}: {what}", self.place))
        })?;
        Ok(entry)
    }

    /// The same, called by its name in errors.
    pub(super) fn called(&self, kind: &str, name: &str) -> Entry<'t> {
        Entry {
            place: format!("{kind} {name:?}"),
            ..self.clone()
        }
    }

    /// An error at this field of it, or where it begins when it has no such field.
    pub(super) fn error(&self, field: &str, what: impl fmt::Display) -> FileError {
        let within = self.value.get_ref().as_table();
        let at = within.and_then(|table| {
            let mut keys = table.keys();
            keys.find(|key| key.get_ref() == field)
                .map(|key| key.span().start)
        });
        let begins = self.value.span().start;
        self.source
            .error(at.unwrap_or(begins), format!("{}: {what}", self.place))
    }

    /// The nth table of a list in it, from 0; itself when there is none.
    pub(super) fn nth(&self, list: &str, n: usize) -> Entry<'t> {
        let items = self.value.get_ref().get(list);
        let items = items.and_then(|items| items.get_ref().as_array());
        let Some(item) = items.and_then(|items| items.get(n)) else {
            return self.clone();
        };
        Entry {
            source: self.source,
            place: format!("{}, {list} {}", self.place, n + 1),
            value: item.clone(),
        }
    }
}

fn replace_in(
    value: &mut Spanned<DeValue<'_>>,
    replace: &mut dyn FnMut(&str) -> Result<String, String>,
) -> Result<(), (usize, String)> {
    let offset = value.span().start;
    match value.get_mut() {
        DeValue::String(text) => {
            *text = replace(text).map_err(|what| (offset, what))?.into();
            Ok(())
        }
        DeValue::Array(items) => items
            .iter_mut()
            .try_for_each(|item| replace_in(item, replace)),
        DeValue::Table(table) => table
            .iter_mut()
            .try_for_each(|(_, item)| replace_in(item, replace)),
        _ => Ok(()),
    }
}
