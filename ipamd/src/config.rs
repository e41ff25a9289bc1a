//! Configuration: flags, each with an environment variable, by aws-node's names where aws-node has one.

mod ec2;
mod egress;
mod eni_config;
mod enis;
mod pool;
mod snat;
mod values;
mod without_effect;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::Resettable;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use datapath::layout::LEAST_MTU_V6;
use datapath::pod::egress::Egress;
use ipam::{Families, Mode, Settings, Sweep};

use self::ec2::Ec2Args;
use self::egress::EgressArgs;
use self::eni_config::EniConfigError;
use self::enis::EniArgs;
use self::pool::PoolArgs;
pub(crate) use self::snat::SnatArgs;
use self::values::{MTU, boolean, mtu};
pub(crate) use self::without_effect::settings_without_effect;
use crate::eni_tags::EniTags;
use crate::install::{self, ConflistArgs};

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
    #[command(flatten)]
    pool: PoolArgs,

    #[command(flatten)]
    enis: EniArgs,

    #[command(flatten)]
    ec2: Ec2Args,

    #[command(flatten)]
    egress: EgressArgs,

    /// The MTU of ENIs, in bytes
    #[arg(long, env = "AWS_VPC_ENI_MTU", default_value_t = MTU.1, value_name = "BYTES",
          value_parser = mtu("AWS_VPC_ENI_MTU"), help_heading = "Node")]
    pub(crate) eni_mtu: u32,

    /// The MTU of pods, in bytes; that of ENIs unless given
    #[arg(long, env = "POD_MTU", value_name = "BYTES", value_parser = mtu("POD_MTU"),
          help_heading = "Node")]
    pod_mtu: Option<u32>,

    #[command(flatten)]
    pub(crate) snat: SnatArgs,

    /// Whether TCP looks for a route before it looks for a socket (tcp_early_demux 0), as pods with security groups of
    /// their own need it for the kubelet's probes; the node's setting stays as it is unless given
    #[arg(long, env = "DISABLE_TCP_EARLY_DEMUX", value_name = "BOOL",
          value_parser = boolean("DISABLE_TCP_EARLY_DEMUX"), help_heading = "Node")]
    disable_tcp_early_demux: Option<bool>,

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
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error(
        "POD_MTU is {pod} and AWS_VPC_ENI_MTU is {eni}: a pod's MTU may not exceed its ENI's. Lower POD_MTU or \
         leave it out"
    )]
    PodMtu { pod: u32, eni: u32 },
    #[error(
        "{setting} is {mtu} and {cause} is true: a link with less than {LEAST_MTU_V6} bytes has no IPv6. Raise the MTU, \
         or turn {cause} off"
    )]
    Ipv6Mtu {
        setting: &'static str,
        mtu: u32,
        cause: &'static str,
    },
    #[error(
        "ENABLE_IPv4 and ENABLE_IPv6 are both false: pods would have no address. Turn one on, or both"
    )]
    NoFamily,
    #[error(
        "WEIR_MODE is {mode} and {other} is true, which asks EC2 for no change (mode frozen): take one of them away"
    )]
    Mode { mode: Mode, other: &'static str },
    #[error(
        "ENABLE_MULTI_NIC is true, and pods can't have addresses of network cards beyond the first yet: set it to false, or \
         leave it out. ENIs on further cards are left alone then"
    )]
    MultiNic,
    #[error(
        "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG and ENABLE_IPv6 are both true: an ENIConfig is for IPv4 alone, as in aws-node. \
         Turn one of them off"
    )]
    CustomIpv6,
    #[error(
        "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG is true, and WEIR_ENI_CONFIG does not say which file has the ENIConfig: set \
         it, or set AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG to false"
    )]
    NoEniConfig,
    #[error(transparent)]
    EniConfig(#[from] EniConfigError),
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
        if let (Some(mode), Some(other)) = (self.pool.mode(), self.ec2.frozen_by())
            && mode != Mode::Frozen
        {
            return Err(ConfigError::Mode { mode, other });
        }
        let families = self.families().ok_or(ConfigError::NoFamily)?;
        self.enis.check(families)?;
        let mtus = [
            ("AWS_VPC_ENI_MTU", self.eni_mtu),
            ("POD_MTU", self.pod_mtu()),
        ];
        let cause = match (families, self.egress.of(families)) {
            (Families::V4, Some(Egress::V6)) => "ENABLE_V6_EGRESS",
            (Families::V4, _) => return Ok(()),
            _ => "ENABLE_IPv6",
        };
        match mtus.into_iter().find(|(_, mtu)| *mtu < LEAST_MTU_V6) {
            Some((setting, mtu)) => Err(ConfigError::Ipv6Mtu {
                setting,
                mtu,
                cause,
            }),
            None => Ok(()),
        }
    }

    /// The family that pods without it are to reach by their node.
    pub(crate) fn egress(&self) -> Option<Egress> {
        self.egress.of(self.families()?)
    }

    /// Of what a pod gets an address each; none if of nothing.
    pub(crate) fn families(&self) -> Option<Families> {
        self.pool.families()
    }

    /// How long no pod gets an address that was freed.
    pub(crate) fn cooldown(&self) -> Duration {
        self.pool.cooldown()
    }

    /// What the user wants of the pool.
    ///
    /// # Errors
    /// When pods would get no address, or the ENIConfig that custom networking needs can't be had.
    pub(crate) fn settings(&self) -> Result<Settings, ConfigError> {
        Ok(Settings {
            families: self.families().ok_or(ConfigError::NoFamily)?,
            delegation: self.pool.delegation(),
            warm: self.pool.warm(),
            max_enis_per_card: self.pool.max_enis(),
            all_cards: false,
            max_pods: self.pool.max_pods(),
            cooldown: self.cooldown(),
            subnets: self.enis.subnets(self.cluster_name())?,
            cluster_size: self.ec2.cluster_size(),
            sweep: self.sweep(),
        })
    }

    fn sweep(&self) -> Sweep {
        match self.cluster_name() {
            _ if self.enis.leaves_leaked() => Sweep::Off,
            Some(cluster) => Sweep::Cluster(cluster),
            None => Sweep::Own,
        }
    }

    /// What users put on new ENIs.
    pub(crate) fn additional_eni_tags(&self) -> Option<&EniTags> {
        self.enis.additional_tags()
    }

    pub(crate) fn manage_untagged(&self) -> bool {
        self.enis.manage_untagged()
    }

    /// How much of EC2 is asked for, if a person has said so.
    pub(crate) fn mode(&self) -> Option<Mode> {
        let frozen = self.ec2.frozen_by().map(|_| Mode::Frozen);
        frozen.or(self.pool.mode())
    }

    pub(crate) fn pod_mtu(&self) -> u32 {
        self.pod_mtu.unwrap_or(self.eni_mtu)
    }

    pub(crate) fn tcp_early_demux(&self) -> Option<bool> {
        self.disable_tcp_early_demux.map(|disable| !disable)
    }

    pub(crate) fn cluster_name(&self) -> Option<String> {
        self.ec2.cluster_name()
    }

    pub(crate) fn imds_patience(&self) -> Duration {
        self.ec2.imds_patience()
    }
}

#[cfg(test)]
mod tests {
    use ipam::{Dial, Subnets, Warm, WarmTargets};

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
                "--prefix-delegation=yes",
                "yes",
                "ENABLE_PREFIX_DELEGATION must be true (or 1, t, T, TRUE, True) or false",
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
            (
                "--enable-ipv6=yes",
                "yes",
                "ENABLE_IPv6 must be true (or 1, t, T, TRUE, True) or false",
            ),
            (
                "--enable-v6-egress=maybe",
                "maybe",
                "ENABLE_V6_EGRESS must be true (or 1, t, T, TRUE, True) or false",
            ),
            (
                "--disable-tcp-early-demux=no",
                "no",
                "DISABLE_TCP_EARLY_DEMUX must be true (or 1, t, T, TRUE, True) or false",
            ),
            (
                "--external-snat=on",
                "on",
                "AWS_VPC_K8S_CNI_EXTERNALSNAT must be true (or 1, t, T, TRUE, True) or false",
            ),
            (
                "--randomize-snat=full",
                "full",
                "AWS_VPC_K8S_CNI_RANDOMIZESNAT must be prng, hashrandom or none",
            ),
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
    fn pods_get_ipv4_unless_told_otherwise_and_both_families_where_both_are_on() {
        let families = |arguments: &[&str]| {
            let config = config(arguments).unwrap();
            config
                .check()
                .map(|()| config.settings().unwrap().families)
                .map_err(|error| error.to_string())
        };
        assert_eq!(families(&[]), Ok(Families::V4));
        assert_eq!(families(&["--enable-ipv6=true"]), Ok(Families::Dual));
        // As aws-node has it on an IPv6 cluster.
        let ipv6 = ["--enable-ipv4=false", "--enable-ipv6=TRUE"];
        assert_eq!(families(&ipv6), Ok(Families::V6));
        let none = families(&["--enable-ipv4=false"]).unwrap_err();
        assert_eq!(none, ConfigError::NoFamily.to_string());
    }

    #[test]
    fn ipv6_is_refused_on_links_too_narrow_for_it() {
        let check = |arguments: &[&str]| {
            let checked = config(arguments).unwrap().check();
            checked.map_err(|error| error.to_string())
        };
        let wrong = |setting, cause| {
            let error = ConfigError::Ipv6Mtu {
                setting,
                mtu: 1279,
                cause,
            };
            Err(error.to_string())
        };
        assert_eq!(check(&["--eni-mtu=1279"]), Ok(()));
        let eni = ["--enable-ipv6=true", "--eni-mtu=1279"];
        assert_eq!(check(&eni), wrong("AWS_VPC_ENI_MTU", "ENABLE_IPv6"));
        let pod = ["--enable-ipv6=true", "--pod-mtu=1279"];
        assert_eq!(check(&pod), wrong("POD_MTU", "ENABLE_IPv6"));
        assert_eq!(check(&["--enable-ipv6=true", "--pod-mtu=1280"]), Ok(()));
        let egress = ["--enable-v6-egress=true", "--pod-mtu=1279"];
        assert_eq!(check(&egress), wrong("POD_MTU", "ENABLE_V6_EGRESS"));
    }

    #[test]
    fn pods_of_one_family_reach_the_other_by_their_node_as_aws_node_has_it() {
        let egress = |arguments: &[&str]| config(arguments).unwrap().egress();
        let ipv6 = ["--enable-ipv4=false", "--enable-ipv6=true"];
        assert_eq!(egress(&ipv6), Some(Egress::V4));
        assert_eq!(
            egress(&[&ipv6[..], &["--enable-v4-egress=F"]].concat()),
            None
        );
        assert_eq!(egress(&[]), None);
        assert_eq!(egress(&["--enable-v6-egress=1"]), Some(Egress::V6));
        assert_eq!(
            egress(&["--enable-ipv6=true", "--enable-v6-egress=1"]),
            None
        );
    }

    #[test]
    fn what_there_is_no_such_thing_as_is_refused_with_the_settings_that_ask_for_it() {
        let check = |arguments: &[&str]| {
            let checked = config(arguments).unwrap().check();
            checked.map_err(|error| error.to_string())
        };
        let cards = check(&["--multi-nic=T"]).unwrap_err();
        assert!(cards.contains("ENABLE_MULTI_NIC is true"), "{cards}");
        assert_eq!(check(&["--multi-nic=false"]), Ok(()));
        let custom = "--custom-networking=true";
        for families in [
            &["--enable-ipv6=true"][..],
            &["--enable-ipv6=true", "--enable-ipv4=false"],
        ] {
            let both = check(&[&[custom], families].concat()).unwrap_err();
            for name in ["AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "ENABLE_IPv6"] {
                assert!(both.contains(name), "{both}");
            }
            assert_eq!(check(families), Ok(()));
        }
        assert_eq!(check(&[custom]), Ok(()));
    }

    #[test]
    fn no_bound_on_enis_is_said_as_aws_node_says_it() {
        let most = |argument: &str| {
            config(&[argument])
                .unwrap()
                .settings()
                .unwrap()
                .max_enis_per_card
        };
        assert_eq!(most("--max-eni=-1"), None);
        assert_eq!(most("--max-eni=0"), None);
        assert_eq!(most("--max-eni=2"), Some(2));
        assert_eq!(
            config(&[]).unwrap().settings().unwrap().max_enis_per_card,
            None
        );
    }

    #[test]
    fn what_is_kept_warm_follows_demand_unless_a_target_of_aws_node_is_set() {
        let warm = |arguments: &[&str]| config(arguments).unwrap().settings().unwrap().warm;
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
    fn what_asks_ec2_for_no_change_freezes_the_pool_and_no_other_mode_goes_with_it() {
        for name in [
            "disable-network-resource-provisioning",
            "enable-imds-only-mode",
        ] {
            let on = config(&[&format!("--{name}=T")]).unwrap();
            assert_eq!(
                (on.check().is_ok(), on.mode()),
                (true, Some(Mode::Frozen)),
                "{name}"
            );
            let off = config(&[&format!("--{name}=0")]).unwrap();
            assert_eq!(off.mode(), None, "{name}");
            let both = config(&[&format!("--{name}=true"), "--mode=normal"]).unwrap();
            let error = both.check().unwrap_err().to_string();
            let variable = name.replace('-', "_").to_uppercase();
            assert!(error.contains("WEIR_MODE is normal"), "{error}");
            assert!(error.contains(&format!("{variable} is true")), "{error}");
        }
        let same = config(&["--mode=frozen", "--enable-imds-only-mode=true"]).unwrap();
        assert!(same.check().is_ok());
        assert_eq!(config(&[]).unwrap().mode(), None);
    }

    #[test]
    fn what_kubelet_lets_onto_the_node_bounds_the_pool() {
        let most = |arguments: &[&str]| config(arguments).unwrap().settings().unwrap().max_pods;
        assert_eq!(most(&["--max-pods=110"]), Some(110));
        assert_eq!(most(&[]), None);
        let error = config(&["--max-pods=0"]).unwrap_err();
        assert!(
            error.contains("WEIR_MAX_PODS must be a whole number of pods from 1"),
            "{error}"
        );
    }

    #[test]
    fn a_pods_mtu_is_its_enis_unless_given_and_never_more() {
        assert_eq!(config(&["--eni-mtu=1500"]).unwrap().pod_mtu(), 1500);
        let wrong = config(&["--eni-mtu=1500", "--pod-mtu=9001"]).unwrap();
        let error = wrong.check().unwrap_err().to_string();
        assert!(
            error.contains("POD_MTU is 9001 and AWS_VPC_ENI_MTU is 1500"),
            "{error}"
        );
    }

    #[test]
    fn new_enis_are_made_where_tags_say_unless_the_user_says_otherwise() {
        let subnets = |arguments: &[&str]| config(arguments).unwrap().settings().unwrap().subnets;
        let tagged = |cluster: Option<&str>| Subnets::Tagged {
            cluster: cluster.map(str::to_owned),
        };
        assert_eq!(subnets(&[]), tagged(None));
        assert_eq!(subnets(&["--cluster-name=mine"]), tagged(Some("mine")));
        assert_eq!(subnets(&["--subnet-discovery=F"]), Subnets::default());
        assert!(!config(&[]).unwrap().manage_untagged());
        assert!(
            config(&["--manage-untagged-eni=1"])
                .unwrap()
                .manage_untagged()
        );
        let without = config(&["--custom-networking=true"]).unwrap();
        let error = without.settings().unwrap_err().to_string();
        assert!(error.contains("WEIR_ENI_CONFIG"), "{error}");
    }
}
