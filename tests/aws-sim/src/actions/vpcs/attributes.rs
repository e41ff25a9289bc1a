//! ModifyVpcAttribute and DescribeVpcAttribute

use crate::actions::{ids, render};
use crate::error::{Ec2Error, Result};
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{Vpc, World};
use crate::xml::Xml;

/// An attribute: its name in `Attribute` and in the answer, and where it is.
struct Attribute {
    name: &'static str,
    get: fn(&Vpc) -> bool,
    set: fn(&mut Vpc, bool),
}

const ALL: [Attribute; 3] = [
    Attribute {
        name: "enableDnsSupport",
        get: |vpc| vpc.dns_support,
        set: |vpc, value| vpc.dns_support = value,
    },
    Attribute {
        name: "enableDnsHostnames",
        get: |vpc| vpc.dns_hostnames,
        set: |vpc, value| vpc.dns_hostnames = value,
    },
    Attribute {
        name: "enableNetworkAddressUsageMetrics",
        get: |vpc| vpc.usage_metrics,
        set: |vpc, value| vpc.usage_metrics = value,
    },
];

pub(super) fn modify(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let id = input.required("VpcId")?;
    let mut asked = Vec::new();
    for attribute in &ALL {
        let (first, rest) = attribute.name.split_at(1);
        let name = format!("{}{rest}.Value", first.to_ascii_uppercase());
        asked.extend(input.flag(&name)?.map(|value| (attribute, value)));
    }
    input.finish()?;

    let vpc = ids::owned_vpc(world, input, &ids::vpc_id(id)?)?.id.clone();
    match asked.as_slice() {
        [] => Err(Ec2Error::combination("No attributes specified.")),
        [(attribute, value)] => {
            world.change_vpc(&vpc, |vpc| (attribute.set)(vpc, *value))?;
            Ok(render::done())
        }
        several => {
            let names: Vec<&str> = several
                .iter()
                .map(|(attribute, _)| attribute.name)
                .collect();
            Err(Ec2Error::combination(format!(
                "Fields for multiple attribute types specified: {}",
                names.join(", ")
            )))
        }
    }
}

pub(super) fn describe(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let (id, name) = (input.required("VpcId")?, input.required("Attribute")?);
    input.finish()?;

    let vpc = ids::owned_vpc(world, input, &ids::vpc_id(id)?)?;
    let attribute = ALL
        .iter()
        .find(|attribute| attribute.name == name)
        .ok_or_else(|| Ec2Error::value(name, "attribute", "Unknown attribute."))?;
    let mut xml = Xml::new();
    xml.text("vpcId", &vpc.id).node(attribute.name, |xml| {
        xml.text("value", (attribute.get)(vpc));
    });
    Ok(xml)
}
