//! How many addresses the node holds, and in what.

use std::time::Duration;

use clap::ValueEnum;
use ipam::{Dial, Families, Mode, Warm, WarmTargets};

use super::values::{MOST_ADDRESSES, addresses, boolean, cooldown, max_enis, max_pods, number};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct PoolArgs {
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
          action = clap::ArgAction::Set, value_parser = boolean("ENABLE_IPv4"), help_heading = "Pool")]
    enable_ipv4: bool,

    /// Whether pods get an IPv6 address, from a /80 prefix of the node's subnet; beside IPv4 or alone. Needs a Nitro instance
    /// type, and an IPv6 address on the primary ENI
    #[arg(long, env = "ENABLE_IPv6", default_value = "false", value_name = "BOOL",
          action = clap::ArgAction::Set, value_parser = boolean("ENABLE_IPv6"), help_heading = "Pool")]
    enable_ipv6: bool,

    /// Whether ENIs get /28 prefixes instead of single addresses. Where the instance type or the subnet has none,
    /// they get single addresses. IPv6 comes in prefixes in any case
    #[arg(long, env = "ENABLE_PREFIX_DELEGATION", default_value = "false", value_name = "BOOL",
          action = clap::ArgAction::Set, value_parser = boolean("ENABLE_PREFIX_DELEGATION"), help_heading = "Pool")]
    prefix_delegation: bool,

    /// How much of EC2 is asked for: everything, only what waiting pods need, or nothing. Unless given, ipamd finds
    /// it by itself from how EC2 does
    #[arg(long, env = "WEIR_MODE", value_name = "MODE", help_heading = "Pool")]
    mode: Option<Mode>,

    /// Pods that kubelet lets onto the node at the most: the pool keeps no more addresses than these can use. Not bounded
    /// unless given
    #[arg(long, env = "WEIR_MAX_PODS", value_name = "PODS", value_parser = max_pods, help_heading = "Pool")]
    max_pods: Option<u32>,

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
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WarmDial {
    /// Next to nothing: addresses are dear
    Economy,
    /// A little
    Balanced,
    /// Much: pods must start at once
    Latency,
}

impl PoolArgs {
    /// Of what a pod gets an address each; none if of nothing.
    pub(super) fn families(&self) -> Option<Families> {
        match (self.enable_ipv4, self.enable_ipv6) {
            (true, true) => Some(Families::Dual),
            (true, false) => Some(Families::V4),
            (false, true) => Some(Families::V6),
            (false, false) => None,
        }
    }

    /// aws-node's targets where one is set, and else what follows demand.
    pub(super) fn warm(&self) -> Warm {
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

    pub(super) fn delegation(&self) -> bool {
        self.prefix_delegation
    }

    /// As a person has set it.
    pub(super) fn mode(&self) -> Option<Mode> {
        self.mode
    }

    pub(super) fn max_enis(&self) -> Option<u32> {
        self.max_eni.filter(|enis| *enis > 0)
    }

    pub(super) fn max_pods(&self) -> Option<u32> {
        self.max_pods
    }

    pub(super) fn cooldown(&self) -> Duration {
        Duration::from_secs(self.ip_cooldown_period.into())
    }
}
