//! Parameters of the EC2 query protocol: flat names, lists as `Name.1`, structures in lists as `Name.1.Member`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use crate::error::{Ec2Error, Result};

/// Parameters by name, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(BTreeMap<String, String>);

impl Params {
    /// Decodes `application/x-www-form-urlencoded`. Never fails: what is not well-formed is taken as it stands.
    #[must_use]
    pub fn decode(encoded: &[u8]) -> Params {
        let mut params = BTreeMap::new();
        for pair in encoded
            .split(|b| *b == b'&')
            .filter(|pair| !pair.is_empty())
        {
            let mut halves = pair.splitn(2, |b| *b == b'=');
            let name = unescape(halves.next().unwrap_or_default());
            let value = unescape(halves.next().unwrap_or_default());
            params.insert(name, value);
        }
        Params(params)
    }

    /// From pairs.
    pub fn from_pairs<K: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Params {
        Params(
            pairs
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }

    /// Adds those of `other`, which win.
    pub fn merge(&mut self, other: Params) {
        self.0.extend(other.0);
    }

    /// The value of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Every name and value, by name.
    #[must_use]
    pub fn all(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

fn unescape(encoded: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = after;
                }
                _ => bytes.push(b'%'),
            },
            (other, _) => bytes.push(*other),
        }
    }
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// The parameters of one call, and which of them its action has read: what is left over is refused, so that
/// nothing that a caller asks for is dropped in silence.
#[derive(Debug)]
pub struct Input<'a> {
    params: &'a Params,
    account: &'a str,
    read: RefCell<BTreeSet<&'a str>>,
}

impl<'a> Input<'a> {
    /// Of these parameters, from a caller of this account.
    #[must_use]
    pub fn new(params: &'a Params, account: &'a str) -> Input<'a> {
        Input {
            params,
            account,
            read: RefCell::default(),
        }
    }

    /// All parameters.
    #[must_use]
    pub fn params(&self) -> &'a Params {
        self.params
    }

    /// The account of the caller: nothing of another's is to be seen or changed.
    #[must_use]
    pub fn account(&self) -> &'a str {
        self.account
    }

    /// To be called by each action when it has read all that it knows, before it does anything.
    ///
    /// # Errors
    /// `UnknownParameter`; `DryRunOperation` when all is well but nothing shall be done.
    pub fn finish(&self) -> Result<()> {
        let dry_run = self.flag("DryRun")?.unwrap_or(false);
        let read = self.read.borrow();
        let unread = self.params.0.keys().find(|name| {
            // A signed URL carries its signature among the parameters.
            !matches!(name.as_str(), "Action" | "Version")
                && !name.starts_with("X-Amz-")
                && !read.contains(name.as_str())
        });
        match unread {
            Some(name) => Err(Ec2Error::unknown_parameter(name)),
            None if dry_run => Err(Ec2Error::dry_run()),
            None => Ok(()),
        }
    }

    /// The value, when there is one that is not empty.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        let (name, value) = self.params.0.get_key_value(name)?;
        self.read.borrow_mut().insert(name.as_str());
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    /// The value, also when it is empty.
    pub fn text_or_empty(&self, name: &str) -> Option<&'a str> {
        let value = self.params.get(name)?;
        Some(self.text(name).unwrap_or(value))
    }

    /// The value.
    ///
    /// # Errors
    /// `MissingParameter`
    pub fn required(&self, name: &str) -> Result<&'a str> {
        self.text(name).ok_or_else(|| Ec2Error::missing(name))
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// `InvalidParameterValue`
    pub fn flag(&self, name: &str) -> Result<Option<bool>> {
        match self.text(name) {
            None => Ok(None),
            Some("true" | "True" | "1") => Ok(Some(true)),
            Some("false" | "False" | "0") => Ok(Some(false)),
            Some(other) => Err(Ec2Error::value(other, name, "Must be true or false.")),
        }
    }

    /// A number, or anything else that is parsed.
    ///
    /// # Errors
    /// `InvalidParameterValue`
    pub fn parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>> {
        self.text(name).map(|text| parse(name, text)).transpose()
    }

    /// How many of something are asked for: at least one.
    ///
    /// # Errors
    /// `InvalidParameterValue`
    pub fn count(&self, name: &str) -> Result<Option<usize>> {
        match self.parsed::<usize>(name)? {
            Some(0) => Err(Ec2Error::value(0, name, "Must be greater than 0.")),
            count => Ok(count),
        }
    }

    /// `Name.1`, `Name.2`, ... in the order of their numbers.
    pub fn list(&self, name: &str) -> Vec<&'a str> {
        let elements = self.elements(name);
        elements
            .iter()
            .filter_map(|element| self.text(element))
            .collect()
    }

    /// The same, parsed.
    ///
    /// # Errors
    /// `InvalidParameterValue`
    pub fn parsed_list<T: FromStr>(&self, name: &str) -> Result<Vec<T>> {
        self.list(name)
            .into_iter()
            .map(|text| parse(name, text))
            .collect()
    }

    /// The names `Name.1`, `Name.2`, ... under which something is there, in the order of their numbers.
    #[must_use]
    pub fn elements(&self, name: &str) -> Vec<String> {
        let prefix = format!("{name}.");
        let names = self.params.0.range(prefix.clone()..).map(|(name, _)| name);
        let numbers: BTreeSet<u32> = names
            .map_while(|name| name.strip_prefix(&prefix))
            .filter_map(|rest| {
                let digits = rest.split('.').next().unwrap_or_default();
                // `Name.01` and `Name.+1` are not elements: they stay unread and are refused.
                digits
                    .parse()
                    .ok()
                    .filter(|number: &u32| *number > 0 && number.to_string() == digits)
            })
            .collect();
        numbers
            .into_iter()
            .map(|number| format!("{name}.{number}"))
            .collect()
    }
}

fn parse<T: FromStr>(name: &str, text: &str) -> Result<T> {
    text.parse()
        .map_err(|_| Ec2Error::value(text, name, "It can't be parsed."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_decoded() {
        let params = Params::decode(b"Action=X&a+b=c%20d%26&empty=&bare&bad=%zz%4");
        let all: Vec<_> = params
            .all()
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(
            all,
            [
                ("Action", "X"),
                ("a b", "c d&"),
                ("bad", "%zz%4"),
                ("bare", ""),
                ("empty", "")
            ]
        );
    }

    #[test]
    fn lists_go_by_number_and_not_by_text() {
        let params =
            Params::from_pairs([("A.10", "x"), ("A.9", "w"), ("A.1", "v"), ("AB.1", "no")]);
        assert_eq!(
            Input::new(&params, "111122223333").list("A"),
            ["v", "w", "x"]
        );
    }

    #[test]
    fn what_no_action_reads_is_refused() {
        let params =
            Params::from_pairs([("Action", "X"), ("Known", "1"), ("Ipv6AddressCount", "2")]);
        let input = Input::new(&params, "111122223333");
        input.text("Known");
        assert_eq!(input.finish().unwrap_err().code, "UnknownParameter");
        input.text("Ipv6AddressCount");
        assert!(input.finish().is_ok());
    }

    #[test]
    fn a_dry_run_ends_where_the_work_would_begin() {
        let params = Params::from_pairs([("DryRun", "true")]);
        let error = Input::new(&params, "111122223333").finish().unwrap_err();
        assert_eq!(
            (error.code.as_str(), error.status),
            ("DryRunOperation", 412)
        );
    }
}
