//! Instances and their reservations, as XML.

use crate::actions::render::{self, Within};
use crate::time::{SimTime, iso8601_millis};
use crate::world::{Eni, Instance, InstanceState, StateReason, World};
use crate::xml::Xml;

/// A launch, with those of its instances that are to be shown as they were at `then`.
pub(super) fn reservation(
    xml: &mut Xml,
    world: &World,
    id: &str,
    instances: &[&Instance],
    then: SimTime,
) {
    let owner = instances
        .first()
        .map_or("", |first| world.owner(&first.vpc));
    xml.text("reservationId", id).text("ownerId", owner);
    // Only launches outside of a VPC have groups here.
    empty(xml, "groupSet");
    xml.set("instancesSet", instances, |xml, shown| {
        instance(xml, world, shown, then);
    });
}

fn instance(xml: &mut Xml, world: &World, instance: &Instance, then: SimTime) {
    let enis = interfaces_at(world, instance, then);
    let primary = enis.iter().copied().find(|eni| is_primary(eni));
    xml.text("instanceId", &instance.id)
        .text("imageId", instance.image.id)
        .node("instanceState", |xml| state(xml, instance.state))
        .maybe(
            "privateDnsName",
            primary.map(|eni| private_name(world, eni)),
        )
        .text(
            "dnsName",
            primary
                .and_then(|eni| eni.public_address)
                .map(|address| world.public_dns_name(address))
                .unwrap_or_default(),
        )
        .text("reason", transition_reason(world, instance))
        .maybe("keyName", instance.key_name.as_deref())
        .text("amiLaunchIndex", instance.launch_index)
        .set("productCodes", std::iter::empty::<()>(), |_, ()| {})
        .text("instanceType", &instance.kind.name)
        .text(
            "launchTime",
            iso8601_millis(world.unix_millis(instance.launched_at)),
        )
        .node("placement", |xml| {
            xml.text("availabilityZone", &instance.az)
                .text("availabilityZoneId", world.az_id(&instance.az))
                .text("groupName", "")
                .text("tenancy", "default");
        })
        .maybe("platform", instance.image.platform)
        .text("platformDetails", instance.image.platform_details())
        .node("monitoring", |xml| {
            xml.text("state", on(instance.settings.monitored));
        });
    if let Some(primary) = primary {
        xml.text("subnetId", &primary.subnet)
            .text("vpcId", &primary.vpc)
            .maybe("privateIpAddress", primary.primary)
            .maybe("ipAddress", primary.public_address)
            .text("sourceDestCheck", primary.source_dest_check);
        xml.maybe("ipv6Address", primary.ipv6.first());
    }
    match primary {
        Some(primary) => render::groups(xml, world, primary),
        None => empty(xml, "groupSet"),
    }
    if let Some(reason) = instance.state_reason {
        xml.node("stateReason", |xml| {
            let text = format!("{}: User initiated shutdown", reason.code);
            xml.text("code", reason.code).text("message", text);
        });
    }
    xml.text("architecture", instance.image.architecture)
        .text("rootDeviceType", "ebs")
        .text("rootDeviceName", instance.image.root_device)
        // Volumes are not simulated.
        .set("blockDeviceMapping", std::iter::empty::<()>(), |_, ()| {})
        .text("virtualizationType", "hvm")
        .text(
            "clientToken",
            instance.client_token.as_deref().unwrap_or_default(),
        );
    render::tags(xml, &instance.tags);
    xml.text("hypervisor", "xen");
    xml.set("networkInterfaceSet", enis, |xml, eni| {
        render::eni(xml, world, eni, Within::Instance);
    });
    if let Some(role) = &instance.role {
        xml.node("iamInstanceProfile", |xml| {
            let account = world.owner(&instance.vpc);
            xml.text(
                "arn",
                format!("arn:aws:iam::{account}:instance-profile/{role}"),
            )
            .text("id", "AIPAIOSFODNN7EXAMPLE");
        });
    }
    xml.text("ebsOptimized", instance.settings.ebs_optimized)
        .text("enaSupport", true)
        .node("hibernationOptions", |xml| {
            xml.text("configured", false);
        })
        .node("enclaveOptions", |xml| {
            xml.text("enabled", false);
        })
        .node("metadataOptions", |xml| {
            metadata_options(xml, instance, "applied");
        })
        .text("usageOperation", instance.image.usage_operation());
}

/// A list of nothing.
pub(super) fn empty(xml: &mut Xml, name: &str) {
    xml.set(name, std::iter::empty::<()>(), |_, ()| {});
}

/// `code` and `name`.
pub(super) fn state(xml: &mut Xml, state: InstanceState) {
    let (code, name) = state.code_and_name();
    xml.text("code", code).text("name", name);
}

/// The members of `instanceMetadataOptions`.
pub(super) fn metadata_options(xml: &mut Xml, instance: &Instance, state: &str) {
    let options = instance.imds;
    xml.text("state", state)
        .text("httpTokens", options.tokens())
        .text("httpPutResponseHopLimit", options.hop_limit)
        .text("httpEndpoint", on(options.enabled))
        .text("httpProtocolIpv6", on(options.ipv6))
        .text("instanceMetadataTags", on(options.tags));
}

/// EC2's word for what is on or off.
pub(super) fn on(on: bool) -> &'static str {
    if on { "enabled" } else { "disabled" }
}

/// Such as `User initiated (2026-01-01 00:00:00 GMT)`.
pub(super) fn transition_reason(world: &World, instance: &Instance) -> String {
    let by_user = instance
        .state_reason
        .filter(|reason| reason.code == StateReason::BY_USER);
    by_user.map_or_else(String::new, |reason| {
        let at = iso8601_millis(world.unix_millis(reason.at)).replace('T', " ");
        format!("User initiated ({} GMT)", at.get(..19).unwrap_or_default())
    })
}

pub(super) fn private_name(world: &World, primary: &Eni) -> String {
    primary
        .private_dns_name(&world.config.region)
        .unwrap_or_default()
}

/// What an instance had attached at `then`, by card and device index.
pub(super) fn interfaces_at<'w>(
    world: &'w World,
    instance: &Instance,
    then: SimTime,
) -> Vec<&'w Eni> {
    let mut enis: Vec<&Eni> = world.enis_of_at(&instance.id, then).collect();
    enis.sort_by_key(|eni| eni.attachment.as_ref().map(|a| (a.card, a.device_index)));
    enis
}

pub(super) fn is_primary(eni: &Eni) -> bool {
    eni.attachment
        .as_ref()
        .is_some_and(|a| a.device_index == 0 && a.card == 0)
}
