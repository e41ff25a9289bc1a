//! What each event does. Everything is checked before anything changes.

use super::named::Tagged;
use super::{Event, EventError, Happened, Knobs};
use crate::error::Ec2Error;
use crate::ids::{EniId, GroupId, InstanceId};
use crate::time::SimTime;
use crate::world::{
    AttachmentStatus, EniSpec, InstanceState, Tags, Transition, World, WorldConfig,
};

type Result<T> = std::result::Result<T, EventError>;

/// An event that made nothing.
pub(super) fn done(what: impl Into<String>) -> Happened {
    Happened {
        what: what.into(),
        made: Vec::new(),
    }
}

pub(super) fn impossible<T>(why: impl Into<String>) -> Result<T> {
    Err(EventError::Impossible(why.into()))
}

impl World {
    pub(super) fn apply_event(&mut self, now: SimTime, event: &Event) -> Result<Happened> {
        match event {
            Event::StealAddress { eni, address, to } => {
                let eni = self.find_eni(eni)?;
                let to = to.as_deref().map(|to| self.find_eni(to)).transpose()?;
                self.steal(now, &eni, *address, to)
            }
            Event::Unassign { eni, addresses } => {
                let eni = self.find_eni(eni)?;
                self.unassign(&eni, addresses)
            }
            Event::DetachEni { eni } => {
                let eni = self.find_eni(eni)?;
                self.detach_from_outside(now, &eni)
            }
            Event::DeleteEni { eni } => {
                let eni = self.find_eni(eni)?;
                self.check_not_primary(&eni)?;
                self.release_eni(&eni);
                self.delete_eni(&eni);
                Ok(done(format!("{eni} deleted")))
            }
            Event::StripTags { of, keys } => {
                let found = self.find_tagged(of)?;
                self.change_tags(&found, |tags| {
                    tags.retain(|key, _| !keys.is_empty() && !keys.contains(key));
                })?;
                let which = match keys.as_slice() {
                    [] => "all tags".to_owned(),
                    keys => format!("tags {}", keys.join(", ")),
                };
                Ok(done(format!("{which} taken off {of}")))
            }
            Event::AddTags { to, tags } => {
                let found = self.find_tagged(to)?;
                self.change_tags(&found, |all| all.extend(tags.clone()))?;
                let keys: Vec<&str> = tags.keys().map(String::as_str).collect();
                Ok(done(format!("tags {} put on {to}", keys.join(", "))))
            }
            Event::SetGroups { eni, groups } => {
                let eni = self.find_eni(eni)?;
                self.set_groups(&eni, groups)
            }
            Event::FillSubnet { subnet, leaving } => {
                let subnet = self.find_subnet(subnet)?;
                self.fill(now, &subnet, *leaving)
            }
            Event::FragmentSubnet { subnet, pattern } => {
                let subnet = self.find_subnet(subnet)?;
                self.fragment(now, &subnet, *pattern)
            }
            Event::EmptySubnet { subnet } => {
                let subnet = self.find_subnet(subnet)?;
                Ok(self.empty(&subnet))
            }
            Event::CreateOrphan {
                subnet,
                tags,
                description,
            } => {
                let spec = EniSpec {
                    tags: tags.clone(),
                    description: description.clone(),
                    ..EniSpec::new(&self.find_subnet(subnet)?)
                };
                let made = self.appear(now, spec)?;
                Ok(Happened {
                    what: format!("{made} made, attached to nothing"),
                    made: vec![made],
                })
            }
            Event::Stick { step, eni } => {
                let which = eni.as_deref().map(|eni| self.find_eni(eni)).transpose()?;
                let of = eni.as_deref().unwrap_or("all ENIs");
                self.stick(*step, which);
                Ok(done(format!("{step:?} of {of} is stuck")))
            }
            Event::Unstick { step, eni } => {
                let which = eni.as_deref().map(|eni| self.find_eni(eni)).transpose()?;
                let of = eni.as_deref().unwrap_or("all ENIs");
                self.unstick(*step, which.as_ref());
                Ok(done(format!("{step:?} of {of} goes on")))
            }
            Event::StopInstance { instance } => {
                let id = self.find_instance(instance)?;
                self.stop_from_outside(now, &id)
            }
            Event::StartInstance { instance } => {
                let id = self.find_instance(instance)?;
                self.start_from_outside(now, &id)
            }
            Event::TerminateInstance { instance } => {
                let id = self.find_instance(instance)?;
                self.terminate(now, &id)?;
                Ok(done(format!("{id} terminated")))
            }
            Event::StepClock { by, back } => {
                let Ok(step) = i64::try_from(by.as_millis()) else {
                    return impossible(format!("{by:?} is too far for a clock"));
                };
                let way = if *back { "back" } else { "forward" };
                self.clock_steps
                    .push((now, if *back { -step } else { step }));
                let by = humantime::format_duration(*by);
                Ok(done(format!("the time of day jumps {way} by {by}")))
            }
            Event::Configure(knobs) => {
                knobs.turn(&mut self.config);
                Ok(done("knobs turned"))
            }
            Event::Inject(fault) => {
                self.faults.add(fault.clone());
                let action = fault.action.as_deref().unwrap_or("every call");
                Ok(done(format!("{action}: {:?} from now on", fault.effect)))
            }
            Event::InjectImds(fault) => {
                self.faults.add_imds(now, fault.clone());
                Ok(done(format!("IMDS: {:?} from now on", fault.effect)))
            }
            Event::ClearFaults => {
                self.faults.clear();
                Ok(done("no more faults"))
            }
            Event::Deny(deny) => {
                self.iam.deny(deny.clone());
                Ok(done(format!("{} denied", deny.action)))
            }
            Event::Allow(pattern) => {
                self.iam.allow(pattern);
                Ok(done(format!("{pattern} allowed")))
            }
        }
    }

    /// A new ENI that is there at once.
    pub(super) fn appear(&mut self, now: SimTime, spec: EniSpec) -> Result<EniId> {
        let mut eni = self.new_eni(spec)?;
        eni.pending = false;
        let id = eni.id.clone();
        self.insert_eni(now, eni);
        Ok(id)
    }

    fn check_not_primary(&self, id: &EniId) -> Result<()> {
        let attachment = self.eni(id).and_then(|eni| eni.attachment.as_ref());
        match attachment {
            Some(a) if a.device_index == 0 && a.card == 0 => impossible(format!(
                "{id} is the primary ENI of {}: nobody can detach it",
                a.instance
            )),
            _ => Ok(()),
        }
    }

    fn detach_from_outside(&mut self, now: SimTime, id: &EniId) -> Result<Happened> {
        self.check_not_primary(id)?;
        let attachment = self.eni(id).and_then(|eni| eni.attachment.clone());
        let Some(attachment) = attachment else {
            return impossible(format!("{id} is attached to nothing"));
        };
        self.change_eni(id, |eni| {
            if let Some(attachment) = &mut eni.attachment {
                attachment.status = AttachmentStatus::Detaching;
            }
        })?;
        let at = now.plus(self.config.latencies.detach);
        self.schedule(at, Transition::Detached(id.clone(), attachment.id));
        Ok(done(format!("{id} detached from {}", attachment.instance)))
    }

    fn change_tags(&mut self, of: &Tagged, change: impl FnOnce(&mut Tags)) -> Result<()> {
        match of {
            Tagged::Eni(id) => self.change_eni(id, |eni| change(&mut eni.tags))?,
            Tagged::Instance(id) => self.change_instance(id, |found| change(&mut found.tags))?,
            Tagged::Subnet(id) => {
                let subnet = self.subnets.get_mut(id);
                change(&mut subnet.ok_or_else(|| Ec2Error::no_such_subnet(id))?.tags);
            }
            Tagged::Vpc(id) => {
                let vpc = self.vpcs.get_mut(id);
                change(&mut vpc.ok_or_else(|| Ec2Error::no_such_vpc(id))?.tags);
            }
            Tagged::Group(id) => {
                let group = self.groups.get_mut(id);
                change(&mut group.ok_or_else(|| Ec2Error::no_such_group(id))?.tags);
            }
        }
        Ok(())
    }

    fn set_groups(&mut self, id: &EniId, names: &[String]) -> Result<Happened> {
        let groups = names.iter().map(|name| self.find_group(name));
        let groups = groups.collect::<Result<Vec<_>>>()?;
        let eni = self.eni(id).ok_or_else(|| Ec2Error::no_such_eni(id))?;
        let groups = self.groups_for(&eni.vpc.clone(), groups)?;
        let text: Vec<&str> = groups.iter().map(GroupId::as_str).collect();
        let what = format!("{id} gets the security groups {}", text.join(", "));
        self.change_eni(id, |eni| eni.groups = groups)?;
        Ok(done(what))
    }

    fn stop_from_outside(&mut self, now: SimTime, id: &InstanceId) -> Result<Happened> {
        let state = self.instance(id).map(|instance| instance.state);
        if state != Some(InstanceState::Running) {
            return impossible(format!("{id} is not running"));
        }
        self.change_state(id, InstanceState::Stopping)?;
        let at = now.plus(self.config.latencies.stop);
        self.schedule(at, Transition::Stopped(id.clone()));
        Ok(done(format!("{id} stopped")))
    }

    fn start_from_outside(&mut self, now: SimTime, id: &InstanceId) -> Result<Happened> {
        let state = self.instance(id).map(|instance| instance.state);
        if state != Some(InstanceState::Stopped) {
            return impossible(format!("{id} is not stopped"));
        }
        self.change_state(id, InstanceState::Pending)?;
        self.change_instance(id, |instance| instance.launched_at = now)?;
        self.give_public_addresses(id)?;
        let at = now.plus(self.config.latencies.launch);
        self.schedule(at, Transition::Running(id.clone()));
        Ok(done(format!("{id} started")))
    }
}

impl Knobs {
    fn turn(&self, config: &mut WorldConfig) {
        fn set<T: Clone>(knob: &mut T, to: Option<&T>) {
            if let Some(to) = to {
                knob.clone_from(to);
            }
        }
        set(&mut config.latencies, self.latencies.as_ref());
        set(&mut config.describe_lag, self.describe_lag.as_ref());
        set(&mut config.imds_lag, self.imds_lag.as_ref());
        set(&mut config.link_lag, self.link_lag.as_ref());
        set(&mut config.write_lag, self.write_lag.as_ref());
        set(&mut config.imds_partial, self.imds_partial.as_ref());
        set(
            &mut config.reads_go_backwards,
            self.reads_go_backwards.as_ref(),
        );
        set(&mut config.order, self.order.as_ref());
        set(
            &mut config.vague_subnet_errors,
            self.vague_subnet_errors.as_ref(),
        );
        set(&mut config.eni_quota, self.eni_quota.as_ref());
        set(&mut config.short_pages, self.short_pages.as_ref());
        set(&mut config.throttling, self.throttling.as_ref());
    }
}
