//! From what EC2 says about an ENI to what the pool must know.

use std::net::{IpAddr, Ipv4Addr};

use aws_sdk_ec2::types::{
    AttachmentStatus, NetworkInterface, NetworkInterfaceAttachment, NetworkInterfaceType,
};
use ipam::{
    Attachment, AttachmentId, EniFacts, EniId, InstanceId, Mac, Place, SecurityGroupId, SubnetId,
};
use ipnet::{IpNet, Ipv4Net};

/// On ENIs that aws-node or we made: the instance that they were made for.
pub(crate) const TAG_INSTANCE: &str = "node.k8s.amazonaws.com/instance_id";
/// On ENIs that somebody wants left alone: `true`, or else it means nothing of the kind.
pub(crate) const TAG_NO_MANAGE: &str = "node.k8s.amazonaws.com/no_manage";
/// When an ENI was made, as RFC 3339 has it, by the clock of the node that made it.
pub(crate) const TAG_CREATED_AT: &str = "node.k8s.amazonaws.com/createdAt";
/// On ENIs of nodes that know their cluster's name.
pub(crate) const TAG_CLUSTER: &str = "cluster.k8s.amazonaws.com/name";
/// Beside it: [`OWNER`].
pub(crate) const TAG_OWNER: &str = "eks:eni:owner";
/// aws-node's, so that its tools and policies know our ENIs.
pub(crate) const OWNER: &str = "amazon-vpc-cni";
/// Names the intent that an ENI was made for, so that it is found again when EC2 no longer takes its token.
pub(crate) const TAG_TOKEN: &str = "weir/client-token";

/// Where an ENI stands: what is needed to look its subnet's CIDR up, which EC2 does not tell with it.
pub(crate) fn place(eni: &NetworkInterface) -> Result<(SubnetId, Mac), String> {
    let subnet = SubnetId::new(said(eni, "subnetId", eni.subnet_id())?);
    let mac = said(eni, "macAddress", eni.mac_address())?;
    let mac = mac.parse().map_err(|error| format!("{error}"))?;
    Ok((subnet, mac))
}

/// Whose an ENI is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Made for this instance, by us or by aws-node; or its primary ENI.
    Ours,
    /// Somebody else's, and pods may have its addresses, as its user says.
    Borrowed,
    /// Not for pods.
    NotForPods,
}

/// The pool's view of an ENI; what is missing, in words, when EC2's answer lacks what every ENI of ours has.
///
/// One that is not ours may lack IPv4 altogether, and may be in a subnet that this account can't describe. It still
/// takes a place on the instance, so it is told with what it has.
pub(crate) fn facts_of(
    eni: &NetworkInterface,
    subnet_cidr: Option<Ipv4Net>,
    instance: &InstanceId,
    untagged: bool,
) -> Result<EniFacts, String> {
    let (subnet_id, mac) = place(eni)?;
    let whose = whose(eni, instance, untagged);
    let managed = whose != Whose::NotForPods;
    let primary_address = match eni.private_ip_address() {
        None if !managed => Ipv4Addr::UNSPECIFIED,
        primary => {
            let primary = said(eni, "privateIpAddress", primary)?;
            primary
                .parse()
                .map_err(|_| format!("privateIpAddress {primary:?} is not an IPv4 address"))?
        }
    };
    let subnet_cidr = match subnet_cidr {
        None if managed => return Err(format!("no CIDR of {subnet_id}")),
        cidr => cidr.unwrap_or_else(|| Ipv4Net::from(primary_address)),
    };
    let addresses = eni
        .private_ip_addresses()
        .iter()
        .filter(|address| !address.primary().unwrap_or(false))
        .filter_map(|address| address.private_ip_address()?.parse::<Ipv4Addr>().ok())
        .filter(|address| *address != primary_address)
        .map(|address| IpNet::from(IpAddr::V4(address)));
    let prefixes = eni.ipv4_prefixes().iter();
    let prefixes = prefixes.filter_map(|it| it.ipv4_prefix()?.parse().ok());
    let ipv6 = eni.ipv6_prefixes().iter();
    let ipv6 = ipv6.filter_map(|it| it.ipv6_prefix()?.parse().ok());
    let slots = addresses.chain(prefixes).chain(ipv6).collect();
    Ok(EniFacts {
        id: EniId::new(said(eni, "networkInterfaceId", eni.network_interface_id())?),
        mac,
        subnet_id,
        subnet_cidr,
        primary_address,
        slots,
        security_groups: eni
            .groups()
            .iter()
            .filter_map(|group| group.group_id())
            .map(SecurityGroupId::new)
            .collect(),
        managed,
        borrowed: whose == Whose::Borrowed,
        attachment: eni.attachment().and_then(|a| attachment_of(a, instance)),
    })
}

fn said<'e>(eni: &NetworkInterface, what: &str, value: Option<&'e str>) -> Result<&'e str, String> {
    value.ok_or_else(|| {
        let id = eni.network_interface_id().unwrap_or("an ENI without id");
        format!("{id} has no {what}")
    })
}

/// None when it is not attached to this instance, or is being detached.
fn attachment_of(
    attachment: &NetworkInterfaceAttachment,
    instance: &InstanceId,
) -> Option<Attachment> {
    let complete = match attachment.status()? {
        AttachmentStatus::Attached => true,
        AttachmentStatus::Attaching => false,
        _ => return None,
    };
    if attachment.instance_id() != Some(instance.as_str()) {
        return None;
    }
    Some(Attachment {
        id: AttachmentId::new(attachment.attachment_id()?),
        place: Place {
            card: u32::try_from(attachment.network_card_index().unwrap_or(0)).ok()?,
            device_index: u32::try_from(attachment.device_index()?).ok()?,
        },
        complete,
        delete_on_termination: attachment.delete_on_termination().unwrap_or(false),
    })
}

/// The value of an ENI's tag.
pub(crate) fn tag<'e>(eni: &'e NetworkInterface, key: &str) -> Option<&'e str> {
    let found = eni.tag_set().iter().find(|tag| tag.key() == Some(key))?;
    Some(found.value().unwrap_or_default())
}

/// aws-node's rules in aws-node's order. `untagged`: what has no tag of the kind is for pods too (`MANAGE_UNTAGGED_ENI`).
/// But what was not made for this instance is never ours to end.
pub(crate) fn whose(eni: &NetworkInterface, instance: &InstanceId, untagged: bool) -> Whose {
    let tag = |key: &str| tag(eni, key);
    let (card, index) = eni.attachment().map_or((0, None), |attachment| {
        let card = attachment.network_card_index().unwrap_or(0);
        (card, attachment.device_index())
    });
    if card == 0 && index == Some(0) {
        return Whose::Ours;
    }
    let for_pods = matches!(
        eni.interface_type(),
        None | Some(NetworkInterfaceType::Interface)
    );
    if !for_pods || card != 0 {
        return Whose::NotForPods;
    }
    let made_for = tag(TAG_INSTANCE);
    match (tag(TAG_NO_MANAGE), made_for == Some(instance.as_str())) {
        (Some("true"), _) => Whose::NotForPods,
        (_, true) => Whose::Ours,
        (Some(_), false) => Whose::Borrowed,
        // One that was made for another instance is not untagged.
        (None, false) if untagged && made_for.is_none() => Whose::Borrowed,
        (None, false) => Whose::NotForPods,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_ec2::types::{NetworkInterfacePrivateIpAddress, Tag};

    fn eni(index: i32, card: i32, kind: NetworkInterfaceType, tags: &[(&str, &str)]) -> EniFacts {
        with(false, index, card, kind, tags)
    }

    fn with(
        untagged: bool,
        index: i32,
        card: i32,
        kind: NetworkInterfaceType,
        tags: &[(&str, &str)],
    ) -> EniFacts {
        let address = |text: &str, primary| {
            NetworkInterfacePrivateIpAddress::builder()
                .private_ip_address(text)
                .primary(primary)
                .build()
        };
        let tags = tags
            .iter()
            .map(|(key, value)| Tag::builder().key(*key).value(*value).build())
            .collect();
        let eni = NetworkInterface::builder()
            .network_interface_id("eni-1")
            .mac_address("02:00:0a:00:01:05")
            .subnet_id("subnet-1")
            .private_ip_address("10.0.1.5")
            .private_ip_addresses(address("10.0.1.5", true))
            .private_ip_addresses(address("10.0.1.17", false))
            .interface_type(kind)
            .set_tag_set(Some(tags))
            .attachment(
                NetworkInterfaceAttachment::builder()
                    .attachment_id("eni-attach-1")
                    .instance_id("i-1")
                    .device_index(index)
                    .network_card_index(card)
                    .status(AttachmentStatus::Attached)
                    .build(),
            )
            .build();
        let cidr = "10.0.1.0/24".parse().unwrap();
        facts_of(&eni, Some(cidr), &InstanceId::new("i-1"), untagged).unwrap()
    }

    #[test]
    fn an_eni_of_others_without_ipv4_and_without_a_known_subnet_is_told_all_the_same() {
        let foreign = NetworkInterface::builder()
            .network_interface_id("eni-9")
            .mac_address("02:00:0a:00:01:09")
            .subnet_id("subnet-of-another-account")
            .attachment(
                NetworkInterfaceAttachment::builder()
                    .attachment_id("eni-attach-9")
                    .instance_id("i-1")
                    .device_index(2)
                    .status(AttachmentStatus::Attached)
                    .build(),
            )
            .build();
        let told = |eni| facts_of(eni, None, &InstanceId::new("i-1"), false);
        let facts = told(&foreign).unwrap();
        assert!(!facts.managed);
        assert_eq!(facts.attachment.unwrap().place.device_index, 2);
        let tag = Tag::builder().key(TAG_INSTANCE).value("i-1").build();
        let mut ours = foreign.clone();
        ours.tag_set = Some(vec![tag]);
        let why = told(&ours).unwrap_err();
        assert!(why.contains("eni-9 has no privateIpAddress"), "{why}");
    }

    /// amazon-vpc-cni-k8s#915: an ENI without an attachment made aws-node crash.
    #[test]
    fn what_ec2_leaves_out_of_an_eni_is_named_or_does_without() {
        let whole = NetworkInterfaceAttachment::builder()
            .attachment_id("eni-attach-1")
            .instance_id("i-1")
            .device_index(1)
            .status(AttachmentStatus::Attached);
        let told = |attachment: Option<NetworkInterfaceAttachment>| {
            let eni = NetworkInterface::builder()
                .network_interface_id("eni-1")
                .mac_address("02:00:0a:00:01:05")
                .subnet_id("subnet-1")
                .private_ip_address("10.0.1.5")
                .tag_set(Tag::builder().key(TAG_INSTANCE).value("i-1").build())
                .set_attachment(attachment)
                .build();
            let cidr = "10.0.1.0/24".parse().unwrap();
            let facts = facts_of(&eni, Some(cidr), &InstanceId::new("i-1"), false).unwrap();
            facts.attachment
        };
        assert!(told(Some(whole.clone().build())).is_some());
        assert_eq!(told(None), None);
        for less in [
            whole.clone().set_attachment_id(None),
            whole.clone().set_instance_id(None),
            whole.clone().set_device_index(None),
            whole.set_status(None),
        ] {
            assert_eq!(told(Some(less.build())), None);
        }
        let empty = NetworkInterface::builder().build();
        let why = facts_of(&empty, None, &InstanceId::new("i-1"), false).unwrap_err();
        assert!(why.contains("an ENI without id has no subnetId"), "{why}");
    }

    #[test]
    fn an_enis_own_address_is_never_among_its_secondary_addresses() {
        let facts = eni(0, 0, NetworkInterfaceType::Interface, &[]);
        assert_eq!(
            facts.primary_address,
            "10.0.1.5".parse::<std::net::Ipv4Addr>().unwrap()
        );
        assert_eq!(facts.slots, ["10.0.1.17/32".parse::<IpNet>().unwrap()]);
    }

    #[test]
    fn the_primary_eni_and_our_own_are_managed_and_no_others() {
        use NetworkInterfaceType::{Efa, Interface, Trunk};
        let ours = (TAG_INSTANCE, "i-1");
        let no_manage = (TAG_NO_MANAGE, "true");
        let table = [
            (0, 0, Interface, vec![], true),
            (0, 0, Interface, vec![no_manage], true),
            (1, 0, Interface, vec![ours], true),
            (1, 0, Interface, vec![], false),
            (1, 0, Interface, vec![(TAG_INSTANCE, "i-2")], false),
            (1, 0, Interface, vec![ours, no_manage], false),
            (1, 0, Interface, vec![(TAG_NO_MANAGE, "false")], true),
            (1, 0, Trunk, vec![ours], false),
            (1, 0, Efa, vec![ours], false),
            (0, 1, Interface, vec![ours], false),
        ];
        for (index, card, kind, tags, managed) in table {
            let facts = eni(index, card, kind.clone(), &tags);
            assert_eq!(facts.managed, managed, "{index} {card} {kind} {tags:?}");
        }
    }

    /// #726, #1607, #3660: an ENI that somebody else attached was taken for the CNI's own, and detached.
    #[test]
    fn an_eni_of_others_is_for_pods_only_where_its_user_says_so_and_never_ours_to_end() {
        use NetworkInterfaceType::{Branch, Efa, EfaOnly, Interface, Trunk};
        let ours = (TAG_INSTANCE, "i-1");
        let others = (TAG_INSTANCE, "i-2");
        let (left_alone, given) = ((TAG_NO_MANAGE, "true"), (TAG_NO_MANAGE, "false"));
        // With MANAGE_UNTAGGED_ENI: whether pods may have its addresses, and whether it is somebody else's then.
        let table = [
            (0, 0, Interface, vec![], (true, false)),
            (1, 0, Interface, vec![], (true, true)),
            (1, 0, Interface, vec![ours], (true, false)),
            (1, 0, Interface, vec![given], (true, true)),
            (1, 0, Interface, vec![ours, given], (true, false)),
            (1, 0, Interface, vec![left_alone], (false, false)),
            (1, 0, Interface, vec![others], (false, false)),
            (1, 0, Trunk, vec![], (false, false)),
            (1, 0, Branch, vec![], (false, false)),
            (1, 0, Efa, vec![], (false, false)),
            (1, 0, EfaOnly, vec![], (false, false)),
            (1, 1, Interface, vec![], (false, false)),
        ];
        for (index, card, kind, tags, expected) in table {
            let facts = with(true, index, card, kind.clone(), &tags);
            let found = (facts.managed, facts.borrowed);
            assert_eq!(found, expected, "{index} {card} {kind} {tags:?}");
        }
        let given = with(false, 1, 0, Interface, &[given]);
        assert!(given.managed && given.borrowed, "its tag says so");
    }
}
