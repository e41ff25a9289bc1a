//! DescribeInstanceTypeOfferings: all types are offered everywhere. EC2 offers fewer in some zones.

use crate::error::{Ec2Error, Result};
use crate::filters::{Field, Filters};
use crate::instance_types;
use crate::page::Page;
use crate::params::Input;
use crate::time::SimTime;
use crate::world::World;
use crate::xml::Xml;

/// A type, and where one can have it.
struct Offering {
    kind: &'static str,
    location: String,
    /// For pages.
    id: String,
}

pub(super) fn describe(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let location_type = input.text("LocationType").unwrap_or("region");
    let filters = Filters::read(input, field)?;
    let page = Page::read(input, "InstanceType", 5..=1000)?.or_size(1000);
    input.finish()?;

    let zones = world.zones();
    let locations = match location_type {
        "region" => vec![world.config.region.clone()],
        "availability-zone" => zones,
        "availability-zone-id" => zones.iter().map(|zone| world.az_id(zone)).collect(),
        other => return Err(Ec2Error::value(other, "locationType", "")),
    };
    let mut offerings = Vec::new();
    for kind in instance_types::all().keys() {
        for location in &locations {
            let offering = Offering {
                kind,
                location: location.clone(),
                id: format!("{kind} {location}"),
            };
            if filters.matches(&offering) {
                offerings.push(offering);
            }
        }
    }
    offerings.sort_by(|one, other| one.id.cmp(&other.id));
    let page = page.shortened(world.config.short_pages);
    let (shown, next) = page.cut(offerings, |offering| &offering.id);

    let mut xml = Xml::new();
    xml.set("instanceTypeOfferingSet", shown, |xml, offering| {
        xml.text("instanceType", offering.kind)
            .text("locationType", location_type)
            .text("location", offering.location);
    });
    xml.maybe("nextToken", next);
    Ok(xml)
}

fn field(name: &str) -> Option<Field<'static, Offering>> {
    Some(match name {
        "instance-type" => Box::new(|offering| vec![offering.kind.to_owned()]),
        "location" => Box::new(|offering| vec![offering.location.clone()]),
        _ => return None,
    })
}
