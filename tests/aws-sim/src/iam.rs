//! What callers may not do. Who is not named here may do everything, within their account.

use serde::{Deserialize, Serialize};

use crate::error::Ec2Error;
use crate::faults::Asker;
use crate::filters::wildcard;
use crate::ids::{Dice, mix};

/// These callers may not do this.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Deny {
    /// The action, as `CreateTags`, `ec2:CreateTags` or `Create*`.
    pub action: String,
    /// The account that asks. `None` is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The instance that asks: its id or its `Name` tag. `None` is anyone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

impl Deny {
    /// Nobody may do this.
    #[must_use]
    pub fn action(pattern: &str) -> Deny {
        Deny {
            action: pattern.to_owned(),
            account: None,
            instance: None,
        }
    }

    /// Only this instance, by id or `Name` tag, may not.
    #[must_use]
    pub fn to_instance(self, instance: impl Into<String>) -> Deny {
        Deny {
            instance: Some(instance.into()),
            ..self
        }
    }

    /// Only this account may not.
    #[must_use]
    pub fn to_account(self, account: &str) -> Deny {
        Deny {
            account: Some(account.to_owned()),
            ..self
        }
    }

    fn covers(&self, action: &str, asker: Asker<'_>) -> bool {
        wildcard(bare(&self.action), action)
            && asker.is_account(self.account.as_deref())
            && asker.is_instance(self.instance.as_deref())
    }
}

/// An action without the service before it.
fn bare(action: &str) -> &str {
    action.strip_prefix("ec2:").unwrap_or(action)
}

/// All that is denied.
#[derive(Clone, Debug, Default)]
pub struct Iam {
    denied: Vec<Deny>,
}

impl Iam {
    /// From now on these callers may not do this.
    pub fn deny(&mut self, deny: Deny) {
        self.denied.push(deny);
    }

    /// What was denied with this pattern is allowed again; `*` allows everything.
    pub fn allow(&mut self, pattern: &str) {
        self.denied
            .retain(|deny| pattern != "*" && bare(&deny.action) != bare(pattern));
    }

    /// What is denied.
    #[must_use]
    pub fn denied(&self) -> &[Deny] {
        &self.denied
    }

    pub(crate) fn forbids(&self, action: &str, asker: Asker<'_>) -> bool {
        self.denied.iter().any(|deny| deny.covers(action, asker))
    }
}

/// What EC2 answers to one who may not. `user` and `resource` are ARNs; reads have no resource, and nothing to
/// decode. The texts are joined from several logs of real calls; that reads have no encoded part is recollection.
pub(crate) fn unauthorized(
    action: &str,
    user: &str,
    resource: Option<&str>,
    request_id: &str,
) -> Ec2Error {
    let on = resource.map_or(String::new(), |resource| {
        format!(" on resource: {resource}")
    });
    let encoded = match resource {
        Some(_) => format!(
            ". Encoded authorization failure message: {}",
            encoded(request_id)
        ),
        None => String::new(),
    };
    let message = format!(
        "You are not authorized to perform this operation. User: {user} is not authorized to perform: \
         ec2:{action}{on} because no identity-based policy allows the ec2:{action} action{encoded}"
    );
    Ec2Error {
        status: 403,
        ..Ec2Error::client("UnauthorizedOperation", message)
    }
}

/// Looks like what sts:DecodeAuthorizationMessage takes. Nothing can be decoded from it.
fn encoded(request_id: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    let seed = request_id
        .bytes()
        .fold(0, |seed, byte| mix(seed ^ u64::from(byte)));
    let mut dice = Dice::new(seed);
    let digits = std::iter::repeat_with(|| DIGITS.get(dice.below(64)).copied());
    digits.take(200).flatten().map(char::from).collect()
}
