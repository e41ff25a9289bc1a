//! `Filter.N.Name` and `Filter.N.Value.M`: all filters must match, each by any of its values.

use crate::error::{Ec2Error, Result};
use crate::params::Input;
use crate::world::Tags;

/// What a filter looks at: all values that a thing has under a name.
pub type Field<'a, T> = Box<dyn Fn(&T) -> Vec<String> + 'a>;

/// The filters of one Describe.
pub struct Filters<'a, T> {
    all: Vec<(Field<'a, T>, Vec<String>)>,
}

impl<T> std::fmt::Debug for Filters<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.all.iter().map(|(_, patterns)| patterns))
            .finish()
    }
}

impl<'a, T> Filters<'a, T> {
    /// Reads the filters. `field` knows the names.
    ///
    /// # Errors
    /// `InvalidParameterValue` for a name that is not known, `MissingParameter` for one without values,
    /// `FilterLimitExceeded` above 200 values.
    pub fn read(
        input: &Input<'_>,
        field: impl Fn(&str) -> Option<Field<'a, T>>,
    ) -> Result<Filters<'a, T>> {
        let mut all = Vec::new();
        let mut count = 0;
        for filter in input.elements("Filter") {
            let name = input.required(&format!("{filter}.Name"))?;
            let values: Vec<String> = input
                .elements(&format!("{filter}.Value"))
                .iter()
                .filter_map(|value| input.text_or_empty(value))
                .map(str::to_owned)
                .collect();
            if values.is_empty() {
                return Err(Ec2Error::missing(&format!("{filter}.Value")));
            }
            count += values.len();
            if count > 200 {
                let message =
                    "The maximum number of filter values specified on a single call is 200";
                return Err(Ec2Error::client("FilterLimitExceeded", message));
            }
            let field = field(name)
                .ok_or_else(|| Ec2Error::invalid(format!("The filter '{name}' is invalid")))?;
            all.push((field, values));
        }
        Ok(Filters { all })
    }

    /// Whether all filters match.
    #[must_use]
    pub fn matches(&self, thing: &T) -> bool {
        self.all.iter().all(|(field, patterns)| {
            let values = field(thing);
            values
                .iter()
                .any(|value| patterns.iter().any(|pattern| wildcard(pattern, value)))
        })
    }
}

/// `tag:KEY` and `tag-key`, which every resource has.
pub fn tag_field<'a, T: 'a>(name: &str, tags: fn(&T) -> &Tags) -> Option<Field<'a, T>> {
    if let Some(key) = name.strip_prefix("tag:") {
        let key = key.to_owned();
        return Some(Box::new(move |thing| {
            tags(thing).get(&key).cloned().into_iter().collect()
        }));
    }
    (name == "tag-key")
        .then(|| -> Field<'a, T> { Box::new(move |thing| tags(thing).keys().cloned().collect()) })
}

/// `*` is any text, `?` any one character, `\` takes the next as it is.
pub(crate) fn wildcard(pattern: &str, text: &str) -> bool {
    let pattern: Vec<Piece> = pieces(pattern);
    let text: Vec<char> = text.chars().collect();
    // Where the latest `*` began, and how much of the text it took: backtracking to it alone is enough.
    let (mut p, mut t, mut star) = (0, 0, None);
    while let Some(c) = text.get(t) {
        match pattern.get(p) {
            Some(Piece::Any) => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(Piece::One) => (p, t) = (p + 1, t + 1),
            Some(Piece::Exactly(expected)) if expected == c => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((after, taken)) => {
                    (p, t) = (after, taken + 1);
                    star = Some((after, t));
                }
                None => return false,
            },
        }
    }
    pattern
        .iter()
        .skip(p)
        .all(|piece| matches!(piece, Piece::Any))
}

enum Piece {
    Any,
    One,
    Exactly(char),
}

fn pieces(pattern: &str) -> Vec<Piece> {
    let mut chars = pattern.chars();
    let mut pieces = Vec::new();
    while let Some(c) = chars.next() {
        pieces.push(match c {
            '*' => Piece::Any,
            '?' => Piece::One,
            '\\' => Piece::Exactly(chars.next().unwrap_or('\\')),
            other => Piece::Exactly(other),
        });
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_as_ec2_documents() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abbcd", false),
            ("*b*b*", "abcab", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            (r"a\*", "a*", true),
            (r"a\*", "ab", false),
            ("abc", "ABC", false),
        ] {
            assert_eq!(wildcard(pattern, text), expected, "{pattern} on {text}");
        }
    }
}
