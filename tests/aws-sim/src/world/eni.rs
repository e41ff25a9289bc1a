//! ENIs: what they are, and the few ways in which they change. Each keeps history, pools and indexes right.

mod spec;

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

pub use self::spec::{Ask, ConnectionTracking, EnaSrd, EniKind, EniSpec};
use super::{Tags, Transition, World};
use crate::error::{Ec2Error, Result};
use crate::history::History;
use crate::ids::{AttachmentId, EniId, GroupId, InstanceId, SubnetId, VpcId};
use crate::time::SimTime;

/// An ENI.
#[derive(Clone, Debug)]
pub struct Eni {
    /// `eni-...`
    pub id: EniId,
    /// The subnet it is in, and with that the zone.
    pub subnet: SubnetId,
    /// The VPC it is in.
    pub vpc: VpcId,
    /// Its availability zone.
    pub az: String,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// What its maker wrote.
    pub description: String,
    /// What it is for.
    pub kind: EniKind,
    /// For how long idle connections are remembered, where its maker said so.
    pub connection_tracking: ConnectionTracking,
    /// Whether EC2 is still making it.
    pub pending: bool,
    /// The address that can't be taken away; an ENI that is only an Elastic Fabric Adapter has none.
    pub primary: Option<Ipv4Addr>,
    /// Other single addresses, in the order they came.
    pub secondary: Vec<Ipv4Addr>,
    /// Delegated /28s, in the order they came.
    pub prefixes: Vec<Ipv4Net>,
    /// IPv6 addresses, in the order they came.
    pub ipv6: Vec<Ipv6Addr>,
    /// Delegated /80s, in the order they came.
    pub ipv6_prefixes: Vec<Ipv6Net>,
    /// The IPv6 address that can't be taken away, once there is one.
    pub primary_ipv6: Option<Ipv6Addr>,
    /// Its security groups; at least one.
    pub groups: Vec<GroupId>,
    /// What it is attached to.
    pub attachment: Option<Attachment>,
    /// The trunk that it is a branch of.
    pub trunk: Option<EniId>,
    /// When it was made, or last came off an instance.
    pub idle_since: SimTime,
    /// Whether what it sends and gets must be from and to an address of its own.
    pub source_dest_check: bool,
    /// The public address that maps to the primary one.
    pub public_address: Option<Ipv4Addr>,
    /// Whether it is to get a public address when its instance starts.
    pub associate_public_address: bool,
    /// Its ENA Express, while it is attached.
    pub ena_srd: Option<EnaSrd>,
    /// Tags.
    pub tags: Tags,
}

impl Eni {
    /// All single addresses, the primary first.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        self.primary
            .into_iter()
            .chain(self.secondary.iter().copied())
    }

    /// How many of the type's IPv4 slots it takes: one for each address and one for each prefix.
    #[must_use]
    pub fn slots(&self) -> usize {
        usize::from(self.primary.is_some()) + self.secondary.len() + self.prefixes.len()
    }

    /// How many of the type's IPv6 slots it takes.
    #[must_use]
    pub fn ipv6_slots(&self) -> usize {
        self.ipv6.len() + self.ipv6_prefixes.len()
    }

    /// Whether it has this address, alone or in a prefix.
    #[must_use]
    pub fn holds(&self, address: Ipv4Addr) -> bool {
        self.addresses().any(|held| held == address)
            || self.prefixes.iter().any(|prefix| prefix.contains(&address))
    }

    /// EC2's `status`.
    #[must_use]
    pub fn status(&self) -> &'static str {
        if self.attachment.is_some() || self.trunk.is_some() {
            "in-use"
        } else if self.pending {
            "pending"
        } else {
            "available"
        }
    }

    /// The MAC address as EC2 and IMDS write it.
    #[must_use]
    pub fn mac_text(&self) -> String {
        let [a, b, c, d, e, f] = self.mac;
        format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }

    /// The name that the VPC's DNS has for its primary address.
    #[must_use]
    pub fn private_dns_name(&self, region: &str) -> Option<String> {
        Some(Eni::dns_name(self.primary?, region))
    }

    /// The name that the VPC's DNS has for an address.
    #[must_use]
    pub fn dns_name(address: Ipv4Addr, region: &str) -> String {
        let [a, b, c, d] = address.octets();
        if region == "us-east-1" {
            format!("ip-{a}-{b}-{c}-{d}.ec2.internal")
        } else {
            format!("ip-{a}-{b}-{c}-{d}.{region}.compute.internal")
        }
    }
}

/// An ENI on an instance.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// `eni-attach-...`
    pub id: AttachmentId,
    /// The instance.
    pub instance: InstanceId,
    /// Unique on its network card.
    pub device_index: u32,
    /// The network card.
    pub card: u32,
    /// How far it is.
    pub status: AttachmentStatus,
    /// When attaching began.
    pub since: SimTime,
    /// Whether the ENI goes with the instance.
    pub delete_on_termination: bool,
}

/// How far an attachment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachmentStatus {
    /// Asked for.
    Attaching,
    /// There.
    Attached,
    /// Asked to go.
    Detaching,
}

impl AttachmentStatus {
    /// EC2's name for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            AttachmentStatus::Attaching => "attaching",
            AttachmentStatus::Attached => "attached",
            AttachmentStatus::Detaching => "detaching",
        }
    }
}

impl World {
    /// An ENI with its addresses taken from the subnet, not yet in the world. All or nothing.
    pub(crate) fn new_eni(&mut self, spec: EniSpec) -> Result<Eni> {
        let place = self
            .subnets
            .get(&spec.subnet)
            .ok_or_else(|| Ec2Error::no_such_subnet(&spec.subnet))?;
        let (vpc, az) = (place.vpc.clone(), place.az.clone());
        let gives_ipv6 = place.attributes.assign_ipv6_on_creation && spec.kind != EniKind::EfaOnly;
        self.check_eni_quota(&vpc, 0)?;
        let groups = self.groups_for(&vpc, spec.groups)?;
        let primary = match spec.primary {
            _ if spec.kind == EniKind::EfaOnly => None,
            Some(address) => Some(self.take_address(&spec.subnet, address)?),
            None => self.take_addresses(&spec.subnet, 1)?.first().copied(),
        };
        let (secondary, prefixes) = match self.take(&spec.subnet, spec.ipv4) {
            Ok(taken) => taken,
            Err(error) => {
                self.give_back(&spec.subnet, primary.as_slice(), &[]);
                return Err(error);
            }
        };
        let ipv6 = if gives_ipv6 && spec.ipv6 == Ask::default() {
            Ask::AddressCount(1)
        } else {
            spec.ipv6
        };
        let (ipv6, ipv6_prefixes) = match self.take_ipv6(&spec.subnet, ipv6) {
            Ok(taken) => taken,
            Err(error) => {
                let addresses: Vec<Ipv4Addr> = primary.into_iter().chain(secondary).collect();
                self.give_back(&spec.subnet, &addresses, &prefixes);
                return Err(error);
            }
        };
        let [_, _, _, a, b, c, d, e] = self.dice.roll().to_be_bytes();
        Ok(Eni {
            id: EniId::new(&mut self.dice),
            subnet: spec.subnet,
            vpc,
            az,
            // Locally administered, as EC2's are.
            mac: [0x02, a, b, c, d, e],
            description: spec.description,
            kind: spec.kind,
            connection_tracking: spec.connection_tracking,
            pending: true,
            primary,
            secondary,
            prefixes,
            primary_ipv6: ipv6.first().copied().filter(|_| spec.primary_ipv6),
            ipv6,
            ipv6_prefixes,
            groups,
            attachment: None,
            trunk: None,
            idle_since: self.now,
            source_dest_check: true,
            public_address: None,
            associate_public_address: false,
            ena_srd: None,
            tags: spec.tags,
        })
    }

    /// Whether the account of this VPC may have another ENI, besides so many that are not in the world yet.
    pub(crate) fn check_eni_quota(&self, vpc: &VpcId, not_in_yet: usize) -> Result<()> {
        let count = self.eni_counts.get(self.owner(vpc)).copied();
        if count.unwrap_or(0) + not_in_yet < self.config.eni_quota {
            return Ok(());
        }
        Err(Ec2Error::client(
            "NetworkInterfaceLimitExceeded",
            "The maximum number of network interfaces has been reached.",
        ))
    }

    /// Puts a new ENI into the world.
    pub(crate) fn insert_eni(&mut self, now: SimTime, eni: Eni) {
        if eni.pending {
            let at = now.plus(self.config.latencies.create);
            self.schedule(at, Transition::Available(eni.id.clone()));
        }
        self.index(&eni.id, &Held::default(), &Held::of(&eni));
        let owner = self.owner(&eni.vpc).to_owned();
        *self.eni_counts.entry(owner).or_default() += 1;
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
        let eni = history
            .and_then(|history| history.change(now, keep_from))
            .ok_or_else(|| Ec2Error::no_such_eni(id))?;
        let before = Held::of(eni);
        let result = change(eni);
        let after = Held::of(eni);
        self.index(id, &before, &after);
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
        self.index(id, &Held::of(&eni), &Held::default());
        let addresses: Vec<Ipv4Addr> = eni.addresses().collect();
        self.give_back(&eni.subnet, &addresses, &eni.prefixes);
        self.give_back_ipv6(&eni.subnet, &eni.ipv6, &eni.ipv6_prefixes);
        self.forget_trunk(&eni);
        self.forget_permissions(id);
        let owner = self.owner(&eni.vpc).to_owned();
        if let Some(count) = self.eni_counts.get_mut(&owner) {
            *count -= 1;
        }
        self.graves.push_back(id.clone());
        self.clear_graves();
        self.touch();
    }

    /// Takes an ENI off its instance, at once.
    pub(crate) fn release_eni(&mut self, id: &EniId) {
        let now = self.now;
        drop(self.change_eni(id, |eni| {
            eni.attachment = None;
            eni.idle_since = now;
            eni.ena_srd = None;
            eni.primary_ipv6 = None;
        }));
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

    /// Keeps the indexes right: who holds an address, whose an attachment is, and what an instance has.
    fn index(&mut self, id: &EniId, before: &Held, after: &Held) {
        if before == after {
            return;
        }
        if let Some(subnet) = before.subnet.as_ref().or(after.subnet.as_ref())
            && let Some(subnet) = self.subnets.get_mut(subnet)
        {
            let gone = before.firsts.iter();
            for first in gone.filter(|first| !after.firsts.contains(first)) {
                if subnet.holders.get(first) == Some(id) {
                    subnet.holders.remove(first);
                }
            }
            let new = after.firsts.iter();
            let new = new.filter(|first| !before.firsts.contains(first));
            subnet.holders.extend(new.map(|first| (*first, id.clone())));
        }
        if before.attachment != after.attachment {
            if let Some((attachment, instance)) = &before.attachment {
                self.attachments.remove(attachment);
                drop(self.change_instance(instance, |instance| instance.enis.remove(id)));
            }
            if let Some((attachment, instance)) = &after.attachment {
                self.attachments.insert(attachment.clone(), id.clone());
                drop(self.change_instance(instance, |instance| instance.enis.insert(id.clone())));
            }
        }
    }

    /// The ENI of this subnet that has this address, alone or in a prefix.
    #[must_use]
    pub fn holder(&self, subnet: &SubnetId, address: Ipv4Addr) -> Option<&Eni> {
        let holders = &self.subnet(subnet)?.holders;
        let block = Ipv4Addr::from(u32::from(address) & !0xf);
        [address, block]
            .iter()
            .filter_map(|first| self.eni(holders.get(first)?))
            .find(|eni| eni.holds(address))
    }

    pub(super) fn is_at(
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

/// What of an ENI is in an index.
#[derive(Default, PartialEq, Eq)]
struct Held {
    subnet: Option<SubnetId>,
    /// Single addresses, and the first address of each prefix.
    firsts: Vec<Ipv4Addr>,
    attachment: Option<(AttachmentId, InstanceId)>,
}

impl Held {
    fn of(eni: &Eni) -> Held {
        let blocks = eni.prefixes.iter().map(Ipv4Net::network);
        let attachment = eni.attachment.as_ref();
        Held {
            subnet: Some(eni.subnet.clone()),
            firsts: eni.addresses().chain(blocks).collect(),
            attachment: attachment.map(|a| (a.id.clone(), a.instance.clone())),
        }
    }
}
