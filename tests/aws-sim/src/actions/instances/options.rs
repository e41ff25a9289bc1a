//! Options that are given at launch and can be changed later.

use crate::error::{Ec2Error, Result};
use crate::params::Input;
use crate::world::{Credits, ImdsOptions};

/// Metadata options as a request has them.
pub(super) struct AskedImds<'a> {
    tokens: Option<&'a str>,
    hop_limit: Option<i64>,
    endpoint: Option<&'a str>,
    ipv6: Option<&'a str>,
    tags: Option<&'a str>,
}

impl<'a> AskedImds<'a> {
    pub(super) fn read(input: &Input<'a>, prefix: &str) -> Result<AskedImds<'a>> {
        let text = |name: &str| input.text(&format!("{prefix}{name}"));
        Ok(AskedImds {
            tokens: text("HttpTokens"),
            hop_limit: input.parsed(&format!("{prefix}HttpPutResponseHopLimit"))?,
            endpoint: text("HttpEndpoint"),
            ipv6: text("HttpProtocolIpv6"),
            tags: text("InstanceMetadataTags"),
        })
    }

    /// Whether nothing is asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.hop_limit.is_none()
            && [self.tokens, self.endpoint, self.ipv6, self.tags]
                .iter()
                .all(Option::is_none)
    }

    /// The options with what is asked for.
    pub(super) fn over(&self, options: ImdsOptions) -> Result<ImdsOptions> {
        let choose = |name: &str, value: Option<&str>, yes: &str, no: &str, now: bool| match value {
            None => Ok(now),
            Some(value) if value == yes => Ok(true),
            Some(value) if value == no => Ok(false),
            Some(other) => Err(Ec2Error::value(other, name, "")),
        };
        let on = |name, value, now| choose(name, value, "enabled", "disabled", now);
        let hop_limit = match self.hop_limit {
            None => options.hop_limit,
            Some(limit) => u8::try_from(limit)
                .ok()
                .filter(|limit| (1..=64).contains(limit))
                .ok_or_else(|| {
                    let why = "Expecting a value from 1 to 64.";
                    Ec2Error::value(limit, "httpPutResponseHopLimit", why)
                })?,
        };
        Ok(ImdsOptions {
            enabled: on("httpEndpoint", self.endpoint, options.enabled)?,
            v1_allowed: choose(
                "httpTokens",
                self.tokens,
                "optional",
                "required",
                options.v1_allowed,
            )?,
            hop_limit,
            ipv6: on("httpProtocolIpv6", self.ipv6, options.ipv6)?,
            tags: on("instanceMetadataTags", self.tags, options.tags)?,
        })
    }
}

/// Whether the system's own shutdown terminates the instance.
pub(super) fn shutdown_behavior(name: Option<&str>) -> Result<bool> {
    match name {
        None | Some("stop") => Ok(false),
        Some("terminate") => Ok(true),
        Some(other) => Err(Ec2Error::value(
            other,
            "instanceInitiatedShutdownBehavior",
            "",
        )),
    }
}

/// Base64 of at most 16 KiB.
pub(super) fn check_user_data(data: &str) -> Result<()> {
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let digits = data.trim_end_matches('=');
    if !digits.bytes().all(is_base64)
        || !data.len().is_multiple_of(4)
        || data.len() - digits.len() > 2
    {
        return Err(Ec2Error::client(
            "InvalidUserData.Malformed",
            "Invalid BASE64 encoding of user data.",
        ));
    }
    if digits.len() * 3 / 4 > 16_384 {
        return Err(Ec2Error::invalid("User data is limited to 16384 bytes"));
    }
    Ok(())
}

/// What bursts cost an instance whose type earns credits.
pub(super) fn credits(name: Option<&str>) -> Result<Option<Credits>> {
    match name {
        None => Ok(None),
        Some("standard") => Ok(Some(Credits::Standard)),
        Some("unlimited") => Ok(Some(Credits::Unlimited)),
        Some(other) => Err(Ec2Error::value(other, "cpuCredits", "")),
    }
}
