//! The numbers and names that the datapath is laid out by, each with its reason.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use sha2::{Digest, Sha256};

/// The routing table of pods: `unreachable` for each address or prefix that the node holds, and over it one /32 or
/// /128 per pod.
/// aws-node's tables for branch ENIs end at 100 + 4094, its tables for further network cards start at 10000.
pub const PODS_TABLE: u32 = 5120;

/// `from all lookup PODS_TABLE`: before all other rules, so that a pod on this node is always reached directly.
/// aws-node's number for its rules to pods.
pub const RULE_PODS: u32 = 512;

/// `fwmark 0x80/0x80 lookup main`: NodePort replies and what is source-translated leave by the primary ENI.
/// Before [`RULE_ENI`], because a connection's way out outranks its pod's. aws-node's number.
pub const RULE_CONNMARK: u32 = 1024;

/// `to <external service> lookup main`: what leaves by the primary ENI whichever ENI its pod is on. aws-node's number.
pub const RULE_EXTERNAL_SERVICE: u32 = 1535;

/// `fwmark <ENI>/0x7f lookup <ENI's table>`: packets of pods whose single address is on a secondary ENI; and
/// `from <prefix> lookup <ENI's table>`: of those whose address is in a prefix there.
/// aws-node's number for its rules from pods.
pub const RULE_ENI: u32 = 1536;

/// `from <the ENI's own primary address> lookup <ENI's table>`. Just before the main table's rule at 32766.
/// aws-node's number.
pub const RULE_ENI_PRIMARY: u32 = 32765;

/// The bit, in connection and packet marks, of what must leave by the primary ENI. aws-node's bit, so that
/// connections survive a change from it and back.
pub const CONNMARK: u32 = 0x80;

/// The bits of the packet mark that name a secondary ENI: clear of [`CONNMARK`], of kube-proxy's 0x4000 and
/// 0x8000, of Calico's 0xffff0000 and of Cilium's 0x0f00.
pub const ENI_MARK_MASK: u32 = 0x7f;

/// Every pod's gateway: link-local and on no link; a permanent neighbour in the pod answers for it.
pub const POD_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The same for IPv6. aws-node's number for a pod's first interface.
pub const POD_GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The VPC's router, on the link of every ENI (as aws-node has it: the VPC answers for it in every subnet).
pub const VPC_ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0xec2, 0, 0, 0, 0, 0, 1);

/// The smallest MTU with which a link has IPv6 at all, in bytes (RFC 8200, section 5).
pub const LEAST_MTU_V6: u32 = 1280;

/// The link group of all host veths of ours, so that filters need no interface names.
pub const LINK_GROUP: u32 = 5120;

/// The protocol number of every route and rule of ours (`ip route show proto 87`): "W", used by no routing
/// daemon in iproute2's rt_protos.
pub const ROUTE_PROTOCOL: u8 = 87;

/// The metric of the `unreachable` routes of held addresses: behind any route to a pod (metric 0), and the
/// number that the kernel reserves for no one.
pub const UNREACHABLE_METRIC: u32 = 4_278_198_272;

/// The kernel's main table; the primary ENI's.
pub const MAIN_TABLE: u32 = 254;

/// Where an ENI is on its instance. Each network card counts its device indexes anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The network card.
    pub card: u32,
    /// Unique on its card.
    pub device_index: u32,
}

impl Place {
    /// The primary ENI's.
    pub const PRIMARY: Self = Self::first_card(0);

    /// On card 0, where an instance with one card has all its ENIs.
    #[must_use]
    pub const fn first_card(device_index: u32) -> Self {
        Self {
            card: 0,
            device_index,
        }
    }

    /// Whether it is the primary ENI's.
    #[must_use]
    pub const fn is_primary(self) -> bool {
        self.card == 0 && self.device_index == 0
    }

    /// The table of routes of the ENI there: as in aws-node, [`MAIN_TABLE`] for the primary, `device_index + 1` on card
    /// 0, and `10000 + 100 * card + device_index` on the others.
    #[must_use]
    pub const fn table(self) -> u32 {
        match (self.card, self.device_index) {
            (0, 0) => MAIN_TABLE,
            (0, index) => index.saturating_add(1),
            (card, index) => 10_000_u32
                .saturating_add(card.saturating_mul(100))
                .saturating_add(index),
        }
    }

    /// The mark of packets that leave by the ENI there. None for the primary, as packets leave by it without; and none on
    /// further cards, as [`ENI_MARK_MASK`] has no room for them all: there each address has a rule, as a prefix has.
    #[must_use]
    pub const fn mark(self) -> Option<u32> {
        match (self.card, self.device_index) {
            (0, index @ 1..=ENI_MARK_MASK) => Some(index),
            _ => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.card {
            0 => write!(f, "device index {}", self.device_index),
            card => write!(f, "device index {} of card {card}", self.device_index),
        }
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<[u8; 6]> for Mac {
    fn from(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }
}

/// Text that is not six hexadecimal bytes with colons between them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MAC address: write six bytes, as in 02:00:5e:10:00:01")]
pub struct MacError(String);

impl std::str::FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let error = || MacError(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts
                .next()
                // `from_str_radix` takes a sign as well.
                .filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))
                .ok_or_else(error)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        match parts.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(error()),
        }
    }
}

/// The name of the host's end of a pod's link: `weir` and 11 hexadecimal digits of the SHA-256 of
/// `container_id/ifname`, 15 bytes, the most that the kernel takes. Named after the container and not the
/// pod, so that two sandboxes of one pod never meet.
///
/// With another [`VethPrefix`] it is the link's alternative name, by which the kernel finds it as well.
#[must_use]
pub fn host_veth_name(container_id: &str, ifname: &str) -> String {
    VethPrefix::default().host_veth_name(container_id, ifname)
}

/// What the names of the host's ends of pods' links begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VethPrefix(String);

impl Default for VethPrefix {
    fn default() -> Self {
        Self("weir".to_owned())
    }
}

impl VethPrefix {
    /// As [`host_veth_name`], with this before the digits.
    #[must_use]
    pub fn host_veth_name(&self, container_id: &str, ifname: &str) -> String {
        let mut name = self.0.clone();
        for byte in link_hash(container_id, ifname).iter().take(7) {
            name.push_str(&format!("{byte:02x}"));
        }
        name.truncate(15);
        name
    }

    /// The prefix itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Text that no link's name may begin with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} can't be the prefix of pods' links: write 1 to 4 letters, digits, - or _, and none of eth, lo and vlan"
)]
pub struct VethPrefixError(String);

impl std::str::FromStr for VethPrefix {
    type Err = VethPrefixError;

    /// aws-node's rule, but for the empty prefix and for characters that the kernel or filters do not take.
    fn from_str(text: &str) -> Result<Self, VethPrefixError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let right = (1..=4).contains(&text.len())
            && text.bytes().all(plain)
            && !["eth", "lo", "vlan"].contains(&text);
        match right {
            true => Ok(Self(text.to_owned())),
            false => Err(VethPrefixError(text.to_owned())),
        }
    }
}

/// The MAC addresses of the two ends of a pod's link, host's first: locally administered, from the same hash
/// as the name, so that no link needs to be listed to find free ones.
#[must_use]
pub fn link_macs(container_id: &str, ifname: &str) -> (Mac, Mac) {
    let hash = link_hash(container_id, ifname);
    let mac = |flip: u8| {
        let mut bytes = [0; 6];
        for (byte, from) in bytes.iter_mut().zip(hash.iter().skip(6)) {
            *byte = *from;
        }
        // The last bit tells the ends apart; in the first byte: unicast, locally administered.
        let [first, .., last] = &mut bytes;
        *first = (*first & 0xfc) | 0x02;
        *last = (*last & 0xfe) | flip;
        Mac(bytes)
    };
    (mac(0), mac(1))
}

fn link_hash(container_id: &str, ifname: &str) -> [u8; 32] {
    Sha256::digest(format!("{container_id}/{ifname}")).into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_and_macs_stay_what_they_were() {
        // A DEL finds the link by them, after an upgrade too.
        assert_eq!(host_veth_name("c1", "eth0"), "weird72e032fedd");
        let (host, pod) = link_macs("c1", "eth0");
        assert_eq!(host.to_string(), "4e:16:f3:12:50:b0");
        assert_eq!(pod.to_string(), "4e:16:f3:12:50:b1");
    }

    #[test]
    fn links_are_named_with_the_prefix_that_is_asked_for() {
        let name = |prefix: &str| {
            let prefix: VethPrefix = prefix.parse().unwrap();
            prefix.host_veth_name("c1", "eth0")
        };
        assert_eq!(name("weir"), host_veth_name("c1", "eth0"));
        assert_eq!(name("eni"), "enid72e032fedd9");
        assert_eq!(name("x").len(), 15);
        for wrong in ["", "veths", "eth", "lo", "vlan", "a/b", "a b", "é"] {
            assert!(wrong.parse::<VethPrefix>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn sandboxes_and_interfaces_have_links_of_their_own() {
        let name = host_veth_name("c1", "eth0");
        assert_ne!(name, host_veth_name("c2", "eth0"));
        assert_ne!(name, host_veth_name("c1", "eth1"));
        assert_eq!(name.len(), 15);
    }

    #[test]
    fn tables_are_aws_nodes_and_clear_of_the_pods_table() {
        let table = |card, device_index| Place { card, device_index }.table();
        assert_eq!((table(0, 0), table(0, 1), table(0, 14)), (254, 2, 15));
        assert_eq!(
            (table(1, 1), table(3, 2), table(31, 0)),
            (10_101, 10_302, 13_100)
        );
        assert!((0..=ENI_MARK_MASK).all(|index| table(0, index) != PODS_TABLE));
    }

    #[test]
    fn no_two_enis_of_an_instance_share_a_table_or_a_mark() {
        // More than any instance type has.
        let places =
            (0..64).flat_map(|card| (0..100).map(move |device_index| Place { card, device_index }));
        let places: Vec<Place> = places.collect();
        let tables: BTreeSet<u32> = places.iter().map(|place| place.table()).collect();
        assert_eq!(tables.len(), places.len());
        assert!(!tables.contains(&PODS_TABLE));
        let marks: Vec<u32> = places.iter().filter_map(|place| place.mark()).collect();
        let distinct: BTreeSet<&u32> = marks.iter().collect();
        assert_eq!((marks.len(), distinct.len()), (99, 99));
        assert!(marks.iter().all(|mark| mark & !ENI_MARK_MASK == 0));
    }

    #[test]
    fn marks_keep_clear_of_each_other_and_of_other_software() {
        let others = 0x4000 | 0x8000 | 0xffff_0000 | 0x0f00;
        assert_eq!((CONNMARK | ENI_MARK_MASK) & others, 0);
        assert_eq!(CONNMARK & ENI_MARK_MASK, 0);
    }

    #[test]
    fn a_mac_is_read_as_it_is_written() {
        let text = "02:00:5e:10:00:ff";
        assert_eq!(
            text.parse::<Mac>().map(|mac| mac.to_string()).as_deref(),
            Ok(text)
        );
        for bad in [
            "",
            "02:00:5e:10:00",
            "02:00:5e:10:00:ff:01",
            "+2:00:5e:10:00:ff",
            "2:0:5e:10:0:f",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
