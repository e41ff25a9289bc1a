//! The sentences of refusals: why, what happens next, what a person can do.

use super::why::{Retry, WaitsFor};
use super::{Add, State};
use crate::planner::Facts;
use crate::pool::Life;
use crate::retry::passes;
use crate::{CallError, CallErrorKind, Family, HeldBy, Mode, Node, Reason, Refusal, Sandbox};

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
        CallErrorKind::SubnetExhausted | CallErrorKind::PrefixesExhausted => (
            Reason::SubnetExhausted,
            "free addresses in the subnet, or run nodes in a subnet that has some",
        ),
        CallErrorKind::Unavailable | CallErrorKind::Unknown => (
            Reason::Ec2Unavailable,
            "check the node's way to the EC2 endpoint (route, endpoint, DNS, proxy, security group)",
        ),
        CallErrorKind::InstanceNotReady => (
            Reason::Ec2Unavailable,
            "none is needed while the instance boots; else look what EC2 says of its state",
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

/// Refused because of what weighs most of what was waited for.
fn in_vain(waits_for: &[WaitsFor], before: &str) -> Refusal {
    match waits_for.first() {
        Some(WaitsFor::Start(retry)) => starting(retry.as_ref()),
        Some(WaitsFor::Books(None)) => refusal(
            Reason::DeadlineExceeded,
            format!("{before}: it was still being written to the books"),
            "the write goes on, and kubelet asks again for the pod",
            "none is needed, unless it happens often: then look for what slows the file system of the books down",
        ),
        Some(WaitsFor::Books(Some(retry))) => refusal(
            Reason::BooksFailed,
            format!(
                "the books could not be written, and an address that is not in them on disk is given to nobody: {}",
                retry.error
            ),
            "ipamd tries to write again, and kubelet asks again for the pod",
            "make room on the file system of the books, or make it writable",
        ),
        Some(WaitsFor::Ec2(retry)) => ec2(
            &retry.error,
            before,
            "ipamd goes on trying, and kubelet asks again for the pod",
        ),
        Some(WaitsFor::SetUp(eni, Some(retry)) | WaitsFor::Routes(eni, Some(retry))) => refusal(
            Reason::EniFailed,
            format!("ENI {eni} cannot be used: {}", retry.error),
            "ipamd tries again to set it up",
            "look at the node's kernel log and at what else configures its links",
        ),
        Some(WaitsFor::Frozen { error, .. }) => frozen(error.as_ref()),
        Some(WaitsFor::Governor(held)) if matches!(held.cause, HeldBy::Share { .. }) => refusal(
            Reason::DeadlineExceeded,
            format!("{before}; the pool waits for {held}"),
            "it asks EC2 when its turn has come, and kubelet asks again for the pod",
            "launch nodes with prefixes, so that they need not ask; or set WEIR_CLUSTER_SIZE to fewer nodes, if AWS has \
             raised the account's request rates or fewer nodes come at once",
        ),
        _ => {
            let all: Vec<String> = waits_for.iter().map(ToString::to_string).collect();
            refusal(
                Reason::DeadlineExceeded,
                format!("{before}; the pool waits for {}", all.join(", ")),
                "the growth goes on, and kubelet asks again for the pod",
                "keep addresses warm (WARM_IP_TARGET, MINIMUM_IP_TARGET), so that pods need not wait for EC2",
            )
        }
    }
}

fn starting(retry: Option<&Retry<CallError>>) -> Refusal {
    let next = "ipamd goes on asking EC2, and kubelet asks again for the pod";
    match retry {
        Some(retry) => {
            let before = "ipamd cannot learn from EC2 what this node holds";
            ec2(&retry.error, before, next)
        }
        None => refusal(
            Reason::Starting,
            "ipamd has just started and EC2 has not yet told it what this node holds".to_owned(),
            next,
            "none is needed, unless it lasts for minutes: then check the node's way to EC2",
        ),
    }
}

fn frozen(error: Option<&CallError>) -> Refusal {
    let before = "the pool is frozen: EC2 is not asked for more addresses";
    match error {
        Some(error) => ec2(
            error,
            &format!("{before}, as it has done nothing for long"),
            "EC2 is tried again every few minutes, and kubelet asks again for the pod",
        ),
        None => refusal(
            Reason::PoolFrozen,
            format!("{before}, and all that this node holds are taken"),
            "an address is free when a pod of this node has gone and its address has cooled",
            "set another mode, or none (WEIR_MODE), and neither DISABLE_NETWORK_RESOURCE_PROVISIONING nor \
             ENABLE_IMDS_ONLY_MODE",
        ),
    }
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
        in_vain(&[self.waits_for_start()], "")
    }

    pub(super) fn refuse_books(&self) -> Refusal {
        in_vain(&[self.waits_for_books()], "")
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
        let grant = self.grant_of(sandbox);
        let addresses = grant.iter().flat_map(|grant| &grant.addresses);
        let addresses: Vec<_> = addresses
            .map(|it| format!("{} of {}", it.address, it.eni))
            .collect();
        let address = addresses.join(" and ");
        refusal(
            Reason::AddressLost,
            format!(
                "sandbox {sandbox} owns {address}, but EC2 says that its ENI does not hold it any more"
            ),
            "nothing: it is kept for the sandbox until its DEL",
            "delete the pod, so that it gets another address; find out who took this one away",
        )
    }

    /// The deadline has come.
    pub(super) fn refuse_late(&self, add: &Add) -> Refusal {
        let waited = self.now.since(add.since).as_secs();
        let before = format!("no address came within {waited} s");
        in_vain(&self.waits_for(&add.request.sandbox), &before)
    }

    /// The pool cannot grow for another waiter.
    pub(super) fn refuse_no_growth(&self, facts: &Facts) -> Refusal {
        let refused = self
            .setbacks
            .values()
            .filter(|setback| setback.until > self.now && !passes(setback.error.kind))
            .max_by_key(|setback| setback.until);
        let (settings, limits) = (&self.settings, &self.node.limits);
        let closed = facts.limit(settings, limits) > facts.reach(settings, limits);
        if closed && facts.mode == Mode::Frozen {
            return in_vain(&[self.waits_for_thaw()], "");
        }
        if let Some(setback) = refused.filter(|_| closed) {
            let again = setback.until.since(self.now).as_secs() + 1;
            let next = format!("EC2 is asked again in {again} s if there is need");
            return ec2(&setback.error, "the pool cannot grow", &next);
        }
        if let Some(trouble) = self.troubled_enis().next() {
            return in_vain(&[trouble], "");
        }
        if facts.subnets.is_empty() {
            return self.refuse_without_subnet();
        }
        self.refuse_full()
    }

    /// Tags leave no subnet for a new ENI.
    fn refuse_without_subnet(&self) -> Refusal {
        let Node {
            subnet_id,
            availability_zone,
            ..
        } = &self.node;
        refusal(
            Reason::PoolExhausted,
            format!(
                "all addresses that this node holds for pods are taken, and no ENI can be made: the node's own subnet \
                 {subnet_id} is tagged as not for pods, and no other one of {availability_zone} as for them"
            ),
            "the tags are read again when pods wait, every few minutes; kubelet asks again for the pod",
            "tag a subnet of the zone kubernetes.io/role/cni=1, or take that tag off the node's own subnet",
        )
    }

    fn refuse_full(&self) -> Refusal {
        let totals = self.pool.total().v4.totals();
        let others = self
            .pool
            .enis()
            .filter(|(_, eni)| eni.life == Life::Unmanaged)
            .count();
        let others = u32::try_from(others).unwrap_or(u32::MAX);
        let kept = self.pool.enis().filter(|(_, eni)| eni.kept_from_pods);
        let kept = u32::try_from(kept.count()).unwrap_or(u32::MAX);
        let enis = self.max_enis().saturating_sub(others).saturating_sub(kept);
        let per_eni = self.node.limits.slots_for_pods(Family::V4);
        let kind = &self.node.instance_type;
        let next = match self.pool.next_cooled() {
            Some(at) => format!(
                "the next address has cooled in {} s; kubelet asks again for the pod",
                at.since(self.now).as_secs() + 1
            ),
            None => format!(
                "an address is free {} s after a pod of this node goes; kubelet asks again for the pod",
                self.settings.cooldown.as_secs()
            ),
        };
        let mut bounds = String::new();
        if self.max_enis() < self.node.limits.max_enis() {
            bounds = format!(
                " (MAX_ENI is {}, the type allows {})",
                self.max_enis(),
                self.node.limits.max_enis()
            );
        }
        if others > 0 {
            bounds.push_str(&format!(" ({others} more ENIs are not ours to use)"));
        }
        if kept > 0 {
            bounds.push_str(&format!(
                " ({kept} more give pods nothing: their subnet is not for pods)"
            ));
        }
        let (what, whose) = if self.settings.delegation {
            ("slots for addresses and prefixes", "addresses ")
        } else {
            ("addresses", "")
        };
        let most = enis.saturating_mul(per_eni);
        if totals.owned == u64::from(most) {
            let message = format!(
                "all {most} {what} that an {kind} may hold are owned: {enis} ENIs of {per_eni}{bounds}"
            );
            return self.full(message, next);
        }
        let message = format!(
            "all {most} {what} that an {kind} may hold are taken: {enis} ENIs of {per_eni}{bounds}; {} {whose}are \
             owned, {} cooling, {} being prepared, {} quarantined, {} being given back",
            totals.owned, totals.cooling, totals.preparing, totals.quarantined, totals.leaving
        );
        self.full(message, next)
    }

    /// ENIs that the node may have, on all cards that are used.
    fn max_enis(&self) -> u32 {
        let cards = self.node.limits.enis_per_card.iter();
        let cards = cards.take(if self.settings.all_cards {
            usize::MAX
        } else {
            1
        });
        let most = self.settings.max_enis_per_card.unwrap_or(u32::MAX);
        cards.map(|limit| *limit.min(&most)).sum()
    }

    fn full(&self, message: String, next: String) -> Refusal {
        let remedy = if self.max_enis() < self.node.limits.max_enis() {
            "raise MAX_ENI, let fewer pods onto the node (kubelet's max-pods), or take a larger instance type"
        } else {
            "let fewer pods onto the node (kubelet's max-pods), or take a larger instance type"
        };
        refusal(Reason::PoolExhausted, message, next, remedy)
    }
}
