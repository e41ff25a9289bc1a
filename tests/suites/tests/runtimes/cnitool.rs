//! cnitool: libcni, which every runtime has inside, as a command.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use anyhow::ensure;
use serde_json::{Value, json};
use suites::node::Outcome;
use vpc_lab::Netns;

use crate::programs::program;
use crate::world::Host;

/// The network's name in the conflist that ipamd writes.
const NETWORK: &str = "aws-cni";

/// A pod, as cnitool has it: it makes the container's id of the namespace's path.
pub(crate) struct Pod<'a> {
    host: &'a Host<'a>,
    /// `CNI_NETNS`.
    pub(crate) path: PathBuf,
    /// What the runtime hands to plugins that have the capability.
    pub(crate) capabilities: Value,
}

impl<'a> Pod<'a> {
    /// The pod with this namespace.
    pub(crate) fn in_netns(host: &'a Host<'a>, netns: &Netns) -> Self {
        Self {
            host,
            path: netns.path().to_owned(),
            capabilities: json!({}),
        }
    }

    /// With `CAP_ARGS`.
    pub(crate) fn with(mut self, capability: &str, value: Value) -> Self {
        self.capabilities[capability] = value;
        self
    }

    /// Runs cnitool with this verb.
    pub(crate) fn call(&self, verb: &str) -> anyhow::Result<Outcome> {
        let name = self.path.file_name().unwrap_or_default().display();
        let mut command = self.host.node.lab().netns().command(program("cnitool"));
        command
            .args([verb, NETWORK])
            .arg(&self.path)
            .env("NETCONFPATH", self.host.conf_dir())
            .env("CNI_PATH", self.host.bin_dir())
            .env("CAP_ARGS", self.capabilities.to_string())
            .env(
                "CNI_ARGS",
                format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=demo;K8S_POD_NAME={name}"),
            )
            .stdin(Stdio::null());
        let start = Instant::now();
        let output = command.output()?;
        Ok(Outcome {
            took: start.elapsed(),
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    }

    /// A verb that must succeed, and print nothing.
    pub(crate) fn silently(&self, verb: &str) -> anyhow::Result<()> {
        let outcome = self.call(verb)?;
        ensure!(
            outcome.code == Some(0) && outcome.stdout.is_empty(),
            "cnitool {verb}: {outcome:?}"
        );
        Ok(())
    }

    /// A verb that must fail, and say these things.
    pub(crate) fn refused(&self, verb: &str, says: &[&str]) -> anyhow::Result<()> {
        let outcome = self.call(verb)?;
        ensure!(outcome.code == Some(1), "cnitool {verb}: {outcome:?}");
        for part in says {
            ensure!(
                outcome.stderr.contains(part),
                "cnitool {verb} does not say {part:?}: {}",
                outcome.stderr
            );
        }
        Ok(())
    }
}
