//! Everything that the simulated EC2 knows.
//!
//! The rules of EC2 are kept here and in [`crate::actions`]; nothing else changes a world. Time is told: states
//! that EC2 reaches later (attaching to attached) are queued and applied by [`World::advance`].

mod change;
mod eni;
mod instance;
mod invariants;
mod ipv6;
mod leaks;
mod network;
mod once;
mod permissions;
mod trunks;
mod views;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::eni::{
    Ask, Attachment, AttachmentStatus, ConnectionTracking, EnaSrd, Eni, EniKind, EniSpec,
};
pub use self::instance::{
    Credits, ImdsOptions, Instance, InstanceState, LaunchSpec, Settings, StateReason,
};
pub(crate) use self::instance::{NewInstance, Place};
pub use self::leaks::LeakedEni;
pub(crate) use self::network::NewRule;
pub use self::network::{
    Direction, Group, GroupRule, Reservation, ReservationKind, Subnet, SubnetAttributes, Tenancy,
    Vpc, VpcCidr,
};
pub(crate) use self::once::{ClientTokens, Made, Token, fingerprint, mismatch};
pub use self::permissions::{EniPermission, PermissionKind};
pub use self::trunks::{TrunkAssociation, TrunkKey};
use crate::events::{Planned, Step};
use crate::faults::Faults;
use crate::history::History;
use crate::iam::Iam;
use crate::ids::{
    AttachmentId, Dice, EniId, EniPermissionId, GroupId, InstanceId, SubnetId, TrunkAssociationId,
    VpcId, mix,
};
use crate::log::CallLog;
use crate::subnet::Order;
use crate::throttle::{Buckets, Throttling};
use crate::time::{SimTime, text};

/// Tags by key.
pub type Tags = BTreeMap<String, String>;

/// How a world behaves, where EC2 leaves a choice or makes one wait.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct WorldConfig {
    /// The Region's name; zones are this and a letter.
    pub region: String,
    /// The account that owns everything.
    pub account: String,
    /// Ids, MAC addresses and random choices follow from it.
    pub seed: u64,
    /// How long states take.
    pub latencies: Latencies,
    /// How far DescribeNetworkInterfaces, DescribeInstances and the counts of DescribeSubnets lag behind what was
    /// written.
    #[serde(with = "text")]
    pub describe_lag: Duration,
    /// How far IMDS lags behind what was written.
    #[serde(with = "text")]
    pub imds_lag: Duration,
    /// Whether each read draws its lag anew, between nothing and the lags above: a later read may show an older
    /// state.
    pub reads_go_backwards: bool,
    /// How long calls that change a new ENI may still find it missing, each with a chance of one half:
    /// CreateNetworkInterface has returned, but not all of EC2 has heard of it.
    #[serde(with = "text")]
    pub write_lag: Duration,
    /// How long after a MAC address appears in IMDS its leaves go on appearing, one by one.
    #[serde(with = "text")]
    pub imds_partial: Duration,
    /// How long after EC2 began to attach an ENI its link appears in the guest. EC2 itself does not use this: the
    /// lab does.
    #[serde(with = "text")]
    pub link_lag: Duration,
    /// Which free address or prefix of a subnet is given out first.
    pub order: Order,
    /// Whether a request for more than a subnet has is refused with `InvalidParameterValue` instead of
    /// `InsufficientFreeAddressesInSubnet` or `InsufficientCidrBlocks`. EC2 does both.
    pub vague_subnet_errors: bool,
    /// How many ENIs an account may have: EC2's quota for each Region.
    pub eni_quota: usize,
    /// Whether pages of Describe may be shorter than asked for, and even empty, with a token for the next.
    pub short_pages: bool,
    /// Whether addresses in subnet CIDR reservations are left out of `availableIpAddressCount`. What EC2 does is not
    /// documented.
    pub reservations_lower_count: bool,
    /// How often EC2 may be asked.
    pub throttling: Throttling,
    /// Milliseconds between 1970 and [`SimTime::ZERO`]. `None`: 2026-01-01, or for a [`crate::Sim`] when it began.
    pub epoch_unix_millis: Option<u64>,
    /// How many requests and events the log keeps; the counts go on.
    pub log_capacity: usize,
    /// Whether requests for metadata are in the log too. Nodes poll: they drive out what was asked of EC2.
    pub log_imds: bool,
}

impl Default for WorldConfig {
    fn default() -> WorldConfig {
        WorldConfig {
            region: "us-east-1".to_owned(),
            account: "111122223333".to_owned(),
            seed: 1,
            latencies: Latencies::default(),
            describe_lag: Duration::ZERO,
            imds_lag: Duration::from_secs(1),
            reads_go_backwards: false,
            write_lag: Duration::ZERO,
            imds_partial: Duration::ZERO,
            link_lag: Duration::from_millis(500),
            order: Order::Random,
            vague_subnet_errors: false,
            reservations_lower_count: false,
            eni_quota: 5000,
            short_pages: false,
            throttling: Throttling::Ec2,
            epoch_unix_millis: None,
            log_capacity: 100_000,
            log_imds: false,
        }
    }
}

/// How long EC2 takes from asked to done. The defaults are shorter than EC2's usual, so that people need not wait,
/// but never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Latencies {
    /// An ENI from `pending` to `available`.
    #[serde(with = "text")]
    pub create: Duration,
    /// An attachment from `attaching` to `attached`.
    #[serde(with = "text")]
    pub attach: Duration,
    /// An attachment from `detaching` to gone.
    #[serde(with = "text")]
    pub detach: Duration,
    /// An instance from `pending` to `running`. One that the library launches runs at once.
    #[serde(with = "text")]
    pub launch: Duration,
    /// A running instance's status checks from `initializing` to `ok`.
    #[serde(with = "text")]
    pub checks: Duration,
    /// An instance from `stopping` to `stopped`.
    #[serde(with = "text")]
    pub stop: Duration,
    /// An instance from `shutting-down` to `terminated`.
    #[serde(with = "text")]
    pub terminate: Duration,
}

impl Latencies {
    /// Everything is done when the call returns. Kinder than EC2.
    pub const NONE: Latencies = Latencies {
        create: Duration::ZERO,
        attach: Duration::ZERO,
        detach: Duration::ZERO,
        launch: Duration::ZERO,
        checks: Duration::ZERO,
        stop: Duration::ZERO,
        terminate: Duration::ZERO,
    };
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies {
            create: Duration::from_millis(300),
            attach: Duration::from_millis(1000),
            detach: Duration::from_millis(1500),
            launch: Duration::from_secs(3),
            checks: Duration::from_secs(5),
            stop: Duration::from_secs(2),
            terminate: Duration::from_millis(1000),
        }
    }
}

/// A state that EC2 will reach later.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Transition {
    Available(EniId),
    Attached(EniId, AttachmentId),
    Detached(EniId, AttachmentId),
    Running(InstanceId),
    Stopped(InstanceId),
    Terminated(InstanceId),
    Forgotten(InstanceId),
}

/// Everything that the simulated EC2 knows.
#[derive(Clone, Debug)]
pub struct World {
    /// How it behaves; may be changed at any time.
    pub config: WorldConfig,
    /// What goes wrong.
    pub faults: Faults,
    /// What was asked, and what happened.
    pub log: CallLog,
    /// Who may not do what.
    pub iam: Iam,
    pub(crate) dice: Dice,
    pub(crate) vpcs: BTreeMap<VpcId, Vpc>,
    pub(crate) subnets: BTreeMap<SubnetId, Subnet>,
    pub(crate) groups: BTreeMap<GroupId, Group>,
    pub(crate) instances: BTreeMap<InstanceId, History<Instance>>,
    /// Whose each attachment is.
    attachments: BTreeMap<AttachmentId, EniId>,
    pub(crate) enis: BTreeMap<EniId, History<Eni>>,
    pub(crate) trunk_associations: BTreeMap<TrunkAssociationId, TrunkAssociation>,
    pub(crate) eni_permissions: BTreeMap<EniPermissionId, EniPermission>,
    /// How many ENIs each account has.
    eni_counts: BTreeMap<String, usize>,
    /// ENIs that are deleted but that a reader who lags may still see, the first deleted first.
    graves: VecDeque<EniId>,
    /// Instances by the access key of their role.
    pub(crate) keys: BTreeMap<String, InstanceId>,
    pub(crate) client_tokens: ClientTokens,
    pub(crate) buckets: Buckets,
    due: BTreeSet<(SimTime, u64, Transition)>,
    /// Draws the lags of reads: they shift no ids.
    views: Dice,
    pub(crate) planned: Planned,
    /// States that are never reached: of one ENI, or of all.
    stuck: BTreeSet<(Step, Option<EniId>)>,
    /// Transitions that fell due and are stuck.
    held: Vec<Transition>,
    /// Jumps of the time of day, in milliseconds, the first first.
    pub(crate) clock_steps: Vec<(SimTime, i64)>,
    pub(crate) sequence: u64,
    now: SimTime,
    revision: u64,
    /// The revision whose invariants were checked last.
    checked: Option<u64>,
}

impl World {
    /// From here on, ids, places in subnets and what reads see follow from this seed. What went before has no say, so
    /// that the same happens when some of it is left out.
    pub fn reseed(&mut self, seed: u64) {
        self.dice = Dice::new(seed);
        self.views = Dice::new(mix(!seed));
    }

    /// An empty world: no VPC, no instance.
    #[must_use]
    pub fn new(config: WorldConfig) -> World {
        let views_seed = !config.seed;
        World {
            dice: Dice::new(config.seed),
            faults: Faults::new(config.seed),
            log: CallLog::new(config.log_capacity),
            iam: Iam::default(),
            config,
            vpcs: BTreeMap::new(),
            subnets: BTreeMap::new(),
            groups: BTreeMap::new(),
            instances: BTreeMap::new(),
            attachments: BTreeMap::new(),
            enis: BTreeMap::new(),
            trunk_associations: BTreeMap::new(),
            eni_permissions: BTreeMap::new(),
            eni_counts: BTreeMap::new(),
            graves: VecDeque::new(),
            keys: BTreeMap::new(),
            client_tokens: ClientTokens::default(),
            buckets: Buckets::default(),
            due: BTreeSet::new(),
            views: Dice::new(mix(views_seed)),
            planned: Planned::default(),
            stuck: BTreeSet::new(),
            held: Vec::new(),
            clock_steps: Vec::new(),
            sequence: 0,
            now: SimTime::ZERO,
            revision: 0,
            checked: None,
        }
    }

    /// By id.
    #[must_use]
    pub fn vpc(&self, id: &VpcId) -> Option<&Vpc> {
        self.vpcs.get(id)
    }

    /// By id.
    #[must_use]
    pub fn subnet(&self, id: &SubnetId) -> Option<&Subnet> {
        self.subnets.get(id)
    }

    /// By id.
    #[must_use]
    pub fn group(&self, id: &GroupId) -> Option<&Group> {
        self.groups.get(id)
    }

    /// By id.
    #[must_use]
    pub fn instance(&self, id: &InstanceId) -> Option<&Instance> {
        self.instances.get(id).and_then(History::current)
    }

    /// All of them, by id; with the terminated.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values().filter_map(History::current)
    }

    /// All of them, by id, as they were at `then`.
    pub fn instances_at(&self, then: SimTime) -> impl Iterator<Item = &Instance> {
        self.instances
            .values()
            .filter_map(move |history| history.at(then))
    }

    /// By id, as it was at `then`.
    #[must_use]
    pub fn instance_at(&self, id: &InstanceId, then: SimTime) -> Option<&Instance> {
        self.instances.get(id).and_then(|history| history.at(then))
    }

    /// An attachment by its id, with the ENI.
    #[must_use]
    pub fn attachment(&self, id: &str) -> Option<(&Eni, &Attachment)> {
        let eni = self.eni(self.attachments.get(id)?)?;
        Some((eni, eni.attachment.as_ref()?))
    }

    /// By id, as written: no lag.
    #[must_use]
    pub fn eni(&self, id: &EniId) -> Option<&Eni> {
        self.enis.get(id).and_then(History::current)
    }

    /// All of them, by id, as written.
    pub fn enis(&self) -> impl Iterator<Item = &Eni> {
        self.enis.values().filter_map(History::current)
    }

    /// All of them, by id, as they were at `then` (or as far back as the lags need).
    pub fn enis_at(&self, then: SimTime) -> impl Iterator<Item = &Eni> {
        self.enis
            .values()
            .filter_map(move |history| history.at(then))
    }

    /// By id, as it was at `then`.
    #[must_use]
    pub fn eni_at(&self, id: &EniId, then: SimTime) -> Option<&Eni> {
        self.enis.get(id).and_then(|history| history.at(then))
    }

    /// What was attached to an instance at `then`, in any state of attachment.
    pub fn enis_of_at(&self, instance: &InstanceId, then: SimTime) -> impl Iterator<Item = &Eni> {
        self.instance_at(instance, then)
            .into_iter()
            .flat_map(|instance| &instance.enis)
            .filter_map(move |id| self.eni_at(id, then))
    }

    /// What is attached to an instance, in any state of attachment, as written.
    pub fn enis_of(&self, instance: &InstanceId) -> impl Iterator<Item = &Eni> {
        self.instance(instance)
            .into_iter()
            .flat_map(|instance| &instance.enis)
            .filter_map(|id| self.eni(id))
    }

    /// The ENI with device index 0 on card 0.
    #[must_use]
    pub fn primary_eni(&self, instance: &InstanceId) -> Option<&Eni> {
        self.enis_of(instance).find(|eni| {
            eni.attachment
                .as_ref()
                .is_some_and(|a| a.device_index == 0 && a.card == 0)
        })
    }

    /// The instance whose ENI holds an address, alone or in a prefix, in any VPC.
    #[must_use]
    pub fn instance_holding(&self, address: Ipv4Addr) -> Option<&InstanceId> {
        self.subnets
            .values()
            .filter(|subnet| subnet.pool.cidr().contains(&address))
            .filter_map(|subnet| self.holder(&subnet.id, address)?.attachment.as_ref())
            .map(|attachment| &attachment.instance)
            .next()
    }

    /// The account that a request belongs to, by the access key that signed it: the instance's, when it is that of
    /// an instance's role; else the key itself, when it is the twelve digits of an account; else the world's own.
    #[must_use]
    pub fn account_of(&self, access_key: &str) -> String {
        let instance = self.keys.get(access_key).and_then(|id| self.instance(id));
        if let Some(vpc) = instance.and_then(|instance| self.vpc(&instance.vpc)) {
            return vpc.account.clone();
        }
        let is_account =
            access_key.len() == 12 && access_key.bytes().all(|byte| byte.is_ascii_digit());
        if is_account {
            access_key.to_owned()
        } else {
            self.config.account.clone()
        }
    }

    /// The account that a VPC, and with that all that is in it, belongs to.
    #[must_use]
    pub fn owner(&self, vpc: &VpcId) -> &str {
        self.vpc(vpc).map_or("", |vpc| vpc.account.as_str())
    }

    /// Whether a VPC, and with that all that is in it, belongs to an account.
    #[must_use]
    pub fn owns(&self, account: &str, vpc: &VpcId) -> bool {
        self.owner(vpc) == account
    }

    /// The instance whose role's credentials have this access key.
    #[must_use]
    pub fn instance_with_key(&self, access_key: &str) -> Option<&InstanceId> {
        self.keys.get(access_key)
    }

    /// The zone's id, such as `use1-az1`: the same in every account, where names are not.
    #[must_use]
    pub fn az_id(&self, az: &str) -> String {
        let region = &self.config.region;
        let short: String = region
            .split('-')
            .map(|part| part.get(..1).unwrap_or_default())
            .collect();
        let (place, number) = (
            region.get(..2).unwrap_or_default(),
            short.get(1..).unwrap_or_default(),
        );
        let letter = az.bytes().last().unwrap_or(b'a').saturating_sub(b'a');
        format!("{place}{number}-az{}", u32::from(letter) + 1)
    }

    /// The name of a public address.
    #[must_use]
    pub fn public_dns_name(&self, address: Ipv4Addr) -> String {
        let [a, b, c, d] = address.octets();
        let region = &self.config.region;
        if region == "us-east-1" {
            format!("ec2-{a}-{b}-{c}-{d}.compute-1.amazonaws.com")
        } else {
            format!("ec2-{a}-{b}-{c}-{d}.{region}.compute.amazonaws.com")
        }
    }

    pub(crate) fn arn(&self, account: &str, kind: &str, id: &str) -> String {
        let region = &self.config.region;
        format!("arn:aws:ec2:{region}:{account}:{kind}/{id}")
    }

    /// Milliseconds between 1970 and `at`, by the time of day that EC2 and IMDS showed then.
    #[must_use]
    pub fn unix_millis(&self, at: SimTime) -> u64 {
        const START_OF_2026: u64 = 1_767_225_600_000;
        let steady = self.config.epoch_unix_millis.unwrap_or(START_OF_2026) + at.as_millis();
        let steps = self.clock_steps.iter().filter(|(since, _)| *since <= at);
        steps.fold(steady, |time, (_, step)| time.saturating_add_signed(*step))
    }

    /// A number that grows with every change.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }
}
