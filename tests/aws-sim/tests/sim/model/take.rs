//! One step of a history: what is asked, whether EC2 does it, and what is learnt from the reply.

use super::assert_unchanged;
use super::histories::Model;
use super::ledger::{Held, Reserved, block, host};
use super::steps::Step;
use crate::{all, first};

impl Model {
    /// Asks, and finds that EC2 did it or not as it should; a refused call changed nothing.
    pub(super) fn expect(
        &mut self,
        action: &str,
        params: &[(&str, &str)],
        fits: bool,
    ) -> Option<String> {
        let body = self.ask(action, params);
        assert_eq!(body.is_ok(), fits, "{action} {params:?}: {body:?}");
        body.ok()
    }

    /// Asks; the body of a success or of an error, which changed nothing.
    pub(super) fn ask(&mut self, action: &str, params: &[(&str, &str)]) -> Result<String, String> {
        let now = self.setup.now;
        self.setup.world.advance(now);
        let before = self.setup.world.clone();
        let response = self.setup.call(action, params);
        if response.error.is_none() {
            return Ok(response.body);
        }
        assert_unchanged(&before, &self.setup.world, &format!("{action} {params:?}"));
        Err(response.body)
    }

    pub(super) fn on(
        &mut self,
        action: &str,
        eni: &str,
        what: (&str, &str),
        fits: bool,
    ) -> Option<String> {
        self.expect(action, &[("NetworkInterfaceId", eni), what], fits)
    }

    pub(super) fn held(&mut self, eni: &str) -> &mut Held {
        self.ledger.enis.get_mut(eni).unwrap()
    }

    pub(super) fn take(&mut self, step: &Step) {
        match *step {
            Step::Create { .. } | Step::CreateWithPrefixes { .. } => self.create(step),
            Step::Reserve { part } => self.reserve(part),
            Step::Unreserve { which } => {
                let Some(id) = self.ledger.reservations.keys().nth(which).cloned() else {
                    return;
                };
                let id = id.as_str();
                self.expect(
                    "DeleteSubnetCidrReservation",
                    &[("SubnetCidrReservationId", id)],
                    true,
                );
                self.ledger.reservations.remove(id);
            }
            Step::Run { nics, ask, stay } => self.run(nics, ask, stay),
            Step::Terminate { instance } => {
                let Some(id) = self.instances.keys().nth(instance).cloned() else {
                    return;
                };
                self.expect("TerminateInstances", &[("InstanceId.1", &id)], true);
                self.terminate(&id);
            }
            Step::Pass { millis } => self.setup.pass(std::time::Duration::from_millis(millis)),
            Step::Assign { eni, .. }
            | Step::AssignThis { eni, .. }
            | Step::AssignPrefixes { eni, .. }
            | Step::AssignPrefix { eni, .. }
            | Step::Unassign { eni, .. }
            | Step::UnassignPrefix { eni, .. } => self.with_eni(eni, step, Model::change),
            Step::Assign6 { eni, .. }
            | Step::Assign6This { eni, .. }
            | Step::Assign6Prefixes { eni, .. }
            | Step::Assign6Prefix { eni, .. }
            | Step::Unassign6 { eni, .. }
            | Step::Unassign6Prefix { eni, .. } => self.with_eni(eni, step, Model::change_ipv6),
            Step::Attach { eni, .. } | Step::Detach { eni } | Step::Delete { eni } => {
                self.with_eni(eni, step, Model::place);
            }
        }
    }

    fn with_eni(&mut self, nth: usize, step: &Step, take: fn(&mut Model, &str, &Step)) {
        if let Some(id) = self.ledger.enis.keys().nth(nth).cloned() {
            take(self, &id, step);
        }
    }

    fn create(&mut self, step: &Step) {
        let subnet = self.setup.subnet.to_string();
        let (what, count, ipv6) = match *step {
            Step::Create { addresses, ipv6 } => ("SecondaryPrivateIpAddressCount", addresses, ipv6),
            Step::CreateWithPrefixes { prefixes, ipv6 } => ("Ipv4PrefixCount", prefixes, ipv6),
            _ => return,
        };
        let (count_text, ipv6_text) = (count.to_string(), ipv6.to_string());
        let mut params = vec![
            ("SubnetId", subnet.as_str()),
            ("Ipv6AddressCount", &ipv6_text),
        ];
        if count > 0 {
            params.push((what, &count_text));
        }
        let (reserved, others) = self.ledger.free_blocks();
        let (open, blocks) = (self.ledger.open().len(), reserved.len() + others.len());
        let body = self.ask("CreateNetworkInterface", &params);
        match (&body, what) {
            (_, "SecondaryPrivateIpAddressCount") => {
                assert_eq!(body.is_ok(), count < open, "{body:?}");
            }
            (Ok(_), _) => assert!(open > 0 && blocks >= count),
            // Which block the primary address spoils is EC2's choice.
            (Err(_), _) => assert!(open == 0 || blocks <= count, "{body:?}"),
        }
        if let Ok(body) = body {
            let held = Held::read(&body);
            assert_eq!(held.ipv6.len(), ipv6);
            self.learn(&first(&body, "networkInterfaceId"), held);
        }
    }

    /// A new ENI. EC2 chose its addresses.
    pub(super) fn learn(&mut self, id: &str, held: Held) {
        let open = self.ledger.open();
        for address in held.addresses() {
            assert!(
                open.contains(&host(&address)),
                "{address} was not to be had"
            );
        }
        self.check_chosen_blocks(&held.prefixes, &held.addresses());
        self.ledger.enis.insert(id.to_owned(), held);
    }

    /// Prefixes come from reservations while these have any. `spoilt` was given out before them.
    fn check_chosen_blocks(&self, prefixes: &[String], spoilt: &[String]) {
        let (reserved, others) = self.ledger.free_blocks();
        let chosen: Vec<u8> = prefixes.iter().map(|prefix| block(prefix)).collect();
        let from_reserved = chosen.iter().filter(|first| reserved.contains(first));
        assert_eq!(
            from_reserved.count(),
            chosen.len().min(reserved.len()),
            "{chosen:?}"
        );
        for first in chosen {
            assert!(
                reserved.contains(&first) || others.contains(&first),
                "{first}"
            );
            let mut spoilt = spoilt.iter().map(|address| host(address));
            assert!(!spoilt.any(|host| host / 16 == first / 16), "{first}");
        }
    }

    fn change(&mut self, id: &str, step: &Step) {
        let (room, free_blocks) = (self.room(id), self.ledger.free_blocks());
        match *step {
            Step::Assign { count, .. } => {
                let open = self.ledger.open();
                let fits = count <= room && count <= open.len();
                let what = ("SecondaryPrivateIpAddressCount", count.to_string());
                let body = self.on("AssignPrivateIpAddresses", id, (what.0, &what.1), fits);
                let new = body.map_or(Vec::new(), |body| all(&body, "privateIpAddress"));
                assert_eq!(new.len(), if fits { count } else { 0 });
                assert!(
                    new.iter().all(|address| open.contains(&host(address))),
                    "{new:?}"
                );
                self.held(id).secondary.extend(new);
            }
            Step::AssignThis { host, may_move, .. } => {
                let address = format!("10.0.7.{host}");
                let has = self.held(id).secondary.contains(&address);
                let mut enis = self.ledger.enis.iter();
                let holder = enis.find(|(_, held)| held.secondary.contains(&address));
                let holder = holder.map(|(holder, _)| holder.clone());
                let free = (4..63).contains(&host) && !self.ledger.used().contains(&host);
                // What it has already is answered as if it were new.
                let fits = has || room > 0 && (free || may_move && holder.is_some());
                let may_move = may_move.to_string();
                let params = [
                    ("NetworkInterfaceId", id),
                    ("PrivateIpAddress.1", &address),
                    ("AllowReassignment", &may_move),
                ];
                self.expect("AssignPrivateIpAddresses", &params, fits);
                if fits && !has {
                    if let Some(from) = holder {
                        self.held(&from).secondary.retain(|held| *held != address);
                    }
                    self.held(id).secondary.push(address);
                }
            }
            Step::AssignPrefixes { count, .. } => {
                let fits = count <= room && count <= free_blocks.0.len() + free_blocks.1.len();
                let what = ("Ipv4PrefixCount", count.to_string());
                let body = self.on("AssignPrivateIpAddresses", id, (what.0, &what.1), fits);
                let new = body.map_or(Vec::new(), |body| all(&body, "ipv4Prefix"));
                assert_eq!(new.len(), if fits { count } else { 0 });
                if fits {
                    self.check_chosen_blocks(&new, &[]);
                }
                self.held(id).prefixes.extend(new);
            }
            Step::AssignPrefix { first, .. } => {
                let used = self.ledger.used();
                let fits = room > 0
                    && matches!(first, 16 | 32)
                    && (first..first + 16).all(|host| !used.contains(&host));
                let prefix = format!("10.0.7.{first}/28");
                self.on(
                    "AssignPrivateIpAddresses",
                    id,
                    ("Ipv4Prefix.1", &prefix),
                    fits,
                );
                self.held(id).prefixes.extend(fits.then_some(prefix));
            }
            Step::Unassign { which, .. } => {
                let gone = taken_out(&mut self.held(id).secondary, which);
                let asked = gone.clone().unwrap_or("10.0.7.1".to_owned());
                self.on(
                    "UnassignPrivateIpAddresses",
                    id,
                    ("PrivateIpAddress.1", &asked),
                    gone.is_some(),
                );
            }
            Step::UnassignPrefix { which, .. } => {
                let gone = taken_out(&mut self.held(id).prefixes, which);
                let asked = gone.clone().unwrap_or("10.0.7.0/28".to_owned());
                self.on(
                    "UnassignPrivateIpAddresses",
                    id,
                    ("Ipv4Prefix.1", &asked),
                    gone.is_some(),
                );
            }
            _ => {}
        }
    }

    fn reserve(&mut self, part: Reserved) {
        let subnet = self.setup.subnet.to_string();
        let bits = 32 - part.size.trailing_zeros();
        let cidr = format!("10.0.7.{}/{bits}", part.first & !(part.size - 1));
        let part = Reserved {
            first: part.first & !(part.size - 1),
            ..part
        };
        let last = part.first + part.size - 1;
        let mut known = self.ledger.reservations.values();
        let fits = !known.any(|other| {
            part.contains(other.first) || other.contains(part.first) || other.contains(last)
        });
        let kind = if part.for_prefixes {
            "prefix"
        } else {
            "explicit"
        };
        let params = [
            ("SubnetId", subnet.as_str()),
            ("Cidr", &cidr),
            ("ReservationType", kind),
        ];
        if let Some(body) = self.expect("CreateSubnetCidrReservation", &params, fits) {
            let id = first(&body, "subnetCidrReservationId");
            self.ledger.reservations.insert(id, part);
        }
    }

    fn room(&self, eni: &str) -> usize {
        let held = &self.ledger.enis[eni];
        held.limit().saturating_sub(held.slots())
    }
}

pub(super) fn taken_out(held: &mut Vec<String>, which: usize) -> Option<String> {
    (which < held.len()).then(|| held.remove(which))
}
