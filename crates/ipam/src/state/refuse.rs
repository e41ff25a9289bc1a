//! The sentences of refusals: why, what happens next, what a person can do.

use super::{Add, Phase, State};
use crate::planner::Facts;
use crate::pool::{Address, Life, count};
use crate::retry::passes;
use crate::{CallError, CallErrorKind, Reason, Refusal, Sandbox};

const ASKED_AGAIN: &str = "kubelet asks again for the pod by itself";

fn refusal(reason: Reason, message: String, next: impl Into<String>, remedy: &str) -> Refusal {
    Refusal {
        reason,
        message,
        next: next.into(),
        remedy: remedy.to_owned(),
    }
}

/// Refused because of EC2, with all that it said.
fn ec2(error: &CallError, before: &str, next: &str) -> Refusal {
    let (reason, remedy) = match error.kind {
        CallErrorKind::Throttled => (
            Reason::Ec2Throttled,
            "look for what else calls EC2 in this account and Region, or ask AWS for a higher request rate",
        ),
        CallErrorKind::SubnetExhausted => (
            Reason::SubnetExhausted,
            "free addresses in the subnet, or run nodes in a subnet that has some",
        ),
        CallErrorKind::Unavailable | CallErrorKind::Unknown => (
            Reason::Ec2Unavailable,
            "check the node's way to the EC2 endpoint (route, endpoint, DNS, proxy, security group)",
        ),
        CallErrorKind::Refused => (
            Reason::Ec2Refused,
            "check the IAM policy and the credentials of ipamd for this action",
        ),
        CallErrorKind::EniLimit | CallErrorKind::AddressLimit => (
            Reason::Ec2Refused,
            "detach what others have attached to this instance, or set MAX_ENI to what is left for pods",
        ),
        CallErrorKind::NotFound | CallErrorKind::InUse | CallErrorKind::Other => (
            Reason::Ec2Refused,
            "look the error up in the EC2 documentation; AWS support wants the request id",
        ),
    };
    refusal(reason, format!("{before}: {error}"), next, remedy)
}

impl State {
    pub(super) fn refuse_shutting_down(&self) -> Refusal {
        refusal(
            Reason::ShuttingDown,
            format!("ipamd on {} is shutting down", self.node.instance_id),
            ASKED_AGAIN,
            "none is needed if ipamd comes back; else look at its DaemonSet",
        )
    }

    /// ipamd does not know yet what the node holds.
    pub(super) fn refuse_starting(&self) -> Refusal {
        let next = "ipamd goes on asking EC2, and kubelet asks again for the pod";
        match &self.describe_setback {
            Some(setback) => {
                let before = "ipamd cannot learn from EC2 what this node holds";
                ec2(&setback.error, before, next)
            }
            None => refusal(
                Reason::Starting,
                "ipamd has just started and EC2 has not yet told it what this node holds"
                    .to_owned(),
                next,
                "none is needed, unless it lasts for minutes: then check the node's way to EC2",
            ),
        }
    }

    pub(super) fn refuse_books(&self) -> Refusal {
        let why = self
            .disk_setback
            .as_ref()
            .map_or("they are not on disk yet", |setback| &setback.error);
        refusal(
            Reason::BooksFailed,
            format!(
                "the books could not be written, and an address that is not in them on disk is given to nobody: {why}"
            ),
            "ipamd tries to write again, and kubelet asks again for the pod",
            "make room on the file system of the books, or make it writable",
        )
    }

    pub(super) fn refuse_deleted(&self, sandbox: &Sandbox) -> Refusal {
        refusal(
            Reason::SandboxDeleted,
            format!("sandbox {sandbox} was deleted while its ADD waited for an address"),
            "nothing: the sandbox is gone",
            "none is needed",
        )
    }

    pub(super) fn refuse_lost(&self, sandbox: &Sandbox) -> Refusal {
        let address = self.grant_of(sandbox).map_or_else(String::new, |grant| {
            format!("{} of {}", grant.address, grant.eni)
        });
        refusal(
            Reason::AddressLost,
            format!(
                "sandbox {sandbox} owns {address}, but EC2 says that this ENI does not hold it any more"
            ),
            "nothing: it is kept for the sandbox until its DEL",
            "delete the pod, so that it gets another address; find out who took this one away",
        )
    }

    /// The deadline has come.
    pub(super) fn refuse_late(&self, add: &Add) -> Refusal {
        if self.phase != Phase::Running {
            return self.refuse_starting();
        }
        let waited = self.now.since(add.since).as_secs();
        if let Some(owner) = self.owner_of(&add.request.sandbox)
            && owner.version > self.written
        {
            return self.refuse_books();
        }
        if let Some(error) = &self.last_error {
            let before = format!("no address came within {waited} s");
            return ec2(
                error,
                &before,
                "ipamd goes on trying, and kubelet asks again for the pod",
            );
        }
        if let Some(refusal) = self.refuse_troubled_eni() {
            return refusal;
        }
        let under_way: Vec<_> = self
            .view()
            .pending_calls
            .iter()
            .map(|call| match &call.eni {
                Some(eni) => format!("{} of {eni}", call.action),
                None => call.action.to_owned(),
            })
            .collect();
        let waits_for = if under_way.is_empty() {
            "links and routes on the node".to_owned()
        } else {
            under_way.join(", ")
        };
        refusal(
            Reason::DeadlineExceeded,
            format!("no address came within {waited} s; the pool waits for {waits_for}"),
            "the growth goes on, and kubelet asks again for the pod",
            "keep addresses warm (WARM_IP_TARGET, MINIMUM_IP_TARGET), so that pods need not wait for EC2",
        )
    }

    fn refuse_troubled_eni(&self) -> Option<Refusal> {
        let (id, trouble) = self
            .enis
            .iter()
            .find_map(|(id, eni)| Some((id, eni.trouble.as_ref()?)))?;
        Some(refusal(
            Reason::EniFailed,
            format!("ENI {id} cannot be used: {}", trouble.error),
            "ipamd tries again to set it up",
            "look at the node's kernel log and at what else configures its links",
        ))
    }

    /// The pool cannot grow for another waiter.
    pub(super) fn refuse_no_growth(&self, facts: &Facts) -> Refusal {
        let refused = self
            .setbacks
            .values()
            .filter(|setback| setback.until > self.now && !passes(setback.error.kind))
            .max_by_key(|setback| setback.until);
        let closed = facts.limit() > facts.reach();
        if let Some(setback) = refused.filter(|_| closed) {
            let again = setback.until.since(self.now).as_secs() + 1;
            let next = format!("EC2 is asked again in {again} s if there is need");
            return ec2(&setback.error, "the pool cannot grow", &next);
        }
        if let Some(refusal) = self.refuse_troubled_eni() {
            return refusal;
        }
        self.refuse_full(facts)
    }

    fn refuse_full(&self, facts: &Facts) -> Refusal {
        let totals = self.totals();
        let others = count(self.enis.values().filter(|eni| eni.life == Life::Unmanaged));
        let enis = facts.max_enis.saturating_sub(others);
        let per_eni = facts.addresses_per_eni;
        let most = enis.saturating_mul(per_eni);
        let kind = &self.node.instance_type;
        let first_cooled = self
            .enis
            .values()
            .flat_map(|eni| eni.addresses.values())
            .filter_map(Address::free_at)
            .min();
        let next = match first_cooled {
            Some(at) => format!(
                "the next address has cooled in {} s; kubelet asks again for the pod",
                at.since(self.now).as_secs() + 1
            ),
            None => format!(
                "an address is free {} s after a pod of this node goes; kubelet asks again for the pod",
                self.targets.cooldown.as_secs()
            ),
        };
        let mut bounds = String::new();
        if self.max_enis() < self.node.limits.max_enis {
            bounds = format!(
                " (MAX_ENI is {}, the type allows {})",
                self.max_enis(),
                self.node.limits.max_enis
            );
        }
        if others > 0 {
            bounds.push_str(&format!(" ({others} more ENIs are not ours to use)"));
        }
        if totals.owned == most {
            let message = format!(
                "all {most} addresses that an {kind} may hold are owned: {enis} ENIs of {per_eni}{bounds}"
            );
            return self.full(message, next);
        }
        let message = format!(
            "all {most} addresses that an {kind} may hold are taken: {enis} ENIs of {per_eni}{bounds}; {} are owned, \
             {} cooling, {} being prepared, {} quarantined",
            totals.owned, totals.cooling, totals.preparing, totals.quarantined
        );
        self.full(message, next)
    }

    fn full(&self, message: String, next: String) -> Refusal {
        let remedy = if self.max_enis() < self.node.limits.max_enis {
            "raise MAX_ENI, let fewer pods onto the node (kubelet's max-pods), or take a larger instance type"
        } else {
            "let fewer pods onto the node (kubelet's max-pods), or take a larger instance type"
        };
        refusal(Reason::PoolExhausted, message, next, remedy)
    }

    pub(super) fn owner_of(&self, sandbox: &Sandbox) -> Option<&crate::pool::Owner> {
        let (eni, ip) = self.owners.get(sandbox)?;
        self.enis.get(eni)?.addresses.get(ip)?.owner()
    }
}
