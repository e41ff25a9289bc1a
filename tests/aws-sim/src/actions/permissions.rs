//! Permissions for other accounts to use an ENI.

use super::{ids, render};
use crate::actions::Action;
use crate::error::{Ec2Error, Result};
use crate::filters::{Field, Filters};
use crate::ids::EniPermissionId;
use crate::page::Page;
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{EniPermission, PermissionKind, World};
use crate::xml::Xml;

pub(super) const ACTIONS: &[(&str, Action)] = &[
    ("CreateNetworkInterfacePermission", create),
    ("DeleteNetworkInterfacePermission", delete),
    ("DescribeNetworkInterfacePermissions", describe),
];

fn create(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    input.required("NetworkInterfaceId")?;
    let name = input.required("Permission")?;
    let account = input.required("AwsAccountId")?;
    input.finish()?;

    let kinds = PermissionKind::ALL.into_iter();
    let kind = kinds
        .clone()
        .find(|kind| kind.as_str() == name)
        .ok_or_else(|| {
            let message = format!("Value ({name}) for parameter permission is invalid.");
            Ec2Error::invalid(message)
        })?;
    if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
        let why = "An account has twelve digits.";
        return Err(Ec2Error::value(account, "awsAccountId", why));
    }
    let eni = ids::eni(world, input)?.id.clone();
    let mut known = world.eni_permissions.values();
    let same = known
        .find(|known| (&known.eni, known.account.as_str(), known.kind) == (&eni, account, kind));
    let permission = match same {
        // Granting again changes nothing.
        Some(same) => same.clone(),
        None => EniPermission {
            id: EniPermissionId::new(&mut world.dice),
            eni,
            account: account.to_owned(),
            kind,
        },
    };
    let id = permission.id.clone();
    world.eni_permissions.insert(id, permission.clone());
    world.touch();
    let mut xml = Xml::new();
    xml.node("interfacePermission", |xml| render_one(xml, &permission));
    Ok(xml)
}

fn delete(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let id = input.required("NetworkInterfacePermissionId")?;
    // It matters only when the other account has attached the ENI, which no other account can here.
    input.flag("Force")?;
    input.finish()?;

    let id = own(world, input, id)?.id.clone();
    world.eni_permissions.remove(&id);
    world.touch();
    Ok(render::done())
}

fn describe(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let world = &*world;
    let asked = input.list("NetworkInterfacePermissionId");
    let filters = Filters::read(input, field)?;
    let page = Page::read(input, "NetworkInterfacePermissionId", 5..=255)?;
    input.finish()?;

    let seen: Vec<&EniPermission> = if asked.is_empty() {
        let all = world.eni_permissions.values();
        all.filter(|one| is_own(world, input, one)).collect()
    } else {
        let found = asked.iter().map(|id| own(world, input, id));
        found.collect::<Result<_>>()?
    };
    let matching = seen.into_iter().filter(|one| filters.matches(one));
    let page = page.shortened(world.config.short_pages);
    let (shown, next) = page.cut(matching.collect(), |one| one.id.as_str());

    let mut xml = Xml::new();
    xml.set("networkInterfacePermissions", shown, render_one);
    xml.maybe("nextToken", next);
    Ok(xml)
}

fn own<'w>(world: &'w World, input: &Input<'_>, id: &str) -> Result<&'w EniPermission> {
    let found = world.eni_permissions.get(id);
    found
        .filter(|permission| is_own(world, input, permission))
        .ok_or_else(|| {
            let message = format!("The network interface permission ID '{id}' does not exist");
            Ec2Error::client("InvalidPermissionID.NotFound", message)
        })
}

fn is_own(world: &World, input: &Input<'_>, permission: &EniPermission) -> bool {
    let eni = world.eni(&permission.eni);
    eni.is_some_and(|eni| world.owns(input.account(), &eni.vpc))
}

fn render_one(xml: &mut Xml, permission: &EniPermission) {
    xml.text("networkInterfacePermissionId", &permission.id)
        .text("networkInterfaceId", &permission.eni)
        .text("awsAccountId", &permission.account)
        .text("permission", permission.kind.as_str())
        .node("permissionState", |xml| {
            xml.text("state", "granted");
        });
}

fn field(name: &str) -> Option<Field<'static, EniPermission>> {
    let name = name.strip_prefix("network-interface-permission.")?;
    Some(match name {
        "network-interface-permission-id" => Box::new(|one| vec![one.id.to_string()]),
        "network-interface-id" => Box::new(|one| vec![one.eni.to_string()]),
        "aws-account-id" => Box::new(|one| vec![one.account.clone()]),
        "aws-service" => Box::new(|_| Vec::new()),
        "permission" => Box::new(|one| vec![one.kind.as_str().to_owned()]),
        _ => return None,
    })
}
