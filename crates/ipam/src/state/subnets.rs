//! Which subnets new ENIs are made in, and of which ENIs pods get no addresses.
//!
//! Where tags say it, EC2 is asked about the zone's subnets only when a new ENI is about to be made; what it said holds
//! for [`FRESH`], also through a restart. That it does not answer holds nothing up: then it is what was known before, or
//! the primary ENI's subnet.

use std::time::Duration;

use super::{Spot, State};
use crate::planner::{self, Action, Facts, Gate, SubnetGates};
use crate::pool::Life;
use crate::retry::{self, Setback};
use crate::{
    Call, CallError, CallReply, EniId, Haste, Place, SecurityGroupId, SlotKind, SubnetChoice,
    SubnetFacts, SubnetId, Subnets, SubnetsSeen, Time,
};

/// How long what tags said holds.
const FRESH: Duration = Duration::from_hours(1);
/// How long it holds where a subnet refuses: somebody may have tagged another one because of that.
const FRESH_WHERE_FULL: Duration = Duration::from_mins(5);
/// How long a new ENI waits for the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// aws-node's tag of subnets that are for pods, or with `0` are not.
const TAG_ROLE: &str = "kubernetes.io/role/cni";
/// aws-node's tag, before a cluster's name, of subnets that are for pods of that cluster alone.
const TAG_CLUSTER: &str = "cni.networking.k8s.aws/cluster/";

/// What is known of the zone's subnets.
#[derive(Clone, Debug, Default)]
pub(super) struct Survey {
    pub(super) seen: Option<SubnetsSeen>,
    /// It is not so any more: a subnet has gone.
    doubted: bool,
    /// Since when an answer is awaited.
    asked: Option<Time>,
    setback: Option<Setback<CallError>>,
}

impl Survey {
    pub(super) fn restored(seen: Option<SubnetsSeen>) -> Self {
        Self {
            seen,
            ..Self::default()
        }
    }

    /// When time alone changes what is done.
    pub(super) fn next_due(&self) -> impl Iterator<Item = Time> {
        let seen = self.seen.iter().map(|seen| seen.at);
        let fresh = seen.flat_map(|at| [at.after(FRESH), at.after(FRESH_WHERE_FULL)]);
        let asked = self.asked.map(|at| at.after(PATIENCE));
        fresh
            .chain(asked)
            .chain(self.setback.as_ref().map(|it| it.until))
    }
}

impl State {
    /// Where a new ENI may be made, the best first, and whether each is said to have room.
    pub(super) fn subnets(&self) -> Vec<SubnetGates> {
        let mut gates = self.known_subnets();
        if self.may_learn_of_subnets(&gates) {
            if gates.is_empty() {
                gates.push(self.subnet_gates(self.node.subnet_id.clone(), &[]));
            }
            set_all(&mut gates, Gate::Busy);
        }
        gates
    }

    fn known_subnets(&self) -> Vec<SubnetGates> {
        let own = || self.subnet_gates(self.node.subnet_id.clone(), &[]);
        let of = |choice: &SubnetChoice| self.subnet_gates(choice.id.clone(), &choice.groups);
        match (&self.settings.subnets, &self.survey.seen) {
            (Subnets::Listed(others), _) => std::iter::once(own())
                .chain(others.iter().map(of))
                .collect(),
            (Subnets::Custom(choice), _) => vec![of(choice)],
            (Subnets::Tagged { .. }, None) => vec![own()],
            (Subnets::Tagged { .. }, Some(seen)) => {
                let usable = seen.usable.iter();
                usable
                    .map(|id| self.subnet_gates(id.clone(), &[]))
                    .collect()
            }
        }
    }

    fn subnet_gates(&self, subnet: SubnetId, groups: &[SecurityGroupId]) -> SubnetGates {
        SubnetGates {
            groups: match groups {
                [] => self.node.security_groups.clone(),
                groups => groups.to_vec(),
            },
            addresses: self.subnet_gate(&subnet, SlotKind::Address),
            prefixes: self.subnet_gate(&subnet, SlotKind::Prefix),
            ipv6_prefixes: self.subnet_gate(&subnet, SlotKind::Ipv6Prefix),
            subnet,
        }
    }

    pub(super) fn subnet_gate(&self, subnet: &SubnetId, kind: SlotKind) -> Gate {
        self.gate(|| Spot::Subnet(subnet.clone(), kind))
    }

    /// Whether EC2 is to be asked before a new ENI is made, or has been and may still answer in time.
    fn may_learn_of_subnets(&self, gates: &[SubnetGates]) -> bool {
        let Subnets::Tagged { .. } = self.settings.subnets else {
            return false;
        };
        let survey = &self.survey;
        if let Some(asked) = survey.asked {
            return self.now < asked.after(PATIENCE);
        }
        if survey
            .setback
            .as_ref()
            .is_some_and(|it| it.until > self.now)
        {
            return false;
        }
        let full = gates.is_empty() || gates.iter().any(|it| it.addresses == Gate::Closed);
        let fresh = if full { FRESH_WHERE_FULL } else { FRESH };
        let seen = survey.seen.as_ref();
        survey.doubted || seen.is_none_or(|seen| self.now >= seen.at.after(fresh))
    }

    /// Whether an ENI would be made if the subnets were known, and EC2 has still to be asked about them.
    pub(super) fn wants_to_know_subnets(&self, facts: &Facts) -> bool {
        if self.survey.asked.is_some() || !self.may_learn_of_subnets(&self.known_subnets()) {
            return false;
        }
        let mut open = facts.clone();
        set_all(&mut open.subnets, Gate::Open);
        let plan = planner::grow(&self.settings, &self.node.limits, &open);
        let makes = |action: &Action| matches!(action, Action::Create { .. });
        plan.iter().any(makes)
    }

    /// Asks EC2 about the zone's subnets, if it may be asked now.
    pub(super) fn look_at_subnets(&mut self, haste: Haste) {
        if self.may_ask(&Call::DescribeSubnets, haste) {
            self.survey.asked = Some(self.now);
            self.call(Call::DescribeSubnets);
        }
    }

    /// A subnet that tags named is not there; whether they did.
    pub(super) fn doubt_subnet(&mut self, subnet: &SubnetId) -> bool {
        let seen = self.survey.seen.as_ref();
        let named =
            *subnet != self.node.subnet_id && seen.is_some_and(|seen| seen.usable.contains(subnet));
        self.survey.doubted |= named;
        named
    }

    pub(super) fn subnets_told(&mut self, outcome: Result<CallReply, CallError>) {
        self.survey.asked = None;
        let cluster = match &self.settings.subnets {
            Subnets::Tagged { cluster } => cluster.clone(),
            Subnets::Listed(_) | Subnets::Custom(_) => return,
        };
        match outcome {
            Ok(CallReply::Subnets(subnets)) => {
                let seen = choose(&subnets, &self.node.subnet_id, cluster.as_deref(), self.now);
                self.survey.setback = None;
                self.survey.doubted = false;
                self.tell_of_subnets(&seen);
                self.survey.seen = Some(seen);
                self.changed();
                self.see_who_gives();
                self.look_for_too_much();
            }
            Ok(_) => {}
            Err(error) => {
                let before = self.survey.setback.take();
                if before.is_none() {
                    let where_to = match &self.survey.seen {
                        Some(_) => "where they were before".to_owned(),
                        None => format!("in {}, the node's own subnet", self.node.subnet_id),
                    };
                    self.tell(format!(
                        "the zone's subnets and their tags can't be read, so new ENIs are made {where_to}: {error}. \
                         Allow ec2:DescribeSubnets, or set ENABLE_SUBNET_DISCOVERY=false"
                    ));
                }
                let setback = retry::after_call(before.as_ref(), error, self.now, &mut self.jitter);
                self.survey.setback = Some(setback);
            }
        }
    }

    fn tell_of_subnets(&mut self, seen: &SubnetsSeen) {
        let before = self.survey.seen.as_ref();
        let known = |id: &SubnetId| before.is_some_and(|it| it.excluded.contains(id));
        let own = &self.node.subnet_id;
        let mut told = Vec::new();
        if seen.excluded.contains(own) && !known(own) {
            told.push(format!(
                "{own}, the node's own subnet, is tagged as not for pods ({TAG_ROLE}=0, or for other clusters alone): \
                 they get no more addresses of it, and those that no pod has go back to EC2"
            ));
        }
        if seen.usable.is_empty() && before.is_none_or(|it| !it.usable.is_empty()) {
            told.push(format!(
                "no subnet of {} is tagged as for pods ({TAG_ROLE}=1), and {own} as not for them: no ENI is made",
                self.node.availability_zone
            ));
        }
        told.into_iter().for_each(|sentence| self.tell(sentence));
    }

    /// Whether pods get no addresses of an ENI that is ours to use.
    pub(super) fn is_kept_from_pods(&self, place: Place, subnet: Option<&SubnetId>) -> bool {
        match &self.settings.subnets {
            Subnets::Listed(_) => false,
            Subnets::Custom(_) => place == Place::PRIMARY,
            Subnets::Tagged { .. } => {
                let seen = self.survey.seen.as_ref();
                subnet.is_some_and(|id| seen.is_some_and(|seen| seen.excluded.contains(id)))
            }
        }
    }

    /// Lets each ENI give addresses to pods, or not.
    pub(super) fn see_who_gives(&mut self) {
        let ids: Vec<EniId> = self.pool.enis().map(|(id, _)| id.clone()).collect();
        for id in &ids {
            let Some(eni) = self.pool.eni(id) else {
                continue;
            };
            let subnet = eni.link.as_ref().map(|link| &link.subnet_id);
            let kept = self.is_kept_from_pods(eni.place, subnet) && eni.life != Life::Unmanaged;
            if kept != eni.kept_from_pods {
                self.pool.change_eni(id, |eni| eni.kept_from_pods = kept);
            }
        }
    }
}

fn set_all(gates: &mut [SubnetGates], gate: Gate) {
    for it in gates {
        (it.addresses, it.prefixes, it.ipv6_prefixes) = (gate, gate, gate);
    }
}

/// What tags say, by aws-node's rules: the node's own subnet is for pods unless it is tagged `0`, another one only if it
/// is tagged, with anything but `0`. One that names clusters is for these alone. The one with the most free addresses
/// comes first.
fn choose(
    subnets: &[SubnetFacts],
    own: &SubnetId,
    cluster: Option<&str>,
    now: Time,
) -> SubnetsSeen {
    let says = |subnet: &SubnetFacts| {
        let role = subnet.tags.get(TAG_ROLE).filter(|role| !role.is_empty())?;
        let mut clusters = subnet
            .tags
            .keys()
            .filter_map(|key| key.strip_prefix(TAG_CLUSTER))
            .peekable();
        let ours = clusters.peek().is_none()
            || cluster.is_none_or(|cluster| clusters.any(|it| it == cluster));
        Some(role != "0" && ours)
    };
    let mut usable: Vec<&SubnetFacts> = subnets
        .iter()
        .filter(|subnet| says(subnet).unwrap_or(subnet.id == *own))
        .collect();
    usable.sort_by_key(|subnet| (std::cmp::Reverse(subnet.free), &subnet.id));
    let mut usable: Vec<SubnetId> = usable.into_iter().map(|it| it.id.clone()).collect();
    // One of another account may not be shown.
    if !subnets.iter().any(|it| it.id == *own) {
        usable.push(own.clone());
    }
    let excluded = subnets.iter().filter(|it| says(it) == Some(false));
    SubnetsSeen {
        at: now,
        usable,
        excluded: excluded.map(|it| it.id.clone()).collect(),
    }
}
