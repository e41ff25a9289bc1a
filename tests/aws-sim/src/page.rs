//! `MaxResults` and `NextToken`.

use std::ops::RangeInclusive;

use crate::error::{Ec2Error, Result};
use crate::ids::mix;
use crate::params::{Input, Params};

/// How a Describe is asked to be cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    size: Option<usize>,
    after: Option<String>,
    /// Of the parameters that a token is tied to.
    seal: u64,
}

impl Page {
    /// Reads the two parameters. `ids` is the parameter of explicit ids, which MaxResults can't be used with.
    ///
    /// # Errors
    /// `InvalidParameterValue`, `InvalidParameterCombination`, `InvalidNextToken`.
    pub fn read(input: &Input<'_>, ids: &str, limits: RangeInclusive<usize>) -> Result<Page> {
        let size = input.parsed::<usize>("MaxResults")?;
        if size.is_some() && !input.elements(ids).is_empty() {
            return Err(Ec2Error::combination(format!(
                "The parameter {ids} cannot be used with the parameter MaxResults"
            )));
        }
        if let Some(size) = size
            && !limits.contains(&size)
        {
            let (low, high) = (limits.start(), limits.end());
            return Err(Ec2Error::invalid(if size < *low {
                format!(
                    "Value ( {size} ) for parameter maxResults is invalid. Expecting a value greater than {low}."
                )
            } else {
                format!(
                    "Value ( {size} ) for parameter maxResults is invalid. Expecting a value less than {high}."
                )
            }));
        }
        let seal = seal(input.params());
        let after = input
            .text("NextToken")
            .map(|token| open(token, seal))
            .transpose()?;
        Ok(Page { size, after, seal })
    }

    /// Without MaxResults, this many.
    #[must_use]
    pub fn or_size(self, size: usize) -> Page {
        Page {
            size: Some(self.size.unwrap_or(size)),
            ..self
        }
    }

    /// Of more than this, only this many.
    #[must_use]
    pub fn at_most(self, size: usize) -> Page {
        Page {
            size: self.size.map(|asked| asked.min(size)),
            ..self
        }
    }

    /// The page, and the token of the next one. `items` are in the order of their ids.
    pub fn cut<T>(&self, items: Vec<T>, id: impl Fn(&T) -> &str) -> (Vec<T>, Option<String>) {
        let mut left: Vec<T> = match &self.after {
            Some(after) => items
                .into_iter()
                .filter(|item| id(item) > after.as_str())
                .collect(),
            None => items,
        };
        let Some(size) = self.size.filter(|size| left.len() > *size) else {
            return (left, None);
        };
        left.truncate(size);
        let token = left.last().map(|last| {
            let id: String = id(last).bytes().map(|byte| format!("{byte:02x}")).collect();
            format!("{:016x}{id}", self.seal)
        });
        (left, token)
    }
}

fn open(token: &str, seal: u64) -> Result<String> {
    let invalid = || Ec2Error::client("InvalidNextToken", "The specified NextToken is not valid.");
    let (sealed, id) = token.split_at_checked(16).ok_or_else(invalid)?;
    if u64::from_str_radix(sealed, 16).ok() != Some(seal) || !id.is_ascii() {
        return Err(invalid());
    }
    let bytes: Option<Vec<u8>> = id
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(invalid)
}

/// A number that follows from everything that is asked for, but not from which page.
fn seal(params: &Params) -> u64 {
    let asked = params.all().iter().filter(|(name, _)| {
        !matches!(name.as_str(), "NextToken" | "MaxResults" | "DryRun")
            && !name.starts_with("X-Amz-")
    });
    asked
        .flat_map(|(name, value)| name.bytes().chain([0]).chain(value.bytes()).chain([0]))
        .fold(0, |seal, byte| mix(seal ^ u64::from(byte)))
}
