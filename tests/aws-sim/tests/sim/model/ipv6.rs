//! Steps that assign and unassign IPv6 addresses and prefixes.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::histories::Model;
use super::steps::Step;
use super::take::taken_out;
use crate::all;

impl Model {
    pub(super) fn change_ipv6(&mut self, id: &str, step: &Step) {
        let held = &self.ledger.enis[id];
        let room = held.limit().saturating_sub(held.ipv6_slots());
        let (addresses, prefixes) = self.ledger.used_ipv6();
        let prefix = |block| Ipv6Net::new(self.ipv6(block, 0), 80).unwrap();
        match *step {
            Step::Assign6 { count, .. } | Step::Assign6Prefixes { count, .. } => {
                let (what, set) = match step {
                    Step::Assign6 { .. } => ("Ipv6AddressCount", "assignedIpv6Addresses"),
                    _ => ("Ipv6PrefixCount", "assignedIpv6PrefixSet"),
                };
                let text = count.to_string();
                let body = self.on("AssignIpv6Addresses", id, (what, &text), count <= room);
                let Some(body) = body else { return };
                let new = all(body.split(&format!("{set}>")).nth(1).unwrap(), "item");
                assert_eq!(new.len(), count);
                match step {
                    Step::Assign6 { .. } => self.held(id).ipv6.extend(new),
                    _ => self.held(id).ipv6_prefixes.extend(new),
                }
            }
            Step::Assign6This { block, host, .. } => {
                // The last address of the subnet is EC2's own too.
                let address = match (block, host) {
                    (0xffff, 6) => {
                        Ipv6Addr::from(u128::from(self.ipv6(0, 0)) | u128::from(u64::MAX))
                    }
                    _ => self.ipv6(block, host),
                };
                let own = block == 0 && host < 4 || (block, host) == (0xffff, 6);
                let fits = room > 0
                    && !own
                    && !addresses.contains(&address)
                    && !prefixes.contains(&prefix(block));
                let text = address.to_string();
                self.on("AssignIpv6Addresses", id, ("Ipv6Addresses.1", &text), fits);
                self.held(id).ipv6.extend(fits.then_some(text));
            }
            Step::Assign6Prefix { block, .. } => {
                let asked = prefix(block);
                let spoilt = addresses.iter().any(|address| asked.contains(address));
                let fits = room > 0
                    && !matches!(block, 0 | 0xffff)
                    && !spoilt
                    && !prefixes.contains(&asked);
                let text = asked.to_string();
                self.on("AssignIpv6Addresses", id, ("Ipv6Prefix.1", &text), fits);
                self.held(id).ipv6_prefixes.extend(fits.then_some(text));
            }
            Step::Unassign6 { which, .. } => {
                let nobodys = self.ipv6(0, 1).to_string();
                let gone = taken_out(&mut self.held(id).ipv6, which);
                let asked = gone.clone().unwrap_or(nobodys);
                self.on(
                    "UnassignIpv6Addresses",
                    id,
                    ("Ipv6Addresses.1", &asked),
                    gone.is_some(),
                );
            }
            Step::Unassign6Prefix { which, .. } => {
                let nobodys = prefix(0).to_string();
                let gone = taken_out(&mut self.held(id).ipv6_prefixes, which);
                let asked = gone.clone().unwrap_or(nobodys);
                self.on(
                    "UnassignIpv6Addresses",
                    id,
                    ("Ipv6Prefix.1", &asked),
                    gone.is_some(),
                );
            }
            _ => {}
        }
    }
}
