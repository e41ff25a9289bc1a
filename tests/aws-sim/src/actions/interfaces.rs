//! Create, Delete, Modify and Describe network interfaces.

mod create;
mod describe;

use self::create::create;
use self::describe::describe;
use super::{ids, render};
use crate::actions::Action;
use crate::error::{Ec2Error, Result};
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{AttachmentStatus, World};
use crate::xml::Xml;

pub(super) const ACTIONS: &[(&str, Action)] = &[
    ("CreateNetworkInterface", create),
    ("DeleteNetworkInterface", delete),
    ("DescribeNetworkInterfaces", describe),
    ("ModifyNetworkInterfaceAttribute", modify),
];

pub(super) fn delete(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let eni = ids::eni(world, input)?;
    let (id, attached) = (eni.id.clone(), eni.attachment.is_some());
    input.finish()?;

    if attached {
        return Err(Ec2Error::in_use(id));
    }
    world.delete_eni(&id);
    Ok(render::done())
}

pub(super) fn modify(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let eni = ids::eni(world, input)?.clone();
    let description = input.text_or_empty("Description.Value");
    let source_dest_check = input.flag("SourceDestCheck.Value")?;
    let groups = input.list("SecurityGroupId");
    let groups = groups
        .into_iter()
        .map(ids::group_id)
        .collect::<Result<Vec<_>>>()?;
    let attachment = input.text("Attachment.AttachmentId");
    let delete_on_termination = input.flag("Attachment.DeleteOnTermination")?;
    input.finish()?;

    let on_attachment = attachment.is_some() || delete_on_termination.is_some();
    let asked = [
        description.is_some(),
        source_dest_check.is_some(),
        !groups.is_empty(),
        on_attachment,
    ];
    match asked.into_iter().filter(|asked| *asked).count() {
        0 => return Err(Ec2Error::combination("No attributes specified.")),
        1 => {}
        _ => {
            return Err(Ec2Error::combination(
                "Only one attribute can be modified at a time.",
            ));
        }
    }
    if on_attachment {
        let asked = attachment.ok_or_else(|| Ec2Error::missing("Attachment.AttachmentId"))?;
        let (_, found) = ids::attachment(world, input, asked)?;
        if eni.attachment.as_ref().is_none_or(|own| own.id != found.id) {
            return Err(Ec2Error::no_such_attachment(asked));
        }
        if found.status == AttachmentStatus::Detaching {
            let message = format!("The attachment '{asked}' is being detached.");
            return Err(Ec2Error::client("IncorrectState", message));
        }
    }
    let groups = if groups.is_empty() {
        groups
    } else {
        world.groups_for(&eni.vpc, groups)?
    };

    world.change_eni(&eni.id, |eni| {
        if let Some(description) = description {
            description.clone_into(&mut eni.description);
        }
        if let Some(check) = source_dest_check {
            eni.source_dest_check = check;
        }
        if !groups.is_empty() {
            eni.groups = groups;
        }
        if let (Some(attachment), Some(delete)) = (&mut eni.attachment, delete_on_termination) {
            attachment.delete_on_termination = delete;
        }
    })?;
    Ok(render::done())
}
