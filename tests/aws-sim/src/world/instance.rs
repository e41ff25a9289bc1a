//! Instances: what they are, how they are launched and end.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Ask, Attachment, AttachmentStatus, Eni, EniSpec, Subnet, Tags, Transition, World};
use crate::error::{Ec2Error, Result};
use crate::history::History;
use crate::ids::{AttachmentId, EniId, GroupId, InstanceId, SubnetId, VpcId};
use crate::images::{self, Image};
use crate::instance_types::{self, InstanceType};
use crate::time::SimTime;

/// For how long EC2 shows an instance that is terminated: "a short while (usually an hour)".
const SHOWN_AFTER_THE_END: Duration = Duration::from_secs(3600);

/// An instance.
#[derive(Clone, Debug)]
pub struct Instance {
    /// `i-...`
    pub id: InstanceId,
    /// Its type, with the limits that follow from it.
    pub kind: &'static InstanceType,
    /// Where its primary ENI is.
    pub subnet: SubnetId,
    /// The VPC of that subnet.
    pub vpc: VpcId,
    /// Its availability zone.
    pub az: String,
    /// What it runs.
    pub image: &'static Image,
    /// `r-...`: all instances of one launch have the same.
    pub reservation: String,
    /// Its place among them.
    pub launch_index: usize,
    /// The client token of the launch.
    pub client_token: Option<String>,
    /// Its state.
    pub state: InstanceState,
    /// Since when.
    pub state_since: SimTime,
    /// Why it is not running any more.
    pub state_reason: Option<StateReason>,
    /// When it was launched, or started last.
    pub launched_at: SimTime,
    /// The key pair that it was launched with.
    pub key_name: Option<String>,
    /// What its IMDS gives out as user data, in base64.
    pub user_data: Option<String>,
    /// What can be changed about it and does not matter to the network.
    pub settings: Settings,
    /// The IAM role whose credentials its IMDS gives out.
    pub role: Option<String>,
    /// The access key in those credentials: a request signed with it comes from this instance.
    pub access_key: String,
    /// What is attached to it, in any state of attachment.
    pub enis: BTreeSet<EniId>,
    /// How its metadata service answers.
    pub imds: ImdsOptions,
    /// Tags.
    pub tags: Tags,
}

impl Instance {
    /// A pending one, with nothing attached and a role's key of its own.
    pub(crate) fn new(
        world: &mut World,
        now: SimTime,
        place: Place,
        spec: NewInstance,
    ) -> Instance {
        Instance {
            id: InstanceId::new(&mut world.dice),
            kind: spec.kind,
            subnet: place.subnet,
            vpc: place.vpc,
            az: place.az,
            image: spec.image,
            reservation: spec.reservation,
            launch_index: 0,
            client_token: None,
            state: InstanceState::Pending,
            state_since: now,
            state_reason: None,
            launched_at: now,
            key_name: None,
            user_data: None,
            settings: Settings::default(),
            role: spec.role,
            access_key: format!("ASIA{:016X}", world.dice.roll()),
            enis: BTreeSet::new(),
            imds: spec.imds,
            tags: spec.tags,
        }
    }

    /// Whether it has not been terminated, nor is about to be.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !matches!(
            self.state,
            InstanceState::ShuttingDown | InstanceState::Terminated
        )
    }
}

/// Where an instance is.
pub(crate) struct Place {
    subnet: SubnetId,
    vpc: VpcId,
    az: String,
}

impl From<&Subnet> for Place {
    fn from(subnet: &Subnet) -> Place {
        Place {
            subnet: subnet.id.clone(),
            vpc: subnet.vpc.clone(),
            az: subnet.az.clone(),
        }
    }
}

/// What every new instance must be told.
pub(crate) struct NewInstance {
    pub(crate) kind: &'static InstanceType,
    pub(crate) image: &'static Image,
    pub(crate) reservation: String,
    pub(crate) role: Option<String>,
    pub(crate) imds: ImdsOptions,
    pub(crate) tags: Tags,
}

/// Why an instance is in its state, as EC2 says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateReason {
    /// When it was asked for.
    pub at: SimTime,
    /// Such as `Client.UserInitiatedShutdown`.
    pub code: &'static str,
}

impl StateReason {
    /// Someone called TerminateInstances or StopInstances.
    pub const BY_USER: &'static str = "Client.UserInitiatedShutdown";
}

/// An instance's attributes that do not matter to the network.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Settings {
    /// `DisableApiTermination`
    pub termination_protected: bool,
    /// `DisableApiStop`
    pub stop_protected: bool,
    /// `InstanceInitiatedShutdownBehavior`: terminate instead of stop.
    pub terminates_on_shutdown: bool,
    /// `EbsOptimized`
    pub ebs_optimized: bool,
    /// `Monitoring.Enabled`
    pub monitored: bool,
    /// `CreditSpecification.CpuCredits`
    pub credits: Option<Credits>,
}

/// What bursts cost an instance whose type earns credits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credits {
    /// Credits, as long as there are any.
    Standard,
    /// Credits, and then money.
    Unlimited,
}

/// An instance's metadata options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImdsOptions {
    /// `HttpEndpoint`: disabled answers 403.
    pub enabled: bool,
    /// `HttpTokens: optional`: requests without a token are answered.
    pub v1_allowed: bool,
    /// `HttpPutResponseHopLimit`: through how many hops a token gets.
    pub hop_limit: u8,
    /// `HttpProtocolIpv6`: whether there is an IPv6 address for it too.
    pub ipv6: bool,
    /// `InstanceMetadataTags`: whether the instance's tags are among the metadata.
    pub tags: bool,
}

impl ImdsOptions {
    /// Those of an instance with this image, when nobody says else.
    #[must_use]
    pub fn of_image(image: &Image) -> ImdsOptions {
        ImdsOptions {
            v1_allowed: !image.imds_v2,
            hop_limit: if image.imds_v2 { 2 } else { 1 },
            ..ImdsOptions::default()
        }
    }

    /// EC2's `HttpTokens`.
    #[must_use]
    pub fn tokens(&self) -> &'static str {
        if self.v1_allowed {
            "optional"
        } else {
            "required"
        }
    }
}

impl Default for ImdsOptions {
    fn default() -> ImdsOptions {
        ImdsOptions {
            enabled: true,
            v1_allowed: false,
            hop_limit: 2,
            ipv6: false,
            tags: false,
        }
    }
}

/// Where an instance is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceState {
    /// Launched, not there yet.
    Pending,
    /// There.
    Running,
    /// About to be stopped.
    Stopping,
    /// Not running; it keeps its ENIs.
    Stopped,
    /// Going.
    ShuttingDown,
    /// Gone; Describe shows it still.
    Terminated,
}

impl InstanceState {
    /// EC2's code and name.
    #[must_use]
    pub fn code_and_name(self) -> (u8, &'static str) {
        match self {
            InstanceState::Pending => (0, "pending"),
            InstanceState::Running => (16, "running"),
            InstanceState::ShuttingDown => (32, "shutting-down"),
            InstanceState::Terminated => (48, "terminated"),
            InstanceState::Stopping => (64, "stopping"),
            InstanceState::Stopped => (80, "stopped"),
        }
    }
}

/// An instance to launch.
#[derive(Clone, Debug)]
pub struct LaunchSpec {
    /// Such as `m5.large`.
    pub instance_type: String,
    /// Where its primary ENI goes, and with that the zone.
    pub subnet: SubnetId,
    /// Security groups of the primary ENI; empty is the VPC's default group.
    pub groups: Vec<GroupId>,
    /// A public address that maps to the primary one.
    pub public_address: Option<Ipv4Addr>,
    /// How many IPv6 addresses of its own the primary ENI gets (`Ipv6AddressCount`).
    pub ipv6_addresses: usize,
    /// The IAM role whose credentials its IMDS gives out.
    pub role: Option<String>,
    /// Tags of the instance.
    pub tags: Tags,
}

impl LaunchSpec {
    /// With the VPC's default group, no public address, no IPv6, and a role.
    #[must_use]
    pub fn new(instance_type: &str, subnet: &SubnetId) -> LaunchSpec {
        LaunchSpec {
            instance_type: instance_type.to_owned(),
            subnet: subnet.clone(),
            groups: Vec::new(),
            public_address: None,
            ipv6_addresses: 0,
            role: Some("weir-node".to_owned()),
            tags: Tags::new(),
        }
    }
}

impl World {
    /// Makes an instance that runs already, with a primary ENI that goes with it: what an account has before
    /// anyone asks for more. RunInstances takes its time.
    ///
    /// # Errors
    /// `InvalidInstanceType`, `InvalidSubnetID.NotFound`, `InvalidGroup.NotFound`,
    /// `InsufficientFreeAddressesInSubnet`.
    pub fn launch_instance(&mut self, now: SimTime, spec: LaunchSpec) -> Result<InstanceId> {
        let now = self.advance(now);
        let kind = instance_types::get(&spec.instance_type)
            .ok_or_else(|| Ec2Error::no_such_type(&spec.instance_type))?;
        let place = self
            .subnets
            .get(&spec.subnet)
            .map(Place::from)
            .ok_or_else(|| Ec2Error::no_such_subnet(&spec.subnet))?;
        let eni = self.new_eni(EniSpec {
            groups: spec.groups,
            ipv6: match spec.ipv6_addresses {
                0 => Ask::default(),
                count => Ask::AddressCount(count),
            },
            ..EniSpec::new(&spec.subnet)
        })?;
        let new = NewInstance {
            kind,
            image: images::usual(kind),
            reservation: self.new_reservation(),
            role: spec.role,
            imds: ImdsOptions::default(),
            tags: spec.tags,
        };
        let instance = Instance {
            state: InstanceState::Running,
            ..Instance::new(self, now, place, new)
        };
        let attachment = Attachment {
            id: AttachmentId::new(&mut self.dice),
            instance: instance.id.clone(),
            device_index: 0,
            card: 0,
            status: AttachmentStatus::Attached,
            since: now,
            delete_on_termination: true,
        };
        let eni = Eni {
            pending: false,
            attachment: Some(attachment),
            public_address: spec.public_address,
            associate_public_address: spec.public_address.is_some(),
            ..eni
        };
        let id = instance.id.clone();
        self.insert_instance(now, instance);
        self.insert_eni(now, eni);
        Ok(id)
    }

    pub(crate) fn new_reservation(&mut self) -> String {
        format!("r-0{:016x}", self.dice.roll())
    }

    /// Puts a new instance into the world, before its ENIs.
    pub(crate) fn insert_instance(&mut self, now: SimTime, instance: Instance) {
        self.keys
            .insert(instance.access_key.clone(), instance.id.clone());
        self.instances
            .insert(instance.id.clone(), History::new(now, instance));
        self.touch();
    }

    /// Changes an instance that is there; readers that lag see it as it was.
    pub(crate) fn change_instance<R>(
        &mut self,
        id: &InstanceId,
        change: impl FnOnce(&mut Instance) -> R,
    ) -> Result<R> {
        let (now, keep_from) = (self.now, self.keep_from());
        let history = self.instances.get_mut(id);
        let instance = history
            .and_then(|history| history.change(now, keep_from))
            .ok_or_else(|| Ec2Error::no_such_instance(id))?;
        let result = change(instance);
        self.touch();
        Ok(result)
    }

    /// Terminates an instance, as TerminateInstances: ENIs that go with it are deleted, others come free. One that
    /// is terminated already stays as it is.
    ///
    /// # Errors
    /// `InvalidInstanceID.NotFound`.
    pub fn terminate(&mut self, now: SimTime, id: &InstanceId) -> Result<()> {
        let now = self.advance(now);
        self.end(now, id)?;
        self.advance(now);
        Ok(())
    }

    /// The same, but it is still shutting down afterwards, also when that takes no time.
    pub(crate) fn end(&mut self, now: SimTime, id: &InstanceId) -> Result<()> {
        let instance = self
            .instance(id)
            .ok_or_else(|| Ec2Error::no_such_instance(id))?;
        if !instance.is_alive() {
            return Ok(());
        }
        let enis = instance.enis.clone();
        self.change_state(id, InstanceState::ShuttingDown)?;
        for eni in enis {
            self.change_eni(&eni, |eni| {
                if let Some(attachment) = &mut eni.attachment {
                    attachment.status = AttachmentStatus::Detaching;
                }
            })?;
        }
        let at = now.plus(self.config.latencies.terminate);
        self.schedule(at, Transition::Terminated(id.clone()));
        Ok(())
    }

    /// Puts an instance into another state, as someone asked for it.
    pub(crate) fn change_state(&mut self, id: &InstanceId, state: InstanceState) -> Result<()> {
        let now = self.now;
        self.change_instance(id, |instance| {
            instance.state = state;
            instance.state_since = now;
            instance.state_reason = match state {
                InstanceState::Pending | InstanceState::Running => None,
                InstanceState::Stopping | InstanceState::ShuttingDown => Some(StateReason {
                    at: now,
                    code: StateReason::BY_USER,
                }),
                InstanceState::Stopped | InstanceState::Terminated => instance.state_reason,
            };
        })
    }

    /// Puts an instance into the state that follows on `from`, if that is where it still is.
    pub(super) fn reach_state(&mut self, id: &InstanceId, from: InstanceState, to: InstanceState) {
        if self.instance(id).is_none_or(|found| found.state != from) {
            return;
        }
        drop(self.change_state(id, to));
        if to == InstanceState::Stopped {
            let enis = self.instance(id).map(|instance| instance.enis.clone());
            for eni in enis.unwrap_or_default() {
                drop(self.change_eni(&eni, |eni| eni.public_address = None));
            }
        }
    }

    /// Gives an instance that starts the public addresses that it lost when it stopped; they are others now.
    pub(crate) fn give_public_addresses(&mut self, id: &InstanceId) -> Result<()> {
        let enis = self.enis_of(id).filter(|eni| eni.associate_public_address);
        let enis: Vec<EniId> = enis.map(|eni| eni.id.clone()).collect();
        for eni in enis {
            let address = self.free_public_address();
            self.change_eni(&eni, |eni| eni.public_address = Some(address))?;
        }
        Ok(())
    }

    /// A public address that nobody has, of a range that is only for documentation. There are 254; when they are
    /// used up, some are given out twice.
    pub(crate) fn free_public_address(&mut self) -> Ipv4Addr {
        let used: BTreeSet<Ipv4Addr> = self.enis().filter_map(|eni| eni.public_address).collect();
        let any = self.dice.below(254);
        let address = |n: usize| {
            let host = u8::try_from((any + n) % 254 + 1).unwrap_or(1);
            Ipv4Addr::new(203, 0, 113, host)
        };
        let mut addresses = (0..254).map(address);
        addresses
            .find(|address| !used.contains(address))
            .unwrap_or_else(|| address(0))
    }

    /// What happens when an instance has ended.
    pub(super) fn finish_termination(&mut self, id: &InstanceId) {
        drop(self.change_state(id, InstanceState::Terminated));
        let enis = self.instance(id).map(|instance| instance.enis.clone());
        for eni in enis.unwrap_or_default() {
            let goes = self
                .eni(&eni)
                .and_then(|eni| eni.attachment.as_ref())
                .is_some_and(|attachment| attachment.delete_on_termination);
            if goes {
                self.delete_eni(&eni);
            } else {
                self.release_eni(&eni);
            }
        }
        let at = self.now.plus(SHOWN_AFTER_THE_END);
        self.schedule(at, Transition::Forgotten(id.clone()));
    }

    /// Forgets an instance that was terminated long ago.
    pub(super) fn forget_instance(&mut self, id: &InstanceId) {
        if let Some(instance) = self
            .instances
            .remove(id)
            .and_then(|found| found.current().cloned())
        {
            self.keys.remove(&instance.access_key);
        }
        self.touch();
    }

    /// Changes how an instance's metadata service answers.
    ///
    /// # Errors
    /// `InvalidInstanceID.NotFound`.
    pub fn set_imds_options(&mut self, id: &InstanceId, options: ImdsOptions) -> Result<()> {
        self.change_instance(id, |instance| instance.imds = options)
    }
}
