//! `MaxResults` and `NextToken`.

use std::ops::RangeInclusive;

use crate::error::{Ec2Error, Result};
use crate::ids::mix;
use crate::params::{Input, Params};

/// How a Describe is asked to be cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    size: Option<usize>,
    after: Option<After>,
    /// Of the parameters that a token is tied to.
    seal: u64,
    /// Whether pages may be shorter than asked for.
    short: bool,
}

/// Where a page begins, as its token says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct After {
    id: String,
    /// Whether the page before it was empty: then this one is not.
    was_empty: bool,
}

/// How an operation words what is wrong with a page: each of EC2's has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Words {
    /// Of most.
    Usual,
    Instances,
    SecurityGroups,
    SecurityGroupRules,
    InstanceTypes,
}

impl Words {
    /// Of the operation with this parameter for ids.
    fn of(ids: &str) -> Words {
        match ids {
            "InstanceId" => Words::Instances,
            "GroupId" => Words::SecurityGroups,
            "SecurityGroupRuleId" => Words::SecurityGroupRules,
            "InstanceType" => Words::InstanceTypes,
            _ => Words::Usual,
        }
    }

    fn with_ids(self, ids: &str) -> Ec2Error {
        Ec2Error::combination(match self {
            Words::Instances => {
                "The parameter instancesSet cannot be used with the parameter maxResults".to_owned()
            }
            Words::SecurityGroups => {
                "The parameter securityGroupIdSet cannot be used with the parameter maxResults"
                    .to_owned()
            }
            Words::SecurityGroupRules => {
                "The parameter 'securityGroupRuleIds' may not be used in combination with 'maxResults'.".to_owned()
            }
            Words::Usual | Words::InstanceTypes => {
                format!("The parameter {ids}s cannot be used with the parameter MaxResults")
            }
        })
    }

    fn out_of_range(self, size: usize, limits: &RangeInclusive<usize>) -> Ec2Error {
        let (low, high) = (limits.start(), limits.end());
        let value = match self {
            Words::Usual => format!("Value ( {size} ) for parameter MaxResults is invalid."),
            _ => format!("Value ( {size} ) for parameter maxResults is invalid."),
        };
        let expected = match (self, size < *low) {
            // Two spaces, as in EC2.
            (Words::InstanceTypes, _) => {
                let message = format!("{value} Expecting a value from ( {low} ) to  ( {high} ).");
                return Ec2Error::client("InvalidMaxResults", message);
            }
            (Words::Usual, true) => format!("greater than or equal to {low}"),
            (Words::Usual, false) => format!("smaller than or equal to {high}"),
            (_, true) => format!("greater than {low}"),
            (_, false) => format!("smaller than {high}"),
        };
        Ec2Error::invalid(format!("{value} Expecting a value {expected}."))
    }

    fn bad_token(self, token: &str) -> Ec2Error {
        if self == Words::SecurityGroupRules {
            let message = format!("Next token '{token}' is invalid");
            return Ec2Error::client("InvalidPaginationToken", message);
        }
        Ec2Error::invalid(match self {
            Words::Instances => "Unable to parse pagination token".to_owned(),
            _ => format!(
                "Value ( {token} ) for parameter NextToken is invalid. The token is invalid."
            ),
        })
    }
}

impl Page {
    /// Reads the two parameters. `ids` is the parameter of explicit ids, which MaxResults can't be used with; it also
    /// tells in which words EC2 refuses.
    ///
    /// # Errors
    /// `InvalidParameterValue`, `InvalidParameterCombination`, and some others of single actions.
    pub fn read(input: &Input<'_>, ids: &str, limits: RangeInclusive<usize>) -> Result<Page> {
        let words = Words::of(ids);
        let size = input.parsed::<usize>("MaxResults")?;
        if size.is_some() && !input.elements(ids).is_empty() {
            return Err(words.with_ids(ids));
        }
        if let Some(size) = size
            && !limits.contains(&size)
        {
            return Err(words.out_of_range(size, &limits));
        }
        let seal = seal(input.params());
        let after = match input.text("NextToken") {
            Some(token) => Some(open(token, seal).ok_or_else(|| words.bad_token(token))?),
            None => None,
        };
        Ok(Page {
            size,
            after,
            seal,
            short: false,
        })
    }

    /// Without MaxResults, this many.
    #[must_use]
    pub fn or_size(self, size: usize) -> Page {
        Page {
            size: Some(self.size.unwrap_or(size)),
            ..self
        }
    }

    /// Shorter than asked for, and even empty, but with the token of the next: EC2 says that both may be. How short
    /// follows from the token.
    #[must_use]
    pub fn shortened(self, short: bool) -> Page {
        Page { short, ..self }
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
                .filter(|item| id(item) > after.id.as_str())
                .collect(),
            None => items,
        };
        let size = self.size.map(|size| self.drawn(size));
        let Some(size) = size.filter(|size| left.len() > *size) else {
            return (left, None);
        };
        left.truncate(size);
        let begun = self.after.as_ref().map_or("", |after| after.id.as_str());
        let last = left.last().map_or(begun, id);
        let last: String = last.bytes().map(|byte| format!("{byte:02x}")).collect();
        let empty = u8::from(left.is_empty());
        let token = format!("{:016x}{empty}{last}", self.seal);
        (left, Some(token))
    }

    /// How many of so many are on this page.
    fn drawn(&self, size: usize) -> usize {
        if !self.short {
            return size;
        }
        let after = self.after.as_ref();
        let id = after.map_or("", |after| after.id.as_str());
        let roll = id
            .bytes()
            .fold(self.seal, |roll, byte| mix(roll ^ u64::from(byte)));
        let drawn = usize::try_from(roll % 4).unwrap_or(0) * size / 3;
        // Two empty pages in a row would be the same page for ever.
        if drawn == 0 && after.is_some_and(|after| after.was_empty) {
            1
        } else {
            drawn
        }
    }
}

fn open(token: &str, seal: u64) -> Option<After> {
    let (sealed, rest) = token.split_at_checked(16)?;
    let (was_empty, id) = rest.split_at_checked(1)?;
    if u64::from_str_radix(sealed, 16) != Ok(seal) || !matches!(was_empty, "0" | "1") {
        return None;
    }
    let bytes: Option<Vec<u8>> = id
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    Some(After {
        id: String::from_utf8(bytes?).ok()?,
        was_empty: was_empty == "1",
    })
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
