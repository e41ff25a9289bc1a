//! Client tokens: a call repeated with the same token is done once.

use std::collections::{BTreeMap, VecDeque};

use crate::error::{Ec2Error, Result};
use crate::ids::EniId;

/// What calls with a client token have made.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientTokens {
    known: BTreeMap<String, (String, EniId)>,
    /// The oldest first, to be forgotten first.
    order: VecDeque<String>,
}

impl ClientTokens {
    /// EC2 forgets tokens after a day or so; here a number bounds them, so that memory stays flat.
    const MOST: usize = 10_000;

    /// What the call made when it was first made.
    ///
    /// # Errors
    /// `IdempotentParameterMismatch` when it was made with other parameters.
    pub(crate) fn recall(&self, token: &str, fingerprint: &str) -> Result<Option<EniId>> {
        match self.known.get(token) {
            Some((known, made)) if known == fingerprint => Ok(Some(made.clone())),
            Some(_) => Err(Ec2Error::client(
                "IdempotentParameterMismatch",
                "The client token you have provided is not unique to your request.",
            )),
            None => Ok(None),
        }
    }

    pub(crate) fn remember(&mut self, token: &str, fingerprint: String, made: EniId) {
        if self
            .known
            .insert(token.to_owned(), (fingerprint, made))
            .is_none()
        {
            self.order.push_back(token.to_owned());
        }
        while self.order.len() > Self::MOST {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}
