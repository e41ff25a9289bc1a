//! Instances: what they are, how they are launched and end.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::{Attachment, AttachmentStatus, Eni, EniSpec, Tags, Transition, World};
use crate::error::{Ec2Error, Result};
use crate::history::History;
use crate::ids::{AttachmentId, EniId, GroupId, InstanceId, SubnetId, VpcId};
use crate::instance_types::{self, InstanceType};
use crate::time::SimTime;

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
    /// Its state.
    pub state: InstanceState,
    /// When it was launched.
    pub launched_at: SimTime,
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

/// An instance's metadata options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImdsOptions {
    /// `HttpEndpoint`: disabled answers 403.
    pub enabled: bool,
    /// `HttpTokens: optional`: requests without a token are answered.
    pub v1_allowed: bool,
}

impl Default for ImdsOptions {
    fn default() -> ImdsOptions {
        ImdsOptions {
            enabled: true,
            v1_allowed: false,
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
    /// The IAM role whose credentials its IMDS gives out.
    pub role: Option<String>,
    /// Tags of the instance.
    pub tags: Tags,
}

impl LaunchSpec {
    /// With the VPC's default group, no public address, and a role.
    #[must_use]
    pub fn new(instance_type: &str, subnet: &SubnetId) -> LaunchSpec {
        LaunchSpec {
            instance_type: instance_type.to_owned(),
            subnet: subnet.clone(),
            groups: Vec::new(),
            public_address: None,
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
        let id = InstanceId::new(&mut self.dice);
        let eni = self.new_eni(EniSpec {
            groups: spec.groups,
            ..EniSpec::new(&spec.subnet)
        })?;
        let attachment = Attachment {
            id: AttachmentId::new(&mut self.dice),
            instance: id.clone(),
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
            ..eni
        };
        let instance = Instance {
            id: id.clone(),
            kind,
            subnet: spec.subnet,
            vpc: eni.vpc.clone(),
            az: eni.az.clone(),
            state: InstanceState::Running,
            launched_at: now,
            role: spec.role,
            access_key: format!("ASIA{:016X}", self.dice.roll()),
            enis: BTreeSet::new(),
            imds: ImdsOptions::default(),
            tags: spec.tags,
        };
        self.insert_instance(now, instance);
        self.insert_eni(now, eni);
        Ok(id)
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

    /// Terminates an instance, as TerminateInstances: ENIs that go with it are deleted, others come free.
    ///
    /// # Errors
    /// `InvalidInstanceID.NotFound`.
    pub fn terminate(&mut self, now: SimTime, id: &InstanceId) -> Result<()> {
        let now = self.advance(now);
        let instance = self
            .instance(id)
            .ok_or_else(|| Ec2Error::no_such_instance(id))?;
        if matches!(
            instance.state,
            InstanceState::Pending | InstanceState::Running
        ) {
            self.change_instance(id, |instance| instance.state = InstanceState::ShuttingDown)?;
            let at = now.plus(self.config.latencies.terminate);
            self.schedule(at, Transition::Terminated(id.clone()));
            self.advance(now);
        }
        Ok(())
    }

    /// What happens when an instance has ended.
    pub(super) fn finish_termination(&mut self, id: &InstanceId) {
        let ended = self.change_instance(id, |instance| {
            instance.state = InstanceState::Terminated;
            instance.enis.clone()
        });
        for eni in ended.unwrap_or_default() {
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
    }

    /// Changes how an instance's metadata service answers.
    ///
    /// # Errors
    /// `InvalidInstanceID.NotFound`.
    pub fn set_imds_options(&mut self, id: &InstanceId, options: ImdsOptions) -> Result<()> {
        self.change_instance(id, |instance| instance.imds = options)
    }
}
