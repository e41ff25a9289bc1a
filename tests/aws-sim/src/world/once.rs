//! Client tokens: a call repeated with the same token is done once.

use std::collections::{BTreeMap, VecDeque};

use crate::error::{Ec2Error, Result};
use crate::ids::{EniId, InstanceId, TrunkAssociationId};
use crate::params::Input;

/// A client token, as the caller's account wrote it for one action.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Token {
    pub(crate) account: String,
    pub(crate) action: &'static str,
    pub(crate) token: String,
}

impl Token {
    /// `ClientToken`, when there is one.
    pub(crate) fn read(input: &Input<'_>, action: &'static str) -> Result<Option<Token>> {
        let Some(token) = input.text("ClientToken") else {
            return Ok(None);
        };
        if token.len() > 64 {
            let message = "Client token must be less than or equal to 64 characters";
            return Err(Ec2Error::invalid(message));
        }
        if !token
            .bytes()
            .all(|byte| byte == b' ' || byte.is_ascii_graphic())
        {
            let message = "Client token must contain only ASCII printable characters";
            return Err(Ec2Error::invalid(message));
        }
        Ok(Some(Token {
            account: input.account().to_owned(),
            action,
            token: token.to_owned(),
        }))
    }
}

/// Everything that was asked for: what a repeated client token must repeat.
pub(crate) fn fingerprint(input: &Input<'_>) -> String {
    let asked = input.params().all().iter();
    let asked = asked.filter(|(name, _)| *name != "ClientToken" && !name.starts_with("X-Amz-"));
    asked
        .flat_map(|(name, value)| [name.as_str(), "\0", value.as_str(), "\0"])
        .collect()
}

/// What a call made.
#[derive(Clone, Debug)]
pub(crate) enum Made {
    Eni(EniId),
    TrunkAssociation(TrunkAssociationId),
    /// It took something away.
    Gone,
    Instances(Vec<InstanceId>),
}

/// The token is known, but what it stands for is not what is asked for, or no longer there.
pub(crate) fn mismatch() -> Ec2Error {
    Ec2Error::client(
        "IdempotentParameterMismatch",
        "Arguments on this idempotent request are inconsistent with arguments used in previous \
         request(s).",
    )
}

/// What calls with a client token have made. Tokens are those of an account and an action.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientTokens {
    known: BTreeMap<Token, (String, Made)>,
    /// The oldest first, to be forgotten first.
    order: VecDeque<Token>,
}

impl ClientTokens {
    /// EC2 forgets tokens after a day or so; here a number bounds them, so that memory stays flat.
    const MOST: usize = 10_000;

    /// What the call made when it was first made.
    ///
    /// # Errors
    /// `IdempotentParameterMismatch` when it was made with other parameters.
    pub(crate) fn recall(&self, token: &Token, fingerprint: &str) -> Result<Option<Made>> {
        match self.known.get(token) {
            Some((known, made)) if known == fingerprint => Ok(Some(made.clone())),
            Some(_) => Err(mismatch()),
            None => Ok(None),
        }
    }

    pub(crate) fn remember(&mut self, token: &Token, fingerprint: String, made: Made) {
        if self
            .known
            .insert(token.clone(), (fingerprint, made))
            .is_none()
        {
            self.order.push_back(token.clone());
        }
        while self.order.len() > Self::MOST {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}
