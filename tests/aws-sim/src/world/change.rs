//! The few ways in which a world changes: each keeps history, pools and queues right.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{AttachmentStatus, Eni, Instance, InstanceState, Transition, World};
use crate::error::{Ec2Error, Result};
use crate::fabric::{Fabric, FabricEni, FabricGroup, FabricSubnet, FabricVpc};
use crate::history::History;
use crate::ids::{EniId, InstanceId, SubnetId};
use crate::subnet::Refusal;
use crate::time::SimTime;

impl World {
    /// Applies what has fallen due by `now`, each at its own time. Returns the world's time: `now`, or later when
    /// the world is ahead, for its time never goes back.
    pub fn advance(&mut self, now: SimTime) -> SimTime {
        while let Some((at, _, _)) = self.due.first()
            && *at <= now
            && let Some((at, _, transition)) = self.due.pop_first()
        {
            self.now = self.now.max(at);
            self.apply(transition);
        }
        self.now = self.now.max(now);
        self.now
    }

    /// When the next state falls due.
    #[must_use]
    pub fn next_due(&self) -> Option<SimTime> {
        self.due.first().map(|(at, _, _)| *at)
    }

    /// Terminates an instance, as TerminateInstances: ENIs that go with it are deleted, others come free.
    ///
    /// # Errors
    /// `InvalidInstanceID.NotFound`.
    pub fn terminate(&mut self, now: SimTime, id: &InstanceId) -> Result<()> {
        let now = self.advance(now);
        let instance = self
            .instances
            .get_mut(id)
            .ok_or_else(|| Ec2Error::no_such_instance(id))?;
        if matches!(
            instance.state,
            InstanceState::Pending | InstanceState::Running
        ) {
            instance.state = InstanceState::ShuttingDown;
            let at = now.plus(self.config.latencies.terminate);
            self.schedule(at, Transition::Terminated(id.clone()));
            self.touch();
            self.advance(now);
        }
        Ok(())
    }

    /// What the network must look like now.
    #[must_use]
    pub fn fabric(&self) -> Fabric {
        let vpcs = self.vpcs.values().map(|vpc| FabricVpc {
            id: vpc.id.to_string(),
            cidrs: vpc.cidrs.clone(),
        });
        let subnets = self.subnets.values().map(|subnet| FabricSubnet {
            id: subnet.id.to_string(),
            vpc: subnet.vpc.to_string(),
            cidr: subnet.pool.cidr(),
            az: subnet.az.clone(),
        });
        let groups = self.groups.values().map(|group| FabricGroup {
            id: group.id.to_string(),
            vpc_id: group.vpc.to_string(),
            ingress: group.ingress.clone(),
            egress: group.egress.clone(),
        });
        Fabric {
            vpcs: vpcs.collect(),
            subnets: subnets.collect(),
            enis: self.enis().map(fabric_eni).collect(),
            security_groups: groups.collect(),
        }
    }

    pub(crate) fn touch(&mut self) {
        self.revision += 1;
    }

    pub(crate) fn schedule(&mut self, at: SimTime, transition: Transition) {
        self.sequence += 1;
        self.due.insert((at, self.sequence, transition));
    }

    /// Takes this address of a subnet.
    pub(crate) fn take_address(&mut self, id: &SubnetId, address: Ipv4Addr) -> Result<Ipv4Addr> {
        let subnet = self
            .subnets
            .get_mut(id)
            .ok_or_else(|| Ec2Error::no_such_subnet(id))?;
        match subnet.pool.take(address) {
            Ok(()) => Ok(address),
            Err(Refusal::Taken) => Err(Ec2Error::client(
                "InvalidIPAddress.InUse",
                format!("Address {address} is in use."),
            )),
            Err(Refusal::Reserved) => Err(Ec2Error::invalid(format!(
                "Address {address} is in subnet's reserved address range"
            ))),
            Err(Refusal::Outside | Refusal::NotABlock) => Err(Ec2Error::invalid(format!(
                "Address {address} does not fall within the subnet's address range"
            ))),
        }
    }

    /// Takes this /28 of a subnet.
    pub(crate) fn take_prefix(&mut self, id: &SubnetId, prefix: Ipv4Net) -> Result<Ipv4Net> {
        let subnet = self
            .subnets
            .get_mut(id)
            .ok_or_else(|| Ec2Error::no_such_subnet(id))?;
        let message = match subnet.pool.take_block(prefix) {
            Ok(()) => return Ok(prefix),
            Err(Refusal::NotABlock) => {
                let why = "The prefix must be a /28 and begin on a multiple of 16.";
                return Err(Ec2Error::value(prefix, "Ipv4Prefix", why));
            }
            Err(Refusal::Taken) => {
                format!("The prefix {prefix} has addresses that are already in use.")
            }
            Err(Refusal::Reserved) => {
                format!("The prefix {prefix} has addresses in subnet's reserved address range")
            }
            Err(Refusal::Outside) => {
                format!("The prefix {prefix} does not fall within the subnet's address range")
            }
        };
        Err(Ec2Error::invalid(message))
    }

    /// Takes so many addresses of a subnet: all or none.
    pub(crate) fn take_addresses(&mut self, id: &SubnetId, count: usize) -> Result<Vec<Ipv4Addr>> {
        let subnet = self
            .subnets
            .get_mut(id)
            .ok_or_else(|| Ec2Error::no_such_subnet(id))?;
        if subnet.pool.free() < count {
            return Err(if self.config.vague_subnet_errors {
                Ec2Error::vaguely_insufficient()
            } else {
                Ec2Error::no_free_addresses()
            });
        }
        let (order, dice) = (self.config.order, &mut self.dice);
        Ok((0..count)
            .filter_map(|_| subnet.pool.take_any(order, dice))
            .collect())
    }

    /// Takes so many prefixes of a subnet: all or none.
    pub(crate) fn take_prefixes(&mut self, id: &SubnetId, count: usize) -> Result<Vec<Ipv4Net>> {
        let subnet = self
            .subnets
            .get_mut(id)
            .ok_or_else(|| Ec2Error::no_such_subnet(id))?;
        let (order, dice) = (self.config.order, &mut self.dice);
        let mut taken = Vec::new();
        while taken.len() < count {
            if let Some(prefix) = subnet.pool.take_any_block(order, dice) {
                taken.push(prefix);
                continue;
            }
            taken
                .into_iter()
                .for_each(|prefix| subnet.pool.give_back_block(prefix));
            return Err(if self.config.vague_subnet_errors {
                Ec2Error::vaguely_insufficient()
            } else {
                Ec2Error::no_free_blocks()
            });
        }
        Ok(taken)
    }

    pub(crate) fn give_back(
        &mut self,
        id: &SubnetId,
        addresses: &[Ipv4Addr],
        prefixes: &[Ipv4Net],
    ) {
        if let Some(subnet) = self.subnets.get_mut(id) {
            addresses
                .iter()
                .for_each(|address| subnet.pool.give_back(*address));
            prefixes
                .iter()
                .for_each(|prefix| subnet.pool.give_back_block(*prefix));
        }
    }

    pub(crate) fn insert_eni(&mut self, now: SimTime, eni: Eni) {
        if eni.pending {
            let at = now.plus(self.config.latencies.create);
            self.schedule(at, Transition::Available(eni.id.clone()));
        }
        self.enis.insert(eni.id.clone(), History::new(now, eni));
        self.touch();
    }

    /// Changes an ENI that is there; readers that lag see it as it was.
    pub(crate) fn change_eni<R>(
        &mut self,
        id: &EniId,
        change: impl FnOnce(&mut Eni) -> R,
    ) -> Result<R> {
        let (now, keep_from) = (self.now, self.keep_from());
        let history = self
            .enis
            .get_mut(id)
            .filter(|history| history.current().is_some());
        let eni = history.and_then(|history| history.change(now, keep_from));
        let result = eni.map(change).ok_or_else(|| Ec2Error::no_such_eni(id))?;
        self.touch();
        Ok(result)
    }

    /// Deletes an ENI: its addresses and prefixes come free.
    pub(crate) fn delete_eni(&mut self, id: &EniId) {
        let (now, keep_from) = (self.now, self.keep_from());
        let Some(history) = self.enis.get_mut(id) else {
            return;
        };
        let Some(eni) = history.current().cloned() else {
            return;
        };
        history.delete(now, keep_from);
        let addresses: Vec<Ipv4Addr> = eni.addresses().collect();
        self.give_back(&eni.subnet, &addresses, &eni.prefixes);
        if let Some(attachment) = &eni.attachment
            && let Some(instance) = self.instances.get_mut(&attachment.instance)
        {
            instance.enis.remove(id);
        }
        self.graves.push_back(id.clone());
        self.clear_graves();
        self.touch();
    }

    /// Takes an ENI off its instance, at once.
    pub(crate) fn release_eni(&mut self, id: &EniId) {
        let released = self
            .change_eni(id, |eni| eni.attachment.take())
            .ok()
            .flatten();
        if let Some(attachment) = released
            && let Some(instance) = self.instances.get_mut(&attachment.instance)
        {
            instance.enis.remove(id);
        }
    }

    /// Forgets the deleted ENIs that nobody can see any more.
    fn clear_graves(&mut self) {
        let keep_from = self.keep_from();
        while let Some(id) = self.graves.front()
            && self
                .enis
                .get(id)
                .is_none_or(|history| history.is_over(keep_from))
        {
            self.enis.remove(id);
            self.graves.pop_front();
        }
    }

    /// The oldest time that a reader can ask for.
    fn keep_from(&self) -> SimTime {
        self.now
            .minus(self.config.describe_lag.max(self.config.imds_lag))
    }

    fn apply(&mut self, transition: Transition) {
        match transition {
            Transition::Available(eni) => {
                drop(self.change_eni(&eni, |eni| eni.pending = false));
            }
            Transition::Attached(eni, attachment) => {
                if self.is_at(&eni, &attachment, AttachmentStatus::Attaching) {
                    drop(self.change_eni(&eni, |eni| {
                        if let Some(attachment) = &mut eni.attachment {
                            attachment.status = AttachmentStatus::Attached;
                        }
                    }));
                }
            }
            Transition::Detached(eni, attachment) => {
                if self.is_at(&eni, &attachment, AttachmentStatus::Detaching) {
                    self.release_eni(&eni);
                }
            }
            Transition::Running(id) => {
                if let Some(instance) = self.instances.get_mut(&id)
                    && instance.state == InstanceState::Pending
                {
                    instance.state = InstanceState::Running;
                    self.touch();
                }
            }
            Transition::Terminated(id) => self.finish_termination(&id),
        }
    }

    fn finish_termination(&mut self, id: &InstanceId) {
        let Some(instance) = self.instances.get_mut(id) else {
            return;
        };
        instance.state = InstanceState::Terminated;
        for eni in instance_enis(instance) {
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
        self.touch();
    }

    fn is_at(
        &self,
        eni: &EniId,
        attachment: &crate::ids::AttachmentId,
        status: AttachmentStatus,
    ) -> bool {
        self.eni(eni)
            .and_then(|eni| eni.attachment.as_ref())
            .is_some_and(|found| found.id == *attachment && found.status == status)
    }
}

fn instance_enis(instance: &Instance) -> Vec<EniId> {
    instance.enis.iter().cloned().collect()
}

fn fabric_eni(eni: &Eni) -> FabricEni {
    let attachment = eni.attachment.as_ref();
    FabricEni {
        id: eni.id.to_string(),
        mac: eni.mac,
        subnet_id: eni.subnet.to_string(),
        vpc_id: eni.vpc.to_string(),
        instance_id: attachment.map(|attachment| attachment.instance.to_string()),
        device_index: attachment.map_or(0, |attachment| attachment.device_index),
        attached_at: attachment.map(|attachment| attachment.since),
        // Packets flow until EC2 has detached it.
        attached: attachment.is_some_and(|a| a.status != AttachmentStatus::Attaching),
        primary_address: eni.primary,
        addresses: eni.addresses().collect(),
        prefixes: eni.prefixes.clone(),
        groups: eni.groups.iter().map(ToString::to_string).collect(),
        public_address: eni.public_address,
        source_dest_check: eni.source_dest_check,
    }
}
