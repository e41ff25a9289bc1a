//! Trunk and branch interfaces, and permissions for other accounts.

use aws_sdk_ec2::types::{InterfacePermissionType, NetworkInterfaceCreationType};

use crate::check::{Check, MustFail as _, Need as _, Outcome, check, holds, same};
use crate::ec2::{Ec2, Place};

/// An ENI of this type.
async fn eni_of(ec2: &Ec2, place: &Place, kind: NetworkInterfaceCreationType) -> Outcome<String> {
    let made = ec2
        .sdk
        .create_network_interface()
        .subnet_id(&place.subnet)
        .interface_type(kind);
    let made = made
        .send()
        .await?
        .network_interface
        .and_then(|eni| eni.network_interface_id);
    let id = made.need("ENI")?;
    ec2.eni_is(&id, "available").await?;
    Ok(id)
}

pub(crate) fn statements() -> Vec<Check> {
    vec![
        check!(
            "Trunk.a branch hangs on a trunk",
            "A branch is associated with a trunk under a VLAN, is described so, and can be taken off again.",
            "D API_AssociateTrunkInterface, API_DescribeTrunkInterfaceAssociations",
            |ec2| {
                let place = ec2.place().await?;
                let trunk = eni_of(ec2, &place, NetworkInterfaceCreationType::Trunk).await?;
                let branch = eni_of(ec2, &place, NetworkInterfaceCreationType::Branch).await?;
                let made = ec2
                    .sdk
                    .associate_trunk_interface()
                    .trunk_interface_id(&trunk);
                let made = made.branch_interface_id(&branch).vlan_id(7).send().await?;
                let made = made.interface_association.need("association")?;
                let id = made.association_id().need("associationId")?;
                holds(id.starts_with("trunk-assoc-"), id)?;
                let found = ec2
                    .sdk
                    .describe_trunk_interface_associations()
                    .association_ids(id);
                let found = found.send().await?;
                let found = found.interface_associations().first().need("association")?;
                same("trunk", found.trunk_interface_id(), Some(trunk.as_str()))?;
                same("branch", found.branch_interface_id(), Some(branch.as_str()))?;
                same("VLAN", found.vlan_id(), Some(7))?;
                ec2.sdk
                    .disassociate_trunk_interface()
                    .association_id(id)
                    .send()
                    .await?;
                let left = ec2
                    .sdk
                    .describe_trunk_interface_associations()
                    .send()
                    .await?;
                let left = left.interface_associations().iter();
                same(
                    "left",
                    left.filter(|known| known.association_id() == Some(id))
                        .count(),
                    0,
                )?;
            }
        ),
        check!(
            "Trunk.a VLAN is one branch's",
            "A VLAN of a trunk that is taken is refused.",
            "D API_AssociateTrunkInterface; R the code",
            |ec2| {
                let place = ec2.place().await?;
                let trunk = eni_of(ec2, &place, NetworkInterfaceCreationType::Trunk).await?;
                for taken in [false, true] {
                    let branch = eni_of(ec2, &place, NetworkInterfaceCreationType::Branch).await?;
                    let made = ec2
                        .sdk
                        .associate_trunk_interface()
                        .trunk_interface_id(&trunk);
                    let made = made.branch_interface_id(&branch).vlan_id(7).send().await;
                    if taken {
                        let refusal = made.refusal()?;
                        holds(!refusal.code.is_empty(), &refusal)?;
                    } else {
                        made?;
                    }
                }
            }
        ),
        check!(
            "Permission.for another account",
            "An account may be given the right to attach an ENI; the permission is granted.",
            "D API_CreateNetworkInterfacePermission",
            |ec2| {
                let place = ec2.place().await?;
                let eni = ec2.eni(&place.subnet).await?;
                let made = ec2
                    .sdk
                    .create_network_interface_permission()
                    .network_interface_id(&eni);
                let made = made.aws_account_id("444455556666");
                let made = made
                    .permission(InterfacePermissionType::InstanceAttach)
                    .send()
                    .await?;
                let made = made.interface_permission.need("permission")?;
                same("ENI", made.network_interface_id(), Some(eni.as_str()))?;
                same("account", made.aws_account_id(), Some("444455556666"))?;
                let state = made.permission_state().and_then(|state| state.state());
                same("state", state.map(|state| state.as_str()), Some("granted"))?;
            }
        ),
    ]
}
