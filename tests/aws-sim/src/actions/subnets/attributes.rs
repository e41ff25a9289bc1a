//! ModifySubnetAttribute

use crate::actions::{ids, render};
use crate::error::{Ec2Error, Result};
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{SubnetAttributes, World};
use crate::xml::Xml;

type Set = fn(&mut SubnetAttributes, bool);

const FLAGS: [(&str, Set); 5] = [
    ("MapPublicIpOnLaunch", |all, on| {
        all.map_public_ip_on_launch = on;
    }),
    (ASSIGN_IPV6, |all, on| all.assign_ipv6_on_creation = on),
    ("EnableDns64", |all, on| all.dns64 = on),
    ("EnableResourceNameDnsARecordOnLaunch", |all, on| {
        all.resource_name_a_record = on;
    }),
    ("EnableResourceNameDnsAAAARecordOnLaunch", |all, on| {
        all.resource_name_aaaa_record = on;
    }),
];
const ASSIGN_IPV6: &str = "AssignIpv6AddressOnCreation";
const HOSTNAMES: &str = "PrivateDnsHostnameTypeOnLaunch";

pub(super) fn modify(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let id = input.required("SubnetId")?;
    let mut asked: Vec<(&str, Set, bool)> = Vec::new();
    for (name, set) in FLAGS {
        let value = input.flag(&format!("{name}.Value"))?;
        asked.extend(value.map(|value| (name, set, value)));
    }
    match input.text(HOSTNAMES) {
        None => {}
        Some("ip-name") => asked.push((HOSTNAMES, |all, on| all.resource_names = on, false)),
        Some("resource-name") => asked.push((HOSTNAMES, |all, on| all.resource_names = on, true)),
        Some(other) => return Err(Ec2Error::value(other, "privateDnsHostnameTypeOnLaunch", "")),
    }
    input.finish()?;

    let subnet = ids::owned_subnet(world, input, &ids::subnet_id(id)?)?;
    match asked.as_slice() {
        [] => Err(Ec2Error::combination("No attributes specified.")),
        [(name, set, value)] => {
            let id = subnet.id.clone();
            if *name == ASSIGN_IPV6 && *value && subnet.ipv6.is_none() {
                return Err(Ec2Error::invalid(format!(
                    "Invalid value 'true' for assign-ipv6-address-on-creation. Cannot set \
                     assign-ipv6-address-on-creation to true unless the subnet ({id}) has an IPv6 CIDR block \
                     associated with it."
                )));
            }
            world.change_subnet(&id, |subnet| set(&mut subnet.attributes, *value))?;
            Ok(render::done())
        }
        several => {
            let names: Vec<String> = several.iter().map(|(name, ..)| lower(name)).collect();
            Err(Ec2Error::combination(format!(
                "Fields for multiple attribute types specified: {}",
                names.join(", ")
            )))
        }
    }
}

fn lower(name: &str) -> String {
    let (first, rest) = name.split_at(1);
    format!("{}{rest}", first.to_ascii_lowercase())
}
