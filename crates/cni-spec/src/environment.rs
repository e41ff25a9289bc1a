//! What the runtime says in `CNI_` variables.

use std::ffi::OsString;
use std::fmt;

use crate::error::{Code, Error};

/// A verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Give the container its interface.
    Add,
    /// Undo ADD.
    Del,
    /// Is it as ADD left it?
    Check,
    /// Take back what no valid attachment uses.
    Gc,
    /// Could an ADD be served?
    Status,
    /// Which versions are spoken?
    Version,
}

impl Command {
    /// `ADD` and so on.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [
            Self::Add,
            Self::Del,
            Self::Check,
            Self::Gc,
            Self::Status,
            Self::Version,
        ]
        .into_iter()
        .find(|command| command.as_str() == text)
    }

    /// The variables without which the verb can't be carried out. SPEC.md calls `CNI_PATH` optional; the
    /// reference skeleton requires it, and every runtime sets it.
    const fn required(self) -> &'static [&'static str] {
        match self {
            Self::Add | Self::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"],
            Self::Del => &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"],
            Self::Gc | Self::Status => &["CNI_PATH"],
            Self::Version => &[],
        }
    }
}

/// The key of an attachment: one interface of one container. Both parts keep the contract's rules, so they
/// are safe in file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    container_id: String,
    ifname: String,
}

impl Attachment {
    /// Checks both parts.
    ///
    /// # Errors
    /// Code 4, naming the variable and the rule.
    pub fn new(container_id: String, ifname: String) -> Result<Self, Error> {
        if !is_name(&container_id) {
            return Err(invalid(
                format!("invalid CNI_CONTAINERID {container_id:?}"),
                "it must start with a letter or digit and go on with letters, digits, '_', '.' or '-'",
            ));
        }
        if let Some(rule) = broken_ifname_rule(&ifname) {
            return Err(invalid(format!("invalid CNI_IFNAME {ifname:?}"), rule));
        }
        Ok(Self {
            container_id,
            ifname,
        })
    }

    /// `CNI_CONTAINERID`: letters, digits, `_`, `.` and `-`, the first a letter or digit.
    #[must_use]
    pub fn container_id(&self) -> &str {
        &self.container_id
    }

    /// `CNI_IFNAME`: 1 to 15 bytes, as the kernel takes them.
    #[must_use]
    pub fn ifname(&self) -> &str {
        &self.ifname
    }
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.container_id, self.ifname)
    }
}

/// `[A-Za-z0-9][A-Za-z0-9_.-]*`: the rule of container ids and of network names.
pub(crate) fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// The kernel's rules for interface names (`dev_valid_name` in net/core/dev.c).
fn broken_ifname_rule(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        Some("it must not be empty")
    } else if text.len() > 15 {
        Some("the kernel takes at most 15 bytes")
    } else if text == "." || text == ".." {
        Some("the kernel takes neither '.' nor '..'")
    } else if text
        .chars()
        .any(|c| c == '/' || c == ':' || c.is_whitespace() || c == '\0')
    {
        Some("it must contain no '/', no ':' and no white space")
    } else {
        None
    }
}

fn invalid(msg: impl Into<String>, details: impl Into<String>) -> Error {
    Error::new(Code::InvalidEnvironment, msg, details)
}

/// The variables of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Environment {
    pub(crate) command: Command,
    pub(crate) container_id: Option<String>,
    pub(crate) netns: Option<String>,
    pub(crate) ifname: Option<String>,
    pub(crate) args: String,
}

/// What `CNI_COMMAND` says: nothing at all (a person started the plugin), or a verb with its variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Invocation {
    ByPerson,
    ByRuntime(Environment),
}

impl Invocation {
    /// Reads the variables from `lookup`. All that are missing are named at once. An empty one is missing.
    pub(crate) fn read(lookup: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let get = |name: &str| -> Result<Option<String>, Error> {
            match lookup(name).map(OsString::into_string) {
                None => Ok(None),
                Some(Ok(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
                Some(Err(raw)) => Err(invalid(
                    format!("{name} is not UTF-8: {raw:?}"),
                    "set it as plain text",
                )),
            }
        };
        let Some(verb) = get("CNI_COMMAND")? else {
            return Ok(Self::ByPerson);
        };
        let Some(command) = Command::parse(&verb) else {
            return Err(invalid(
                format!("unknown CNI_COMMAND {verb:?}"),
                "the contract's verbs are ADD, DEL, CHECK, GC, STATUS and VERSION, in capitals",
            ));
        };
        let mut missing = Vec::new();
        for name in command.required() {
            if get(name)?.is_none() {
                missing.push(*name);
            }
        }
        if !missing.is_empty() {
            return Err(invalid(
                format!("required env variables [{}] missing", missing.join(",")),
                format!(
                    "{} needs them; the container runtime sets them",
                    command.as_str()
                ),
            ));
        }
        Ok(Self::ByRuntime(Environment {
            command,
            container_id: get("CNI_CONTAINERID")?,
            netns: get("CNI_NETNS")?,
            ifname: get("CNI_IFNAME")?,
            args: get("CNI_ARGS")?.unwrap_or_default(),
        }))
    }
}

impl Environment {
    /// The key, of a verb that requires its two variables.
    pub(crate) fn attachment(&self) -> Result<Attachment, Error> {
        Attachment::new(
            self.container_id.clone().unwrap_or_default(),
            self.ifname.clone().unwrap_or_default(),
        )
    }
}

/// What a Kubernetes runtime says of the pod in `CNI_ARGS`. Each part may be missing: cnitool sends none, old
/// runtimes no uid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CniArgs {
    /// `K8S_POD_NAMESPACE`
    pub pod_namespace: Option<String>,
    /// `K8S_POD_NAME`
    pub pod_name: Option<String>,
    /// `K8S_POD_UID`
    pub pod_uid: Option<String>,
    /// `K8S_POD_INFRA_CONTAINER_ID`
    pub infra_container_id: Option<String>,
}

impl CniArgs {
    /// Parses `K=V;K=V`. Keys that are not known here are an error unless `IgnoreUnknown` is true, as in the
    /// reference (`types.LoadArgs`).
    ///
    /// # Errors
    /// Code 4, naming the pair or the keys.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut args = Self::default();
        let mut ignore_unknown = false;
        let mut unknown = Vec::new();
        for pair in text.split(';').filter(|_| !text.is_empty()) {
            let (key, value) = pair
                .split_once('=')
                .filter(|(key, value)| !key.is_empty() && !value.contains('='))
                .ok_or_else(|| {
                    invalid(
                        format!("invalid pair {pair:?} in CNI_ARGS"),
                        "CNI_ARGS is KEY=VALUE pairs with ';' between them",
                    )
                })?;
            let value_or_none = Some(value.to_owned()).filter(|value| !value.is_empty());
            match key {
                "IgnoreUnknown" => ignore_unknown = parse_bool(value)?,
                "K8S_POD_NAMESPACE" => args.pod_namespace = value_or_none,
                "K8S_POD_NAME" => args.pod_name = value_or_none,
                "K8S_POD_UID" => args.pod_uid = value_or_none,
                "K8S_POD_INFRA_CONTAINER_ID" => args.infra_container_id = value_or_none,
                other => unknown.push(other),
            }
        }
        if unknown.is_empty() || ignore_unknown {
            return Ok(args);
        }
        Err(invalid(
            format!("unknown keys [{}] in CNI_ARGS", unknown.join(",")),
            "add IgnoreUnknown=1 to have them ignored",
        ))
    }
}

fn parse_bool(text: &str) -> Result<bool, Error> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(invalid(
            format!("invalid IgnoreUnknown={text} in CNI_ARGS"),
            "it is 1, true, 0 or false",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Invocation, Error> {
        let map: HashMap<_, _> = pairs.iter().copied().collect();
        Invocation::read(&|name| map.get(name).map(OsString::from))
    }

    #[test]
    fn every_missing_variable_is_named_in_one_message() {
        let cases = [
            ("ADD", "[CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH]"),
            ("CHECK", "[CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH]"),
            ("DEL", "[CNI_CONTAINERID,CNI_IFNAME,CNI_PATH]"),
            ("GC", "[CNI_PATH]"),
            ("STATUS", "[CNI_PATH]"),
        ];
        for (verb, named) in cases {
            let error = read(&[("CNI_COMMAND", verb)]).unwrap_err();
            assert_eq!(error.code.number(), 4);
            assert_eq!(error.msg, format!("required env variables {named} missing"));
        }
        assert!(read(&[("CNI_COMMAND", "VERSION")]).is_ok());
    }

    #[test]
    fn an_empty_variable_is_a_missing_one() {
        let error = read(&[
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "c"),
            ("CNI_NETNS", ""),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", "/opt/cni/bin"),
        ])
        .unwrap_err();
        assert_eq!(error.msg, "required env variables [CNI_NETNS] missing");
    }

    #[test]
    fn a_del_needs_no_netns() {
        let invocation = read(&[
            ("CNI_COMMAND", "DEL"),
            ("CNI_CONTAINERID", "c"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", "/opt/cni/bin"),
        ]);
        assert!(matches!(invocation, Ok(Invocation::ByRuntime(env)) if env.netns.is_none()));
    }

    #[test]
    fn no_verb_is_a_person_and_an_unknown_verb_is_refused() {
        assert_eq!(read(&[]), Ok(Invocation::ByPerson));
        assert_eq!(read(&[("CNI_COMMAND", "")]), Ok(Invocation::ByPerson));
        for verb in ["add", "GET", " ADD"] {
            let error = read(&[("CNI_COMMAND", verb)]).unwrap_err();
            assert_eq!(error.code.number(), 4);
            assert!(error.msg.contains(verb), "{}", error.msg);
        }
    }

    #[test]
    fn a_variable_that_is_not_utf8_is_named() {
        let error = Invocation::read(&|name| {
            Some(match name {
                "CNI_COMMAND" => OsString::from("ADD"),
                _ => OsString::from_vec(vec![0xff]),
            })
        })
        .unwrap_err();
        assert_eq!(error.code.number(), 4);
        assert!(error.msg.contains("CNI_CONTAINERID"), "{}", error.msg);
    }

    #[test]
    fn container_ids_keep_the_contracts_rule() {
        let long = "a".repeat(200);
        for good in ["a", "0", "A.b_c-d", "cnitool-77383ca0a0715733ca6f", &long] {
            assert!(
                Attachment::new(good.into(), "eth0".into()).is_ok(),
                "{good}"
            );
        }
        for bad in [
            "", "-a", "_a", ".a", "a/b", "../a", "a b", "a\n", "é", "a\0",
        ] {
            let error = Attachment::new(bad.into(), "eth0".into()).unwrap_err();
            assert_eq!(error.code.number(), 4, "{bad:?}");
            assert!(error.msg.contains("CNI_CONTAINERID"));
        }
    }

    #[test]
    fn interface_names_keep_the_kernels_rules() {
        for good in ["e", "eth0", "a.b-c_d", "fifteen-bytes-1"] {
            assert!(Attachment::new("c".into(), good.into()).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a:b",
            "a b",
            "a\tb",
            "sixteen-bytes-12",
            "a\u{2003}b",
        ] {
            let error = Attachment::new("c".into(), bad.into()).unwrap_err();
            assert_eq!(error.code.number(), 4, "{bad:?}");
            assert!(error.msg.contains("CNI_IFNAME"));
        }
    }

    #[test]
    fn args_of_kubernetes_runtimes_are_understood() {
        let args = CniArgs::parse(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p;K8S_POD_INFRA_CONTAINER_ID=c;\
             K8S_POD_UID=;SOMETHING=else",
        )
        .unwrap();
        assert_eq!(args.pod_namespace.as_deref(), Some("ns"));
        assert_eq!(args.pod_name.as_deref(), Some("p"));
        assert_eq!(args.infra_container_id.as_deref(), Some("c"));
        assert_eq!(args.pod_uid, None);
        assert_eq!(CniArgs::parse(""), Ok(CniArgs::default()));
    }

    #[test]
    fn malformed_or_unknown_args_are_refused() {
        let cases = [
            ("K8S_POD_NAME", "K8S_POD_NAME"),
            ("=v", "=v"),
            ("A=b=c;IgnoreUnknown=1", "A=b=c"),
            ("IgnoreUnknown=1;", "\"\""),
            ("IgnoreUnknown=maybe", "maybe"),
            ("FOO=1;BAR=2", "[FOO,BAR]"),
            ("FOO=1;IgnoreUnknown=false", "[FOO]"),
        ];
        for (text, named) in cases {
            let error = CniArgs::parse(text).unwrap_err();
            assert_eq!(error.code.number(), 4, "{text}");
            assert!(error.msg.contains(named), "{text}: {}", error.msg);
        }
        assert!(CniArgs::parse("FOO=1;IgnoreUnknown=TRUE").is_ok());
    }
}
