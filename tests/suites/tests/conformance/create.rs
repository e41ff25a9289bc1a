//! CreateNetworkInterface.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_ec2::operation::create_network_interface::builders::CreateNetworkInterfaceFluentBuilder as Create;
use aws_sdk_ec2::types::{
    Ipv4PrefixSpecificationRequest, NetworkInterface, NetworkInterfaceCreationType, ResourceType,
};

use crate::check::{Check, MustFail as _, Need as _, Outcome, check, holds, same};
use crate::ec2::{Ec2, addresses, last_octet, prefixes, tag, tagged};

pub(crate) const NO_ADDRESSES: &str =
    "The specified subnet does not have enough free addresses to satisfy the request.";
pub(crate) const NO_BLOCKS: &str =
    "The specified subnet does not have enough free cidr blocks to satisfy the request.";

/// A new ENI, as CreateNetworkInterface answers it.
pub(crate) async fn made(asked: Create) -> Outcome<NetworkInterface> {
    asked
        .send()
        .await?
        .network_interface
        .need("networkInterface")
}

pub(crate) fn create(ec2: &Ec2, subnet: &str) -> Create {
    ec2.sdk.create_network_interface().subnet_id(subnet)
}

/// The ENI is of this type, also when described.
macro_rules! interface_type {
    ($row:literal, $kind:ident, $name:literal, $source:literal) => {
        check!(
            $row,
            concat!("An interface made as ", $name, " is one."),
            $source,
            |ec2| {
                let place = ec2.place().await?;
                let asked =
                    create(ec2, &place.subnet).interface_type(NetworkInterfaceCreationType::$kind);
                let eni = made(asked).await?;
                same(
                    "type",
                    eni.interface_type().map(|kind| kind.as_str()),
                    Some($name),
                )?;
                let id = eni.network_interface_id().need("networkInterfaceId")?;
                let described = ec2.described(id).await?;
                same(
                    "described",
                    described.interface_type().map(|kind| kind.as_str()),
                    Some($name),
                )?;
            }
        )
    };
}

pub(crate) fn table() -> Vec<Check> {
    let mut all = answers();
    all.extend(addressing());
    all
}

fn answers() -> Vec<Check> {
    vec![
        check!(
            "CreateNetworkInterface.status at creation",
            "A new ENI is pending, and available later.",
            "D API_NetworkInterface Status; R that the answer says pending",
            |ec2| {
                let place = ec2.place().await?;
                ec2.takes(Duration::from_secs(2));
                let eni = made(create(ec2, &place.subnet)).await?;
                same(
                    "status",
                    eni.status().map(|status| status.as_str()),
                    Some("pending"),
                )?;
                ec2.eni_is(eni.network_interface_id().need("id")?, "available")
                    .await?;
            }
        ),
        check!(
            "CreateNetworkInterface.SecondaryPrivateIpAddressCount=3",
            "Three secondary addresses make four.",
            "D API_CreateNetworkInterface",
            |ec2| {
                let place = ec2.place().await?;
                let eni =
                    made(create(ec2, &place.subnet).secondary_private_ip_address_count(3)).await?;
                same("addresses", addresses(&eni).len(), 4)?;
            }
        ),
        check!(
            "CreateNetworkInterface.Primary flag",
            "One address is primary: the first, which the ENI shows as its own.",
            "M NetworkInterfacePrivateIpAddress",
            |ec2| {
                let place = ec2.place().await?;
                let eni =
                    made(create(ec2, &place.subnet).secondary_private_ip_address_count(3)).await?;
                let flags: Vec<_> = eni
                    .private_ip_addresses()
                    .iter()
                    .map(|a| a.primary() == Some(true))
                    .collect();
                same("primary", flags, [true, false, false, false])?;
                same(
                    "the first",
                    addresses(&eni).first().map(String::as_str),
                    eni.private_ip_address(),
                )?;
            }
        ),
        check!(
            "CreateNetworkInterface.Groups",
            "It has the groups that were asked for, by id and name.",
            "M SecurityGroupId.N",
            |ec2| {
                let place = ec2.place().await?;
                let group = ec2.group(&place.vpc, "g1").await?;
                let eni = made(create(ec2, &place.subnet).groups(&group)).await?;
                let groups: Vec<_> = eni
                    .groups()
                    .iter()
                    .map(|g| (g.group_id(), g.group_name()))
                    .collect();
                same("groups", groups, [(Some(group.as_str()), Some("g1"))])?;
            }
        ),
        check!(
            "CreateNetworkInterface.TagSet",
            "Tags are on it from the start.",
            "D API_CreateNetworkInterface TagSpecification",
            |ec2| {
                let place = ec2.place().await?;
                let tags = tagged(
                    ResourceType::NetworkInterface,
                    "node.k8s.amazonaws.com/instance_id",
                    "i-1",
                );
                let eni = made(create(ec2, &place.subnet).tag_specifications(tags)).await?;
                same(
                    "tags",
                    eni.tag_set(),
                    [tag("node.k8s.amazonaws.com/instance_id", "i-1")],
                )?;
            }
        ),
        check!(
            "CreateNetworkInterface.fields",
            "It answers subnet, VPC, zone, MAC, owner, the source check, type and the default group.",
            "M NetworkInterface",
            |ec2| {
                let place = ec2.place().await?;
                let eni = made(create(ec2, &place.subnet).description("d")).await?;
                same("subnet", eni.subnet_id(), Some(place.subnet.as_str()))?;
                same("VPC", eni.vpc_id(), Some(place.vpc.as_str()))?;
                same("zone", eni.availability_zone(), Some("us-east-1a"))?;
                same("description", eni.description(), Some("d"))?;
                same("owner", eni.owner_id().map(str::len), Some(12))?;
                same("requesterManaged", eni.requester_managed(), Some(false))?;
                same("sourceDestCheck", eni.source_dest_check(), Some(true))?;
                same(
                    "type",
                    eni.interface_type().map(|kind| kind.as_str()),
                    Some("interface"),
                )?;
                same(
                    "groups",
                    eni.groups().first().and_then(|group| group.group_name()),
                    Some("default"),
                )?;
                holds(eni.attachment().is_none(), "it has an attachment")?;
                let mac = eni.mac_address().need("macAddress")?;
                let octets: Option<Vec<u8>> = mac
                    .split(':')
                    .map(|octet| u8::from_str_radix(octet, 16).ok())
                    .collect();
                let octets = octets.filter(|octets| octets.len() == 6);
                holds(
                    octets.is_some_and(|octets| octets[0] & 1 == 0),
                    format!("MAC {mac}"),
                )?;
            }
        ),
        check!(
            "CreateNetworkInterface.subnet free -4",
            "An ENI with three secondary addresses takes four of its subnet.",
            "D API_Subnet AvailableIpAddressCount",
            |ec2| {
                let place = ec2.place().await?;
                made(create(ec2, &place.subnet).secondary_private_ip_address_count(3)).await?;
                same("free", ec2.free(&place.subnet).await?, 247)?;
            }
        ),
        interface_type!(
            "CreateNetworkInterface.InterfaceType=trunk",
            Trunk,
            "trunk",
            "D API_CreateNetworkInterface; M NetworkInterfaceCreationType"
        ),
        interface_type!(
            "CreateNetworkInterface.InterfaceType=branch",
            Branch,
            "branch",
            "D API_CreateNetworkInterface; M NetworkInterfaceCreationType"
        ),
        interface_type!(
            "CreateNetworkInterface.InterfaceType=efa",
            Efa,
            "efa",
            "D API_CreateNetworkInterface"
        ),
        interface_type!(
            "CreateNetworkInterface.InterfaceType=efa-only",
            EfaOnly,
            "efa-only",
            "D API_CreateNetworkInterface"
        ),
        check!(
            "CreateNetworkInterface.ClientToken idempotent",
            "The same token again answers the same ENI, and makes no other.",
            "D Ensuring idempotency",
            |ec2| {
                let place = ec2.place().await?;
                let one = made(create(ec2, &place.subnet).client_token("once")).await?;
                let two = made(create(ec2, &place.subnet).client_token("once")).await?;
                let one_and_the_same = two.network_interface_id() == one.network_interface_id();
                holds(one_and_the_same, "makes a second one")?;
                same("free", ec2.free(&place.subnet).await?, 250)?;
            }
        ),
    ]
}

fn addressing() -> Vec<Check> {
    vec![
        check!(
            "CreateNetworkInterface.avoids 5 reserved addrs (45x5 auto-assigned)",
            "The first four addresses and the last of a subnet are never given.",
            "D Subnet CIDR blocks",
            |ec2| {
                let place = ec2.place().await?;
                let mut reserved = Vec::new();
                for _ in 0..45 {
                    let eni =
                        made(create(ec2, &place.subnet).secondary_private_ip_address_count(4))
                            .await?;
                    for address in addresses(&eni) {
                        if matches!(last_octet(&address)?, 0..=3 | 255) {
                            reserved.push(address);
                        }
                    }
                }
                holds(reserved.is_empty(), "gives addresses that EC2 keeps")?;
            }
        ),
        check!(
            "CreateNetworkInterface.uniqueness (40x5 live)",
            "No address is on two ENIs.",
            "D Elastic network interfaces",
            |ec2| {
                let place = ec2.place().await?;
                let mut seen = BTreeSet::new();
                let mut twice = 0;
                for _ in 0..40 {
                    let eni =
                        made(create(ec2, &place.subnet).secondary_private_ip_address_count(4))
                            .await?;
                    twice += addresses(&eni)
                        .into_iter()
                        .filter(|address| !seen.insert(address.clone()))
                        .count();
                }
                holds(twice == 0, "gives an address twice")?;
            }
        ),
        check!(
            "CreateNetworkInterface.over-subnet",
            "More than the subnet has is refused, and nothing is taken.",
            "I aws/amazon-vpc-cni-k8s#1773",
            |ec2| {
                let place = ec2.place_of("10.0.1.0/28").await?;
                let asked = create(ec2, &place.subnet).secondary_private_ip_address_count(11);
                asked
                    .send()
                    .await
                    .refused_with("InsufficientFreeAddressesInSubnet", NO_ADDRESSES)?;
                same("free", ec2.free(&place.subnet).await?, 11)?;
            }
        ),
        check!(
            "CreateNetworkInterface./28 exhaustion at 11",
            "A /28 has room for 11 ENIs, and none for the 12th.",
            "D Subnet CIDR blocks; I aws/amazon-vpc-cni-k8s#1773",
            |ec2| {
                let place = ec2.place_of("10.0.1.0/28").await?;
                let mut seen = BTreeSet::new();
                for _ in 0..11 {
                    seen.extend(addresses(&made(create(ec2, &place.subnet)).await?));
                }
                same("different addresses", seen.len(), 11)?;
                same("free", ec2.free(&place.subnet).await?, 0)?;
                let asked = create(ec2, &place.subnet).send().await;
                asked.refused_with("InsufficientFreeAddressesInSubnet", NO_ADDRESSES)?;
                same("free after the refusal", ec2.free(&place.subnet).await?, 0)?;
            }
        ),
        check!(
            "CreateNetworkInterface.Ipv4PrefixCount",
            "A prefix is an aligned /28 of the subnet, and takes 16 of it.",
            "D Prefix delegation for EC2 network interfaces",
            |ec2| {
                let place = ec2.place().await?;
                let eni = made(create(ec2, &place.subnet).ipv4_prefix_count(1)).await?;
                let prefixes = prefixes(&eni);
                same("prefixes", prefixes.len(), 1)?;
                let address = prefixes[0].strip_suffix("/28").need("/28")?;
                holds(
                    address.starts_with("10.0.1."),
                    format!("{address} is not of the subnet"),
                )?;
                same("alignment", last_octet(address)? % 16, 0)?;
                same("free", ec2.free(&place.subnet).await?, 251 - 16 - 1)?;
            }
        ),
        check!(
            "CreateNetworkInterface.Ipv4Prefixes",
            "A free /28 that is asked for is given.",
            "M Ipv4Prefix.N.Ipv4Prefix",
            |ec2| {
                let place = ec2.place().await?;
                let prefix = Ipv4PrefixSpecificationRequest::builder()
                    .ipv4_prefix("10.0.1.64/28")
                    .build();
                let eni = made(create(ec2, &place.subnet).ipv4_prefixes(prefix)).await?;
                same("prefixes", prefixes(&eni), ["10.0.1.64/28"])?;
            }
        ),
        check!(
            "CreateNetworkInterface.Ipv6PrefixCount",
            "An IPv6 prefix is a /80 of the subnet's /64.",
            "D Prefix delegation for EC2 network interfaces",
            |ec2| {
                let (place, cidr) = ec2.dual_place().await?;
                let eni = made(create(ec2, &place.subnet).ipv6_prefix_count(1)).await?;
                same("prefixes", eni.ipv6_prefixes().len(), 1)?;
                let prefix = eni.ipv6_prefixes()[0].ipv6_prefix().need("ipv6Prefix")?;
                holds(
                    within_64(prefix, &cidr),
                    format!("{prefix} is not of {cidr}"),
                )?;
                holds(prefix.ends_with("/80"), format!("{prefix} is no /80"))?;
            }
        ),
        check!(
            "CreateNetworkInterface.Ipv6AddressCount",
            "IPv6 addresses are of the subnet's /64.",
            "D API_CreateNetworkInterface",
            |ec2| {
                let (place, cidr) = ec2.dual_place().await?;
                let eni = made(create(ec2, &place.subnet).ipv6_address_count(2)).await?;
                same("addresses", eni.ipv6_addresses().len(), 2)?;
                for address in eni.ipv6_addresses() {
                    let address = address.ipv6_address().need("ipv6Address")?;
                    holds(
                        within_64(address, &cidr),
                        format!("{address} is not of {cidr}"),
                    )?;
                }
            }
        ),
    ]
}

/// Whether an IPv6 address or prefix lies in a /64.
pub(crate) fn within_64(inner: &str, cidr: &str) -> bool {
    let head = |text: &str| -> Option<[u16; 4]> {
        let address: std::net::Ipv6Addr = text.split('/').next()?.parse().ok()?;
        address.segments()[..4].try_into().ok()
    };
    head(inner).is_some() && head(inner) == head(cidr)
}
