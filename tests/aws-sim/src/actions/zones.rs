//! Regions, availability zones, and what the account may do.

use crate::actions::Action;
use crate::error::{Ec2Error, Result};
use crate::filters::{Field, Filters};
use crate::params::Input;
use crate::time::SimTime;
use crate::world::World;
use crate::xml::Xml;

pub(super) const ACTIONS: &[(&str, Action)] = &[
    ("DescribeAccountAttributes", account),
    ("DescribeAvailabilityZones", zones),
    ("DescribeRegions", regions),
];

const NO_OPT_IN: &str = "opt-in-not-required";

/// A zone. All are of the Region, available, and open to everyone.
struct Zone {
    name: String,
    id: String,
}

fn zones(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let region = world.config.region.clone();
    let (names, ids) = (input.list("ZoneName"), input.list("ZoneId"));
    input.flag("AllAvailabilityZones")?;
    let filters = Filters::read(input, |name| zone_field(&region, name))?;
    input.finish()?;

    let all = world.zones().into_iter();
    let all: Vec<Zone> = all
        .map(|name| Zone {
            id: world.az_id(&name),
            name,
        })
        .collect();
    let unknown = |asked: &[&str], of: fn(&Zone) -> &str| {
        let unknown = asked
            .iter()
            .filter(|asked| all.iter().all(|zone| of(zone) != **asked));
        unknown.copied().collect::<Vec<_>>().join(", ")
    };
    let (bad_names, bad_ids) = (
        unknown(&names, |zone| &zone.name),
        unknown(&ids, |zone| &zone.id),
    );
    if !bad_names.is_empty() {
        let message = format!("Invalid availability zone: [{bad_names}]");
        return Err(Ec2Error::invalid(message));
    }
    if !bad_ids.is_empty() {
        let message = format!("Invalid availability zone-id: [{bad_ids}]");
        return Err(Ec2Error::invalid(message));
    }
    let shown = all.iter().filter(|zone| {
        (names.is_empty() || names.contains(&zone.name.as_str()))
            && (ids.is_empty() || ids.contains(&zone.id.as_str()))
            && filters.matches(zone)
    });
    let mut xml = Xml::new();
    xml.set("availabilityZoneInfo", shown, |xml, zone| {
        xml.text("zoneName", &zone.name)
            .text("zoneId", &zone.id)
            .text("zoneState", "available")
            .text("regionName", &region)
            .text("groupName", group(&region))
            .text("optInStatus", NO_OPT_IN)
            .text("networkBorderGroup", &region)
            .text("zoneType", "availability-zone")
            .set("messageSet", std::iter::empty::<()>(), |_, ()| {});
    });
    Ok(xml)
}

fn group(region: &str) -> String {
    format!("{region}-zg-1")
}

fn zone_field<'w>(region: &'w str, name: &str) -> Option<Field<'w, Zone>> {
    Some(match name {
        "zone-name" => Box::new(|zone| vec![zone.name.clone()]),
        "zone-id" => Box::new(|zone| vec![zone.id.clone()]),
        "region-name" | "network-border-group" => Box::new(|_| vec![region.to_owned()]),
        "group-name" => Box::new(|_| vec![group(region)]),
        "state" => Box::new(|_| vec!["available".to_owned()]),
        "opt-in-status" => Box::new(|_| vec![NO_OPT_IN.to_owned()]),
        "zone-type" => Box::new(|_| vec!["availability-zone".to_owned()]),
        "message" | "group-long-name" | "parent-zone-id" | "parent-zone-name" => {
            Box::new(|_| Vec::new())
        }
        _ => return None,
    })
}

/// The Regions that every account has.
const REGIONS: [&str; 17] = [
    "ap-south-1",
    "eu-north-1",
    "eu-west-3",
    "eu-west-2",
    "eu-west-1",
    "ap-northeast-3",
    "ap-northeast-2",
    "ap-northeast-1",
    "ca-central-1",
    "sa-east-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "eu-central-1",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
];

fn regions(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let names = input.list("RegionName");
    input.flag("AllRegions")?;
    let filters = Filters::read(input, region_field)?;
    input.finish()?;

    let own = Some(world.config.region.as_str()).filter(|own| !REGIONS.contains(own));
    let all: Vec<String> = REGIONS.into_iter().chain(own).map(str::to_owned).collect();
    if let Some(unknown) = names
        .iter()
        .find(|name| all.iter().all(|known| known != *name))
    {
        return Err(Ec2Error::value(unknown, "RegionName", "Unknown Region."));
    }
    let shown = all
        .iter()
        .filter(|name| names.is_empty() || names.contains(&name.as_str()))
        .filter(|name| filters.matches(name));
    let mut xml = Xml::new();
    xml.set("regionInfo", shown, |xml, name| {
        xml.text("regionName", name)
            .text("regionEndpoint", endpoint(name))
            .text("optInStatus", NO_OPT_IN);
    });
    Ok(xml)
}

fn endpoint(region: &str) -> String {
    format!("ec2.{region}.amazonaws.com")
}

fn region_field(name: &str) -> Option<Field<'static, String>> {
    Some(match name {
        "region-name" => Box::new(|region| vec![region.clone()]),
        "endpoint" => Box::new(|region| vec![endpoint(region)]),
        "opt-in-status" => Box::new(|_| vec![NO_OPT_IN.to_owned()]),
        _ => return None,
    })
}

/// EC2's default quotas.
const ATTRIBUTES: [(&str, &str); 6] = [
    ("supported-platforms", "VPC"),
    ("vpc-max-security-groups-per-interface", "5"),
    ("max-elastic-ips", "5"),
    ("max-instances", "20"),
    ("vpc-max-elastic-ips", "5"),
    ("default-vpc", "none"),
];

fn account(_world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let names = input.list("AttributeName");
    input.finish()?;

    let unknown = |name: &&&str| ATTRIBUTES.iter().all(|(known, _)| known != *name);
    if let Some(unknown) = names.iter().find(unknown) {
        return Err(Ec2Error::value(
            unknown,
            "attributeName",
            "Unknown attribute.",
        ));
    }
    let shown = ATTRIBUTES
        .into_iter()
        .filter(|(name, _)| names.is_empty() || names.contains(name));
    let mut xml = Xml::new();
    xml.set("accountAttributeSet", shown, |xml, (name, value)| {
        xml.text("attributeName", name)
            .set("attributeValueSet", [value], |xml, value| {
                xml.text("attributeValue", value);
            });
    });
    Ok(xml)
}
