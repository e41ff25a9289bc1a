//! The node's part in [egress](crate::pod::egress): it forwards, and translates.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::{Host, HostError, ipv6};
use crate::layout::Mac;
use crate::nft::{self, Change};
use crate::pod::egress::Egress;

/// What pods without the family are translated to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EgressPlan {
    /// The primary ENI's own IPv4 address, for pods with IPv6 alone.
    V4(Ipv4Addr),
    /// The primary ENI's own IPv6 address, for pods with IPv4 alone.
    V6 {
        /// The address.
        address: Ipv6Addr,
        /// The MAC of the primary ENI, whose link must keep its way out when the node forwards IPv6.
        primary_mac: Mac,
    },
}

impl EgressPlan {
    /// The family that pods reach by it.
    #[must_use]
    pub const fn egress(self) -> Egress {
        match self {
            Self::V4(_) => Egress::V4,
            Self::V6 { .. } => Egress::V6,
        }
    }
}

impl Host {
    /// Lets pods reach the family that they have no address in, or no longer: one nftables table of that family, with
    /// as many rules for one pod as for all. What is right already is left alone. After [`Host::prepare`].
    ///
    /// # Errors
    /// When the primary ENI is not there, or the kernel refuses a step.
    pub async fn prepare_egress(&self, plan: Option<EgressPlan>) -> Result<(), HostError> {
        if let Some(EgressPlan::V6 { primary_mac, .. }) = plan {
            let primary = self.find_link(primary_mac, Duration::ZERO).await?;
            for setting in ipv6::forwarding(&primary.name) {
                setting.apply()?;
            }
        }
        for change in self.compare_egress(plan).await? {
            self.nft.carry_out(change).await?;
        }
        Ok(())
    }

    /// What makes the tables of both families what they should be.
    pub(super) async fn compare_egress(
        &self,
        plan: Option<EgressPlan>,
    ) -> Result<Vec<Change>, HostError> {
        let (mut v4, mut v6) = (None, None);
        match plan {
            Some(EgressPlan::V4(address)) => v4 = Some(address.into()),
            Some(EgressPlan::V6 { address, .. }) => v6 = Some(address.into()),
            None => {}
        }
        let mut changes = Vec::new();
        for (egress, source) in [(Egress::V4, v4), (Egress::V6, v6)] {
            let netlink = self.nft.netlink();
            changes.extend(nft::egress::compare(netlink, egress.range(), source).await?);
        }
        Ok(changes)
    }
}
