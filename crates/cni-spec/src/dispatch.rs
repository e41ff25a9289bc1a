//! From the environment and stdin to one verb, and from its answer to stdout and an exit status.

use std::ffi::OsString;
use std::fmt;
use std::io::{Read, Write};

use serde_json::json;

use crate::config::{Document, NetworkConfig};
use crate::environment::{Attachment, CniArgs, Command, Environment, Invocation};
use crate::error::{Code, Error};
use crate::result::{AddResult, SeenResult};
use crate::version::Version;

/// What a plugin does.
pub trait Plugin {
    /// What a person reads who starts the plugin by hand.
    fn about(&self) -> String;

    /// Gives the container its interface, or fails with nothing left behind.
    ///
    /// # Errors
    /// Any; it is printed as the error object.
    fn add(&mut self, request: &AddRequest) -> Result<AddResult, Error>;

    /// Undoes ADD. What is not there any more is success.
    ///
    /// # Errors
    /// Only what another DEL can cure.
    fn del(&mut self, request: &DelRequest) -> Result<(), Error>;

    /// Whether the container's interface is as ADD left it. Changes nothing.
    ///
    /// # Errors
    /// What is not so.
    fn check(&mut self, request: &CheckRequest) -> Result<(), Error>;

    /// Whether an ADD could be served.
    ///
    /// # Errors
    /// Codes 50 and 51, and what is wrong with the configuration.
    fn status(&mut self, request: &StatusRequest) -> Result<(), Error>;

    /// Takes back what no valid attachment uses.
    ///
    /// # Errors
    /// All that could not be taken back, together.
    fn gc(&mut self, request: &GcRequest) -> Result<(), Error>;
}

/// An ADD, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct AddRequest {
    /// For whom.
    pub attachment: Attachment,
    /// `CNI_NETNS`, not checked yet.
    pub netns: String,
    /// The pod, as far as the runtime says.
    pub args: CniArgs,
    /// The network configuration.
    pub config: NetworkConfig,
}

/// A DEL, checked. `CNI_ARGS` is not part of it: a DEL must not fail over what it does not need.
#[derive(Clone, Debug, PartialEq)]
pub struct DelRequest {
    /// Of whom.
    pub attachment: Attachment,
    /// `CNI_NETNS`, if there is one still; not checked.
    pub netns: Option<String>,
    /// The network configuration.
    pub config: NetworkConfig,
}

/// A CHECK, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckRequest {
    /// Of whom.
    pub attachment: Attachment,
    /// `CNI_NETNS`, not checked yet.
    pub netns: String,
    /// What the whole chain made at ADD.
    pub result: SeenResult,
    /// The network configuration.
    pub config: NetworkConfig,
}

/// A STATUS, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusRequest {
    /// The network configuration.
    pub config: NetworkConfig,
}

/// A GC, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct GcRequest {
    /// The attachments of this network that are still valid. None when the runtime does not say, which is not the
    /// same as that there is none.
    pub valid: Option<Vec<Attachment>>,
    /// The network configuration.
    pub config: NetworkConfig,
}

/// The process's surroundings.
pub struct Streams<'a> {
    /// Looks a variable up.
    pub env: &'a dyn Fn(&str) -> Option<OsString>,
    /// The network configuration comes from here.
    pub stdin: &'a mut dyn Read,
    /// The result or the error object goes here, and nothing else.
    pub stdout: &'a mut dyn Write,
    /// For people.
    pub stderr: &'a mut dyn Write,
}

impl fmt::Debug for Streams<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}

/// The most that is read from stdin, in bytes. A conflist entry with its prevResult has a few thousand.
const STDIN_LIMIT: u64 = 16 << 20;

/// Serves one call and returns the process's exit status: 0 for success, 1 for failure.
pub fn dispatch(plugin: &mut impl Plugin, streams: Streams<'_>) -> u8 {
    let Streams {
        env,
        stdin,
        stdout,
        stderr,
    } = streams;
    // What an error object says its version is: the configuration's, once that is read.
    let mut spoken = Version::LATEST.as_str().to_owned();
    let answer = match Invocation::read(env) {
        Ok(Invocation::ByPerson) => {
            let versions = Version::SUPPORTED.map(Version::as_str).join(", ");
            let about = plugin.about();
            return status(writeln!(stderr, "{about}\nCNI versions: {versions}").is_ok());
        }
        Ok(Invocation::ByRuntime(environment)) => serve(plugin, &environment, stdin, &mut spoken),
        Err(error) => Err(error),
    };
    let (text, succeeded) = match answer {
        Ok(None) => return 0,
        Ok(Some(text)) => (text, true),
        Err(error) => (error.to_json(&spoken), false),
    };
    if let Err(error) = writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        // The runtime has not read the result, so it must see a failure; a DEL follows that.
        let _ignored = writeln!(stderr, "could not write to stdout: {error}");
        return status(false);
    }
    status(succeeded)
}

fn status(succeeded: bool) -> u8 {
    u8::from(!succeeded)
}

fn serve(
    plugin: &mut impl Plugin,
    environment: &Environment,
    stdin: &mut dyn Read,
    spoken: &mut String,
) -> Result<Option<String>, Error> {
    match environment.command {
        Command::Version => {
            // Stdin stays unread: the reference does not read it either, and a runtime may not close it.
            let object = json!({
                "cniVersion": Version::LATEST.as_str(),
                "supportedVersions": Version::SUPPORTED.map(Version::as_str),
            });
            Ok(Some(object.to_string()))
        }
        Command::Add => {
            let config = read_config(stdin, spoken)?;
            let request = AddRequest {
                attachment: environment.attachment()?,
                netns: environment.netns.clone().unwrap_or_default(),
                args: CniArgs::parse(&environment.args)?,
                config,
            };
            // A prevResult that can't be continued must fail the ADD before anything is made.
            let (version, prev) = (request.config.version(), request.config.prev_result());
            AddResult::default().write(version, prev)?;
            let result = plugin.add(&request)?;
            Ok(Some(result.write(version, prev)?.to_string()))
        }
        Command::Del => {
            let config = read_config(stdin, spoken)?;
            let attachment = environment.attachment()?;
            plugin.del(&DelRequest {
                attachment,
                netns: environment.netns.clone(),
                config,
            })?;
            Ok(None)
        }
        Command::Check => {
            let config = read_config(stdin, spoken)?;
            config.require(Version::V0_4_0, Command::Check)?;
            let prev = config.prev_result().ok_or_else(|| {
                Error::new(
                    Code::InvalidConfig,
                    "CHECK needs the prevResult",
                    "the runtime gives the result of the ADD that it wants checked",
                )
            })?;
            plugin.check(&CheckRequest {
                attachment: environment.attachment()?,
                netns: environment.netns.clone().unwrap_or_default(),
                result: SeenResult::read(prev)?,
                config,
            })?;
            Ok(None)
        }
        Command::Status => {
            let config = read_config(stdin, spoken)?;
            config.require(Version::V1_1_0, Command::Status)?;
            plugin.status(&StatusRequest { config })?;
            Ok(None)
        }
        Command::Gc => {
            let config = read_config(stdin, spoken)?;
            config.require(Version::V1_1_0, Command::Gc)?;
            let valid = config.valid_attachments()?;
            plugin.gc(&GcRequest { valid, config })?;
            Ok(None)
        }
    }
}

fn read_config(stdin: &mut dyn Read, spoken: &mut String) -> Result<NetworkConfig, Error> {
    let mut text = Vec::new();
    let read = stdin.take(STDIN_LIMIT + 1).read_to_end(&mut text);
    read.map_err(|error| {
        Error::new(
            Code::Io,
            "the network configuration could not be read from stdin",
            error.to_string(),
        )
    })?;
    if text.len() as u64 > STDIN_LIMIT {
        return Err(Error::new(
            Code::Io,
            format!("the network configuration on stdin is longer than {STDIN_LIMIT} bytes"),
            "",
        ));
    }
    let document = Document::parse(&text)?;
    if let Some(said) = document.said_version() {
        said.clone_into(spoken);
    }
    NetworkConfig::check(document)
}

#[cfg(test)]
mod tests;
