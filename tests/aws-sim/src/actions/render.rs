//! ENIs, tags and what else several actions show, as XML.

use crate::time::iso8601_millis;
use crate::world::{Attachment, ConnectionTracking, Eni, Tags, World};
use crate::xml::Xml;

/// Whether an ENI is shown on its own or within its instance: EC2 shows a little less there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Within {
    Itself,
    Instance,
}

pub(super) fn eni(xml: &mut Xml, world: &World, eni: &Eni, within: Within) {
    let region = &world.config.region;
    xml.text("networkInterfaceId", &eni.id)
        .text("subnetId", &eni.subnet)
        .text("vpcId", &eni.vpc);
    if within == Within::Itself {
        xml.text("availabilityZone", &eni.az)
            .text("availabilityZoneId", world.az_id(&eni.az));
    }
    xml.text("description", &eni.description)
        .text("ownerId", world.owner(&eni.vpc))
        .text("status", eni.status())
        .text("macAddress", eni.mac_text())
        .maybe("privateIpAddress", eni.primary)
        .maybe("privateDnsName", eni.private_dns_name(region))
        .text("sourceDestCheck", eni.source_dest_check)
        .text("interfaceType", eni.kind.as_str());
    if within == Within::Itself {
        xml.text("requesterManaged", false)
            .text("denyAllIgwTraffic", false);
    }
    xml.node("operator", |xml| {
        xml.text("managed", false);
    });
    groups(xml, world, eni);
    attachment_within(xml, world, eni, within);
    connection_tracking(xml, eni.connection_tracking);
    association(xml, world, eni, true);
    xml.set("privateIpAddressesSet", eni.addresses(), |xml, address| {
        let primary = Some(address) == eni.primary;
        xml.text("privateIpAddress", address)
            .text("privateDnsName", Eni::dns_name(address, region))
            .text("primary", primary);
        association(xml, world, eni, primary);
    });
    if !eni.prefixes.is_empty() {
        xml.set("ipv4PrefixSet", &eni.prefixes, |xml, prefix| {
            xml.text("ipv4Prefix", prefix);
        });
    }
    xml.set("ipv6AddressesSet", &eni.ipv6, |xml, address| {
        xml.text("ipv6Address", address)
            .text("isPrimaryIpv6", eni.primary_ipv6.as_ref() == Some(address));
    });
    if !eni.ipv6_prefixes.is_empty() {
        xml.set("ipv6PrefixSet", &eni.ipv6_prefixes, |xml, prefix| {
            xml.text("ipv6Prefix", prefix);
        });
    }
    if within == Within::Itself {
        tags(xml, &eni.tags);
    }
}

/// What an ENI is attached to, if it is.
pub(super) fn attachment(xml: &mut Xml, world: &World, eni: &Eni) {
    attachment_within(xml, world, eni, Within::Itself);
}

fn attachment_within(xml: &mut Xml, world: &World, eni: &Eni, within: Within) {
    if let Some(attachment) = &eni.attachment {
        xml.node("attachment", |xml| {
            inside_attachment(xml, world, eni, attachment, within);
        });
    }
}

fn inside_attachment(
    xml: &mut Xml,
    world: &World,
    eni: &Eni,
    attachment: &Attachment,
    within: Within,
) {
    xml.text("attachmentId", &attachment.id);
    if within == Within::Itself {
        xml.text("instanceId", &attachment.instance)
            .text("instanceOwnerId", world.owner(&eni.vpc));
    }
    xml.text("deviceIndex", attachment.device_index)
        .text("networkCardIndex", attachment.card)
        .text("status", attachment.status.as_str())
        .text(
            "attachTime",
            iso8601_millis(world.unix_millis(attachment.since)),
        )
        .text("deleteOnTermination", attachment.delete_on_termination);
    if let Some(ena_srd) = eni.ena_srd {
        xml.node("enaSrdSpecification", |xml| {
            xml.text("enaSrdEnabled", ena_srd.enabled)
                .node("enaSrdUdpSpecification", |xml| {
                    xml.text("enaSrdUdpEnabled", ena_srd.udp);
                });
        });
    }
}

/// Only what is not EC2's default.
fn connection_tracking(xml: &mut Xml, tracking: ConnectionTracking) {
    if tracking != ConnectionTracking::default() {
        xml.node("connectionTrackingConfiguration", |xml| {
            xml.maybe("tcpEstablishedTimeout", tracking.tcp_established)
                .maybe("udpStreamTimeout", tracking.udp_stream)
                .maybe("udpTimeout", tracking.udp);
        });
    }
}

fn association(xml: &mut Xml, world: &World, eni: &Eni, of_primary: bool) {
    if let Some(public) = eni.public_address.filter(|_| of_primary) {
        xml.node("association", |xml| {
            xml.text("publicIp", public)
                .text("publicDnsName", world.public_dns_name(public))
                .text("ipOwnerId", "amazon");
        });
    }
}

pub(super) fn groups(xml: &mut Xml, world: &World, eni: &Eni) {
    xml.set("groupSet", &eni.groups, |xml, id| {
        xml.text("groupId", id).text(
            "groupName",
            world.group(id).map_or("", |group| group.name.as_str()),
        );
    });
}

pub(super) fn tags(xml: &mut Xml, tags: &Tags) {
    xml.set("tagSet", tags, |xml, (key, value)| {
        xml.text("key", key).text("value", value);
    });
}

/// Nobody blocks public access to a VPC here.
pub(super) fn public_access(xml: &mut Xml) {
    xml.node("blockPublicAccessStates", |xml| {
        xml.text("internetGatewayBlockMode", "off");
    });
}

/// What actions without a result answer.
pub(super) fn done() -> Xml {
    let mut xml = Xml::new();
    xml.text("return", true);
    xml
}
