//! Configuration: flags, each with an environment variable, by aws-node's names where aws-node has one.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::Resettable;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use datapath::layout::LEAST_MTU_V6;
use ipam::{Dial, Families, Mode, Settings, Sweep, Warm, WarmTargets};
use ipnet::Ipv4Net;

use crate::eni_tags::{self, EniTags};
use crate::install::{self, ConflistArgs};

/// aws-node's smallest and EC2's largest MTU, in bytes (IPv4).
const MTU: (u32, u32) = (576, 9001);
/// More than any instance type can hold: beyond it, a target is a mistake.
const MOST_ADDRESSES: u32 = 1000;
/// Far beyond what Kubernetes is made for.
const MOST_NODES: u32 = 100_000;

/// ipamd and what it is asked to do.
#[derive(Debug, Parser)]
#[command(
    name = "ipamd",
    version,
    about = "The node daemon of Weir: keeps a pool of VPC addresses and gives them to pods",
    long_about = "The node daemon of Weir: keeps a pool of VPC addresses and gives them to pods.\n\n\
        It learns the node from the instance metadata service, asks EC2 once what the instance holds (at a \
        restart only if the metadata does not show what the state file says), and from then on keeps addresses \
        ready as demand has it, or as aws-node's targets say where one is set: first on ENIs that have room, then \
        on a new ENI. What is too much for a while goes back to EC2. \
        The CNI plugin gets them over a unix socket, and so can you:\n\n  \
        grpcurl -plaintext -unix unix:///run/weir/ipamd.sock weir.ipam.v1.Pool/Get\n\n\
        (grpcurl before 1.9.2 takes the path alone, without unix://.)\n\n\
        Each option can be given by the environment variable behind it. Region, endpoints, credentials and \
        proxies are the AWS SDK's own settings (AWS_REGION, AWS_ENDPOINT_URL_EC2, AWS_USE_FIPS_ENDPOINT, \
        AWS_USE_DUALSTACK_ENDPOINT, AWS_EC2_METADATA_SERVICE_ENDPOINT, AWS_ROLE_ARN, AWS_CA_BUNDLE, HTTPS_PROXY, \
        NO_PROXY and so on). IMDS is never asked through a proxy.",
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) config: Config,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Ask a running ipamd whether it serves: exit status 0 if so. For exec probes, as kubelet's own gRPC
    /// probes speak TCP only.
    Probe {
        /// The socket that ipamd listens on
        #[arg(long, env = "WEIR_SOCKET", default_value = proto::DEFAULT_SOCKET, value_name = "PATH")]
        socket: PathBuf,
    },
    Install(install::Args),
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Config {
    /// How much is kept ready beyond what pods use, where no target below is set: the less, the more often a pod
    /// waits for EC2; the more, the more of the subnet is idle
    #[arg(
        long,
        env = "WEIR_WARM",
        default_value = "balanced",
        value_name = "HOW",
        value_enum,
        ignore_case = true,
        help_heading = "Pool"
    )]
    warm: WarmDial,

    /// Free addresses kept ready for pods; 0 is not set, as in aws-node
    #[arg(long, env = "WARM_IP_TARGET", value_name = "ADDRESSES",
          value_parser = addresses("WARM_IP_TARGET"), help_heading = "Pool")]
    warm_ip_target: Option<u32>,

    /// Addresses held at the least, used or not; 0 is not set. Set it to the usual number of pods on a node, and a
    /// new node asks EC2 once instead of several times
    #[arg(long, env = "MINIMUM_IP_TARGET", value_name = "ADDRESSES",
          value_parser = addresses("MINIMUM_IP_TARGET"), help_heading = "Pool")]
    minimum_ip_target: Option<u32>,

    /// Free addresses kept ready, in units of whole ENIs; without effect beside one of the two above
    #[arg(long, env = "WARM_ENI_TARGET", value_name = "ENIS",
          value_parser = number("WARM_ENI_TARGET", "ENIs", (0, MOST_ADDRESSES)), help_heading = "Pool")]
    warm_eni_target: Option<u32>,

    /// Free /28 prefixes kept ready, with ENABLE_PREFIX_DELEGATION
    #[arg(long, env = "WARM_PREFIX_TARGET", value_name = "PREFIXES",
          value_parser = number("WARM_PREFIX_TARGET", "prefixes", (0, MOST_ADDRESSES)), help_heading = "Pool")]
    warm_prefix_target: Option<u32>,

    /// Whether pods get an IPv4 address
    #[arg(long, env = "ENABLE_IPv4", default_value = "true", value_name = "BOOL",
          action = clap::ArgAction::Set, value_parser = boolean, help_heading = "Pool")]
    enable_ipv4: bool,

    /// Whether pods get an IPv6 address, from a /80 prefix of the node's subnet; beside IPv4 or alone. Needs a Nitro instance
    /// type, and an IPv6 address on the primary ENI
    #[arg(long, env = "ENABLE_IPv6", default_value = "false", value_name = "BOOL",
          action = clap::ArgAction::Set, value_parser = boolean, help_heading = "Pool")]
    enable_ipv6: bool,

    /// Whether ENIs get /28 prefixes instead of single addresses. Where the instance type or the subnet has none,
    /// they get single addresses. IPv6 comes in prefixes in any case
    #[arg(long, env = "ENABLE_PREFIX_DELEGATION", default_value = "false", value_name = "BOOL",
          action = clap::ArgAction::Set, value_parser = boolean, help_heading = "Pool")]
    prefix_delegation: bool,

    /// How much of EC2 is asked for: everything, only what waiting pods need, or nothing. Unless given, ipamd finds
    /// it by itself from how EC2 does
    #[arg(long, env = "WEIR_MODE", value_name = "MODE", help_heading = "Pool")]
    pub(crate) mode: Option<Mode>,

    /// ENIs used at the most, the primary included, when fewer than the instance type allows; 0 or less
    /// means no such bound
    #[arg(long, env = "MAX_ENI", value_name = "ENIS", value_parser = max_enis,
          allow_negative_numbers = true, help_heading = "Pool")]
    max_eni: Option<u32>,

    /// Seconds for which an address rests after its pod has gone, so that the rest of the cluster forgets
    /// the old pod before a new one has its address
    #[arg(long, env = "IP_COOLDOWN_PERIOD", default_value_t = 30, value_name = "SECONDS",
          value_parser = cooldown, help_heading = "Pool")]
    ip_cooldown_period: u32,

    /// The cluster's name: ENIs made here are tagged with it, and those of its nodes that nobody will delete any more are
    /// found by it
    #[arg(long, env = "CLUSTER_NAME", value_name = "NAME", help_heading = "EC2")]
    cluster_name: Option<String>,

    /// Tags for the ENIs made here beside the CNI's own, as a JSON object of strings: {"team":"network"}. Keys that are the
    /// CNI's or AWS's own are left out
    #[arg(long, env = "ADDITIONAL_ENI_TAGS", value_name = "JSON", value_parser = eni_tags::read,
          help_heading = "EC2")]
    pub(crate) additional_eni_tags: Option<EniTags>,

    /// Whether ENIs stay that nodes of this cluster have left behind, attached to nothing. Else about two of its nodes look
    /// for them in an hour, and delete what is older than ten minutes and was seen twice
    #[arg(long, env = "DISABLE_LEAKED_ENI_CLEANUP", default_value = "false", value_name = "BOOL",
          action = clap::ArgAction::Set, ignore_case = true, help_heading = "EC2")]
    disable_leaked_eni_cleanup: bool,

    /// Nodes that share what the account may ask of EC2 in its Region; 0 for no bound on this node. A node keeps to
    /// its share, so that many that start at once do not throttle each other, and in a large cluster a new node waits for
    /// its turn. Say how many may come at once, divided by the factor by which AWS has raised the account's rates
    #[arg(long, env = "WEIR_CLUSTER_SIZE", default_value_t = 20, value_name = "NODES",
          value_parser = cluster_size, help_heading = "EC2")]
    cluster_size: u32,

    /// Seconds for which the instance metadata service is asked at start before ipamd gives up
    #[arg(long, env = "WEIR_IMDS_PATIENCE", default_value_t = 60, value_name = "SECONDS",
          value_parser = patience, help_heading = "EC2")]
    imds_patience: u32,

    /// The MTU of ENIs, in bytes
    #[arg(long, env = "AWS_VPC_ENI_MTU", default_value_t = MTU.1, value_name = "BYTES",
          value_parser = mtu("AWS_VPC_ENI_MTU"), help_heading = "Node")]
    pub(crate) eni_mtu: u32,

    /// The MTU of pods, in bytes; that of ENIs unless given
    #[arg(long, env = "POD_MTU", value_name = "BYTES", value_parser = mtu("POD_MTU"),
          help_heading = "Node")]
    pod_mtu: Option<u32>,

    /// CIDRs outside the VPC to which pods keep their own address, joined by commas
    #[arg(long, env = "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", value_name = "CIDR,...",
          value_delimiter = ',', value_parser = cidr, help_heading = "Node")]
    pub(crate) exclude_snat_cidrs: Vec<Ipv4Net>,

    /// The socket for the plugin and for people; root alone is let in
    #[arg(long, env = "WEIR_SOCKET", default_value = proto::DEFAULT_SOCKET, value_name = "PATH",
          help_heading = "Node")]
    pub(crate) socket: PathBuf,

    /// The state file. It must go with the boot, as /run does: pods go with it too
    #[arg(
        long,
        env = "WEIR_BOOKS",
        default_value = "/run/weir/books.json",
        value_name = "PATH",
        help_heading = "Node"
    )]
    pub(crate) books: PathBuf,

    #[command(flatten)]
    pub(crate) conflist: ConflistArgs,

    /// How much is logged
    #[arg(
        long,
        env = "AWS_VPC_K8S_CNI_LOGLEVEL",
        default_value = "info",
        value_name = "LEVEL",
        value_enum,
        ignore_case = true,
        help_heading = "Logging"
    )]
    pub(crate) log_level: LogLevel,

    /// What a line of the log looks like
    #[arg(
        long,
        env = "WEIR_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT",
        value_enum,
        help_heading = "Logging"
    )]
    pub(crate) log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum WarmDial {
    /// Next to nothing: addresses are dear
    Economy,
    /// A little
    Balanced,
    /// Much: pods must start at once
    Latency,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Values that are each right but do not go together.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error(
        "POD_MTU is {pod} and AWS_VPC_ENI_MTU is {eni}: a pod's MTU may not exceed its ENI's. Lower POD_MTU or \
         leave it out"
    )]
    PodMtu { pod: u32, eni: u32 },
    #[error(
        "{setting} is {mtu} and ENABLE_IPv6 is true: a link with less than {LEAST_MTU_V6} bytes has no IPv6. Raise the MTU, \
         or turn ENABLE_IPv6 off"
    )]
    Ipv6Mtu { setting: &'static str, mtu: u32 },
    #[error(
        "ENABLE_IPv4 and ENABLE_IPv6 are both false: pods would have no address. Turn one on, or both"
    )]
    NoFamily,
}

impl Cli {
    /// The command line, and the environment where the command line says nothing. A variable that is set to
    /// nothing is not set, as aws-node has it: that is how manifests spell "the default".
    pub(crate) fn read() -> Result<Self, clap::Error> {
        let command = without_empty_variables(Self::command());
        Self::from_arg_matches(&command.try_get_matches()?)
    }
}

fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty =
        |variable: &OsStr| std::env::var_os(variable).is_some_and(|value| value.is_empty());
    command
        .mut_args(|option| match option.get_env() {
            Some(variable) if is_empty(variable) => option.env(Resettable::Reset),
            _ => option,
        })
        .mut_subcommands(without_empty_variables)
}

impl Config {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.pod_mtu() > self.eni_mtu {
            return Err(ConfigError::PodMtu {
                pod: self.pod_mtu(),
                eni: self.eni_mtu,
            });
        }
        if !self.enable_ipv4 && !self.enable_ipv6 {
            return Err(ConfigError::NoFamily);
        }
        let mtus = [
            ("AWS_VPC_ENI_MTU", self.eni_mtu),
            ("POD_MTU", self.pod_mtu()),
        ];
        match mtus.into_iter().find(|(_, mtu)| *mtu < LEAST_MTU_V6) {
            Some((setting, mtu)) if self.enable_ipv6 => Err(ConfigError::Ipv6Mtu { setting, mtu }),
            _ => Ok(()),
        }
    }

    /// Of what a pod gets an address each. [`Config::check`] refuses none.
    pub(crate) fn families(&self) -> Families {
        match (self.enable_ipv4, self.enable_ipv6) {
            (true, true) => Families::Dual,
            (false, true) => Families::V6,
            (_, false) => Families::V4,
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            families: self.families(),
            delegation: self.prefix_delegation,
            warm: self.warm(),
            max_enis_per_card: self.max_eni.filter(|enis| *enis > 0),
            all_cards: false,
            max_pods: None,
            cooldown: Duration::from_secs(self.ip_cooldown_period.into()),
            subnets: Vec::new(),
            cluster_size: self.cluster_size,
            sweep: self.sweep(),
        }
    }

    fn sweep(&self) -> Sweep {
        match self.cluster_name() {
            _ if self.disable_leaked_eni_cleanup => Sweep::Off,
            Some(cluster) => Sweep::Cluster(cluster),
            None => Sweep::Own,
        }
    }

    /// aws-node's targets where one is set, and else what follows demand.
    fn warm(&self) -> Warm {
        let set = |target: Option<u32>| target.filter(|target| *target > 0);
        let targets = WarmTargets {
            eni: self.warm_eni_target,
            ip: set(self.warm_ip_target),
            minimum_ip: set(self.minimum_ip_target),
            prefix: self.warm_prefix_target,
        };
        if targets == WarmTargets::default() {
            Warm::Demand(match self.warm {
                WarmDial::Economy => Dial::Economy,
                WarmDial::Balanced => Dial::Balanced,
                WarmDial::Latency => Dial::Latency,
            })
        } else {
            Warm::Targets(targets)
        }
    }

    pub(crate) fn pod_mtu(&self) -> u32 {
        self.pod_mtu.unwrap_or(self.eni_mtu)
    }

    pub(crate) fn cluster_name(&self) -> Option<String> {
        self.cluster_name.clone().filter(|name| !name.is_empty())
    }

    pub(crate) fn imds_patience(&self) -> Duration {
        Duration::from_secs(self.imds_patience.into())
    }
}

/// aws-node's settings that have no effect here: the name, the values that ask for what happens anyway, and
/// what happens instead of anything else.
const WITHOUT_EFFECT: &[(&str, &[&str], &str)] = &[
    ("ANNOTATE_POD_IP", &["", "false"], "pods are not annotated"),
    (
        "AWS_EC2_ENDPOINT",
        &[""],
        "set AWS_ENDPOINT_URL_EC2 instead",
    ),
    (
        "AWS_EXTERNAL_SERVICE_CIDRS",
        &[""],
        "there are no rules for external service CIDRs",
    ),
    (
        "AWS_MANAGE_ENIS_NON_SCHEDULABLE",
        &["", "true"],
        "the pool grows on cordoned nodes too",
    ),
    (
        "AWS_VPC_CNI_NODE_PORT_SUPPORT",
        &["", "true"],
        "NodePort connections are always supported",
    ),
    (
        "AWS_VPC_K8S_CNI_BACKING_STORE",
        &[""],
        "set WEIR_BOOKS instead",
    ),
    (
        "AWS_VPC_K8S_CNI_CONNMARK",
        &["", "0x80", "128"],
        "the mark is 0x80",
    ),
    (
        "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG",
        &["", "false"],
        "pods get addresses of the node's own subnet",
    ),
    (
        "AWS_VPC_K8S_CNI_EXTERNALSNAT",
        &["", "false"],
        "what leaves the VPC is translated on the node",
    ),
    (
        "AWS_VPC_K8S_CNI_LOG_FILE",
        &["", "stderr"],
        "the log goes to standard error",
    ),
    (
        "AWS_VPC_K8S_CNI_RANDOMIZESNAT",
        &["", "prng"],
        "source ports are fully random",
    ),
    (
        "AWS_VPC_K8S_CNI_VETHPREFIX",
        &["", "weir"],
        "host links are named weir and a hash",
    ),
    (
        "DISABLE_NETWORK_RESOURCE_PROVISIONING",
        &["", "false"],
        "ipamd asks EC2 for what the pool needs",
    ),
    (
        "ENABLE_BANDWIDTH_PLUGIN",
        &["", "false"],
        "there is no bandwidth limit",
    ),
    (
        "ENABLE_IMDS_ONLY_MODE",
        &["", "false"],
        "ipamd asks EC2 for what the pool needs",
    ),
    (
        "ENABLE_MULTI_NIC",
        &["", "false"],
        "network card 0 alone is used",
    ),
    (
        "ENABLE_POD_ENI",
        &["", "false"],
        "pods have no security groups of their own",
    ),
    (
        "ENABLE_SUBNET_DISCOVERY",
        &["", "false"],
        "new ENIs are made in the primary ENI's subnet",
    ),
    (
        "INTROSPECTION_BIND_ADDRESS",
        &[""],
        "ask weir.ipam.v1.Pool over the socket instead",
    ),
    (
        "MANAGE_UNTAGGED_ENI",
        &["", "false"],
        "ENIs without our tags are left alone",
    ),
    (
        "NETWORK_POLICY_ENFORCING_MODE",
        &["", "none", "standard"],
        "network policies are not enforced",
    ),
];

/// One sentence for each of aws-node's settings that is set and has no effect.
pub(crate) fn settings_without_effect(
    environment: impl Fn(&str) -> Option<String>,
) -> impl Iterator<Item = String> {
    WITHOUT_EFFECT
        .iter()
        .filter_map(move |(name, harmless, instead)| {
            let value = environment(name)?;
            let asks_nothing = harmless
                .iter()
                .any(|harmless| harmless.eq_ignore_ascii_case(&value));
            (!asks_nothing).then(|| format!("{name}={value} has no effect yet: {instead}"))
        })
}

/// A whole number within bounds; the message names the variable, as clap names the flag alone.
fn number(
    variable: &'static str,
    what: &'static str,
    (least, most): (u32, u32),
) -> impl Fn(&str) -> Result<u32, String> + Clone + Send + Sync + 'static {
    move |text| {
        u32::from_str(text.trim())
            .ok()
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| {
                format!("{variable} must be a whole number of {what} from {least} to {most}")
            })
    }
}

/// As Go's `strconv.ParseBool`, which reads aws-node's settings, in any case.
fn boolean(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "t" | "1" => Ok(true),
        "false" | "f" | "0" => Ok(false),
        _ => Err("it must be true or false".to_owned()),
    }
}

fn addresses(
    variable: &'static str,
) -> impl Fn(&str) -> Result<u32, String> + Clone + Send + Sync + 'static {
    number(variable, "addresses", (0, MOST_ADDRESSES))
}

fn mtu(
    variable: &'static str,
) -> impl Fn(&str) -> Result<u32, String> + Clone + Send + Sync + 'static {
    number(variable, "bytes", MTU)
}

fn cooldown(text: &str) -> Result<u32, String> {
    number("IP_COOLDOWN_PERIOD", "seconds", (0, 3600))(text)
}

fn patience(text: &str) -> Result<u32, String> {
    number("WEIR_IMDS_PATIENCE", "seconds", (1, 3600))(text)
}

fn cluster_size(text: &str) -> Result<u32, String> {
    number("WEIR_CLUSTER_SIZE", "nodes", (0, MOST_NODES))(text)
}

fn max_enis(text: &str) -> Result<u32, String> {
    // aws-node takes 0 and less for "as many as the instance type allows".
    i64::from_str(text.trim())
        .ok()
        .and_then(|enis| u32::try_from(enis.max(0)).ok())
        .ok_or_else(|| "MAX_ENI must be a whole number of ENIs".to_owned())
}

fn cidr(text: &str) -> Result<Ipv4Net, String> {
    text.trim().parse().map_err(|_| {
        "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS must be IPv4 CIDRs joined by commas, such as \
         192.0.2.0/24,198.51.100.0/24"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(arguments: &[&str]) -> Result<Config, String> {
        Cli::try_parse_from([&["ipamd"], arguments].concat())
            .map(|cli| cli.config)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_variable_its_value_and_the_rule() {
        let table = [
            (
                "--warm-ip-target=-1",
                "-1",
                "WARM_IP_TARGET must be a whole number of addresses",
            ),
            (
                "--minimum-ip-target=many",
                "many",
                "MINIMUM_IP_TARGET must be a whole number",
            ),
            (
                "--warm-eni-target=all",
                "all",
                "WARM_ENI_TARGET must be a whole number of ENIs",
            ),
            (
                "--mode=calm",
                "calm",
                "it is one of normal, allocate-only and frozen",
            ),
            (
                "--max-eni=two",
                "two",
                "MAX_ENI must be a whole number of ENIs",
            ),
            (
                "--cluster-size=-1",
                "-1",
                "WEIR_CLUSTER_SIZE must be a whole number of nodes from 0 to 100000",
            ),
            (
                "--ip-cooldown-period=",
                "",
                "IP_COOLDOWN_PERIOD must be a whole number of seconds",
            ),
            (
                "--eni-mtu=9002",
                "9002",
                "AWS_VPC_ENI_MTU must be a whole number of bytes from 576 to 9001",
            ),
            (
                "--pod-mtu=100",
                "100",
                "POD_MTU must be a whole number of bytes",
            ),
            ("--enable-ipv6=yes", "yes", "it must be true or false"),
            (
                "--exclude-snat-cidrs=10.0.0.0/33",
                "10.0.0.0/33",
                "IPv4 CIDRs joined by commas",
            ),
        ];
        for (argument, value, rule) in table {
            let error = config(&[argument]).expect_err(argument);
            assert!(
                error.contains(value) && error.contains(rule),
                "{argument}: {error}"
            );
        }
    }

    #[test]
    fn no_bound_on_enis_is_said_as_aws_node_says_it() {
        let most = |argument: &str| config(&[argument]).unwrap().settings().max_enis_per_card;
        assert_eq!(most("--max-eni=-1"), None);
        assert_eq!(most("--max-eni=0"), None);
        assert_eq!(most("--max-eni=2"), Some(2));
        assert_eq!(config(&[]).unwrap().settings().max_enis_per_card, None);
    }

    #[test]
    fn what_is_kept_warm_follows_demand_unless_a_target_of_aws_node_is_set() {
        let warm = |arguments: &[&str]| config(arguments).unwrap().settings().warm;
        assert_eq!(warm(&[]), Warm::Demand(Dial::Balanced));
        assert_eq!(
            warm(&["--warm=economy", "--warm-ip-target=0"]),
            Warm::Demand(Dial::Economy)
        );
        let ip = WarmTargets {
            ip: Some(2),
            ..WarmTargets::default()
        };
        assert_eq!(warm(&["--warm-ip-target=2"]), Warm::Targets(ip));
        let eni = WarmTargets {
            eni: Some(0),
            ..WarmTargets::default()
        };
        assert_eq!(warm(&["--warm-eni-target=0"]), Warm::Targets(eni));
    }

    #[test]
    fn a_pods_mtu_is_its_enis_unless_given_and_never_more() {
        assert_eq!(config(&["--eni-mtu=1500"]).unwrap().pod_mtu(), 1500);
        let wrong = config(&["--eni-mtu=1500", "--pod-mtu=9001"]).unwrap();
        assert_eq!(
            wrong.check(),
            Err(ConfigError::PodMtu {
                pod: 9001,
                eni: 1500
            })
        );
    }

    #[test]
    fn pods_get_ipv4_unless_told_otherwise_and_both_families_where_both_are_on() {
        let families = |arguments: &[&str]| {
            let config = config(arguments).unwrap();
            config.check().map(|()| config.settings().families)
        };
        assert_eq!(families(&[]), Ok(Families::V4));
        assert_eq!(families(&["--enable-ipv6=true"]), Ok(Families::Dual));
        // As aws-node has it on an IPv6 cluster.
        let ipv6 = ["--enable-ipv4=false", "--enable-ipv6=TRUE"];
        assert_eq!(families(&ipv6), Ok(Families::V6));
        assert_eq!(
            families(&["--enable-ipv4=false"]),
            Err(ConfigError::NoFamily)
        );
    }

    #[test]
    fn ipv6_is_refused_on_links_too_narrow_for_it() {
        let check = |arguments: &[&str]| config(arguments).unwrap().check();
        let wrong = |setting| Err(ConfigError::Ipv6Mtu { setting, mtu: 1279 });
        assert_eq!(check(&["--eni-mtu=1279"]), Ok(()));
        let eni = ["--enable-ipv6=true", "--eni-mtu=1279"];
        assert_eq!(check(&eni), wrong("AWS_VPC_ENI_MTU"));
        let pod = ["--enable-ipv6=true", "--pod-mtu=1279"];
        assert_eq!(check(&pod), wrong("POD_MTU"));
        assert_eq!(check(&["--enable-ipv6=true", "--pod-mtu=1280"]), Ok(()));
    }

    #[test]
    fn settings_of_aws_node_that_have_no_effect_are_named_when_they_ask_for_something() {
        let environment = |name: &str| match name {
            "ANNOTATE_POD_IP" => Some("False".to_owned()),
            "ENABLE_POD_ENI" => Some("true".to_owned()),
            "ENABLE_MULTI_NIC" => Some("true".to_owned()),
            _ => None,
        };
        let said: Vec<_> = settings_without_effect(environment).collect();
        assert_eq!(
            said,
            [
                "ENABLE_MULTI_NIC=true has no effect yet: network card 0 alone is used",
                "ENABLE_POD_ENI=true has no effect yet: pods have no security groups of their own",
            ]
        );
    }
}
