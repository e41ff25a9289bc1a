//! Branch interfaces on trunk interfaces.

use super::ids;
use super::render;
use crate::actions::Action;
use crate::error::{Ec2Error, Result};
use crate::filters::{Field, Filters, tag_field};
use crate::ids::{EniId, TrunkAssociationId};
use crate::page::Page;
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{
    Eni, EniKind, Made, Tags, Token, TrunkAssociation, TrunkKey, World, fingerprint, mismatch,
};
use crate::xml::Xml;

pub(super) const ACTIONS: &[(&str, Action)] = &[
    ("AssociateTrunkInterface", associate),
    ("DescribeTrunkInterfaceAssociations", describe),
    ("DisassociateTrunkInterface", disassociate),
];

fn associate(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let branch = input.required("BranchInterfaceId")?;
    let trunk = input.required("TrunkInterfaceId")?;
    let vlan = input.parsed::<u16>("VlanId")?.map(TrunkKey::Vlan);
    let gre = input.parsed::<u32>("GreKey")?.map(TrunkKey::Gre);
    let token = Token::read(input, "AssociateTrunkInterface")?;
    input.finish()?;

    let key = match (vlan, gre) {
        (None, None) => return Err(Ec2Error::missing("VlanId")),
        (Some(_), Some(_)) => {
            return Err(Ec2Error::combination(
                "You may specify one and only one of VlanId or GreKey.",
            ));
        }
        (vlan, gre) => vlan.or(gre),
    };
    let key = key.ok_or_else(|| Ec2Error::missing("VlanId"))?;
    let fingerprint = fingerprint(input);
    if let Some(token) = &token
        && let Some(made) = world.client_tokens.recall(token, &fingerprint)?
    {
        let Made::TrunkAssociation(id) = made else {
            return Err(mismatch());
        };
        let known = world.trunk_associations.get(&id).ok_or_else(mismatch)?;
        return Ok(associated(known, Some(token)));
    }
    let trunk = eni(world, input, trunk)?;
    let branch = eni(world, input, branch)?;
    check(world, branch, trunk, key)?;
    let (branch, trunk) = (branch.id.clone(), trunk.id.clone());
    let association = TrunkAssociation {
        id: TrunkAssociationId::new(&mut world.dice),
        branch,
        trunk,
        key,
    };
    world.associate_trunk(association.clone())?;
    if let Some(token) = &token {
        let made = Made::TrunkAssociation(association.id.clone());
        world.client_tokens.remember(token, fingerprint, made);
    }
    Ok(associated(&association, token.as_ref()))
}

fn eni<'w>(world: &'w World, input: &Input<'_>, id: &str) -> Result<&'w Eni> {
    let id: EniId = ids::eni_id(id)?;
    let eni = world.eni(&id);
    eni.filter(|eni| world.owns(input.account(), &eni.vpc))
        .ok_or_else(|| Ec2Error::no_such_eni(&id))
}

fn check(world: &World, branch: &Eni, trunk: &Eni, key: TrunkKey) -> Result<()> {
    if trunk.kind != EniKind::Trunk {
        let message = format!("Network interface '{}' is not of type trunk.", trunk.id);
        return Err(Ec2Error::invalid(message));
    }
    if !matches!(branch.kind, EniKind::Interface | EniKind::Branch) {
        let (id, kind) = (&branch.id, branch.kind.as_str());
        let message = format!("Network interface '{id}' of type {kind} cannot be a branch.");
        return Err(Ec2Error::invalid(message));
    }
    if branch.status() == "in-use" {
        return Err(Ec2Error::in_use(&branch.id));
    }
    if branch.az != trunk.az {
        return Err(Ec2Error::combination(
            "You may not associate a branch interface with a trunk interface if they are not in \
             the same availability zone",
        ));
    }
    if let TrunkKey::Vlan(vlan) = key
        && !(1..=4094).contains(&vlan)
    {
        return Err(Ec2Error::value(
            vlan,
            "VlanId",
            "Must be between 1 and 4094.",
        ));
    }
    let mut others = world.branches(&trunk.id);
    if others.any(|other| other.key == key) {
        let (name, key) = shown(key);
        let message = format!(
            "The {name} {key} is already used by a branch of trunk interface '{}'.",
            trunk.id
        );
        return Err(Ec2Error::invalid(message));
    }
    Ok(())
}

/// The protocol's name, and what it has on packets.
fn shown(key: TrunkKey) -> (&'static str, u32) {
    match key {
        TrunkKey::Vlan(vlan) => ("VLAN", u32::from(vlan)),
        TrunkKey::Gre(key) => ("GRE", key),
    }
}

fn associated(association: &TrunkAssociation, token: Option<&Token>) -> Xml {
    let mut xml = Xml::new();
    xml.node("interfaceAssociation", |xml| render_one(xml, association));
    xml.maybe("clientToken", token.map(|token| &token.token));
    xml
}

fn render_one(xml: &mut Xml, association: &TrunkAssociation) {
    let (protocol, key) = shown(association.key);
    xml.text("associationId", &association.id)
        .text("branchInterfaceId", &association.branch)
        .text("trunkInterfaceId", &association.trunk)
        .text("interfaceProtocol", protocol);
    match association.key {
        TrunkKey::Vlan(_) => xml.text("vlanId", key),
        TrunkKey::Gre(_) => xml.text("greKey", key),
    };
    render::tags(xml, &Tags::new());
}

fn disassociate(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let id = input.required("AssociationId")?;
    let token = Token::read(input, "DisassociateTrunkInterface")?;
    input.finish()?;

    let fingerprint = fingerprint(input);
    let known = match &token {
        Some(token) => world.client_tokens.recall(token, &fingerprint)?,
        None => None,
    };
    if known.is_none() {
        let id = own(world, input, id)?.id.clone();
        world.disassociate_trunk(&id);
    }
    if let Some(token) = &token {
        world.client_tokens.remember(token, fingerprint, Made::Gone);
    }
    let mut xml = render::done();
    xml.maybe("clientToken", token.map(|token| token.token));
    Ok(xml)
}

fn own<'w>(world: &'w World, input: &Input<'_>, id: &str) -> Result<&'w TrunkAssociation> {
    let found = world.trunk_associations.get(id);
    found
        .filter(|association| is_own(world, input, association))
        .ok_or_else(|| {
            let message = format!("The trunk interface association ID '{id}' does not exist");
            Ec2Error::client("InvalidTrunkInterfaceAssociationID.NotFound", message)
        })
}

fn is_own(world: &World, input: &Input<'_>, association: &TrunkAssociation) -> bool {
    let trunk = world.eni(&association.trunk);
    trunk.is_some_and(|trunk| world.owns(input.account(), &trunk.vpc))
}

fn describe(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let world = &*world;
    let asked = input.list("AssociationId");
    let filters = Filters::read(input, field)?;
    let page = Page::read(input, "AssociationId", 5..=255)?;
    input.finish()?;

    let seen: Vec<&TrunkAssociation> = if asked.is_empty() {
        let all = world.trunk_associations.values();
        all.filter(|one| is_own(world, input, one)).collect()
    } else {
        let found = asked.iter().map(|id| own(world, input, id));
        found.collect::<Result<_>>()?
    };
    let matching = seen.into_iter().filter(|one| filters.matches(one));
    let page = page.shortened(world.config.short_pages);
    let (shown, next) = page.cut(matching.collect(), |one| one.id.as_str());

    let mut xml = Xml::new();
    xml.set("interfaceAssociationSet", shown, render_one);
    xml.maybe("nextToken", next);
    Ok(xml)
}

fn field(name: &str) -> Option<Field<'static, TrunkAssociation>> {
    static NONE: Tags = Tags::new();
    if let Some(field) = tag_field(name, |_: &TrunkAssociation| &NONE) {
        return Some(field);
    }
    Some(match name {
        "gre-key" => Box::new(|one| match one.key {
            TrunkKey::Gre(key) => vec![key.to_string()],
            TrunkKey::Vlan(_) => Vec::new(),
        }),
        "interface-protocol" => Box::new(|one| vec![shown(one.key).0.to_owned()]),
        _ => return None,
    })
}
