//! The VPC's CIDRs, which come and go: what pods send there keeps their address.

use std::collections::BTreeSet;
use std::time::Duration;

use cloud::Metadata;
use datapath::{NodePlan, Snat};
use ipam::Mac;
use ipnet::Ipv4Net;
use tokio::sync::watch;

/// How often IMDS is asked, as aws-node does.
const EVERY: Duration = Duration::from_secs(30);
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Changes the plan when the VPC's CIDRs change; who follows the plan changes the kernel. Ends at once where the node
/// translates nothing.
pub(crate) async fn watch(
    metadata: Metadata,
    known: Vec<Ipv4Net>,
    excluded: Vec<Ipv4Net>,
    plan: watch::Sender<NodePlan>,
) {
    if plan.borrow().snat == Snat::External {
        // The plan never changes then, but who follows it must not take it for gone.
        return plan.closed().await;
    }
    let primary = Mac(plan.borrow().primary_mac.0);
    let mut cidrs = Cidrs::new(known);
    while !plan.is_closed() {
        tokio::time::sleep(EVERY).await;
        let Some(seen) = metadata.vpc_cidrs(primary, PATIENCE).await else {
            continue;
        };
        if let Some(now) = cidrs.see(seen) {
            tracing::info!(vpc_cidrs = ?now, "the VPC's CIDRs have changed");
            plan.send_modify(|plan| plan.vpc_cidrs = untranslated(&now, &excluded));
        }
    }
}

/// To where nothing is translated.
pub(crate) fn untranslated(vpc: &[Ipv4Net], excluded: &[Ipv4Net]) -> Vec<Ipv4Net> {
    vpc.iter().chain(excluded).copied().collect()
}

/// What the VPC has, by what IMDS showed. One more counts at once; one less when it was not seen twice: taken for gone,
/// what is in the VPC would be translated.
#[derive(Debug)]
struct Cidrs {
    known: BTreeSet<Ipv4Net>,
    missed: BTreeSet<Ipv4Net>,
}

impl Cidrs {
    fn new(known: Vec<Ipv4Net>) -> Self {
        Self {
            known: known.into_iter().collect(),
            missed: BTreeSet::new(),
        }
    }

    /// All of them, if they are others than before.
    fn see(&mut self, seen: Vec<Ipv4Net>) -> Option<Vec<Ipv4Net>> {
        let seen: BTreeSet<_> = seen.into_iter().collect();
        let missing: BTreeSet<_> = self.known.difference(&seen).copied().collect();
        let gone: BTreeSet<_> = missing.intersection(&self.missed).copied().collect();
        let now: BTreeSet<_> = self.known.union(&seen).copied().collect();
        let now: BTreeSet<_> = now.difference(&gone).copied().collect();
        self.missed = missing;
        if now == self.known {
            return None;
        }
        self.known = now;
        Some(self.known.iter().copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<Ipv4Net> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_cidr_counts_at_once_and_is_gone_when_it_was_missed_twice() {
        let mut cidrs = Cidrs::new(nets(&["10.0.0.0/16"]));
        let both = nets(&["10.0.0.0/16", "100.64.0.0/16"]);
        assert_eq!(cidrs.see(nets(&["10.0.0.0/16"])), None);
        assert_eq!(cidrs.see(both.clone()), Some(both.clone()));
        assert_eq!(cidrs.see(nets(&["100.64.0.0/16"])), None);
        assert_eq!(cidrs.see(both.clone()), None, "it was a slip");
        assert_eq!(cidrs.see(nets(&["10.0.0.0/16"])), None);
        let left = nets(&["10.0.0.0/16"]);
        assert_eq!(cidrs.see(left.clone()), Some(left));
    }

    #[test]
    fn one_that_comes_while_another_goes_waits_for_nothing() {
        let mut cidrs = Cidrs::new(nets(&["10.0.0.0/16"]));
        let new = nets(&["100.64.0.0/16"]);
        let both = nets(&["10.0.0.0/16", "100.64.0.0/16"]);
        assert_eq!(cidrs.see(new.clone()), Some(both));
        assert_eq!(cidrs.see(new.clone()), Some(new));
    }
}
