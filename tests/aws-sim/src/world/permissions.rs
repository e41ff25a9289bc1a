//! Permissions for other accounts to use an ENI.

use super::World;
use crate::ids::{EniId, EniPermissionId};

/// What an account may do with an ENI of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EniPermission {
    /// `eni-perm-...`
    pub id: EniPermissionId,
    /// The ENI.
    pub eni: EniId,
    /// Who may.
    pub account: String,
    /// What it may.
    pub kind: PermissionKind,
}

/// EC2's `InterfacePermissionType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermissionKind {
    /// Attach it to an instance.
    InstanceAttach,
    /// Associate an Elastic IP address with it.
    EipAssociate,
}

impl PermissionKind {
    /// Both.
    pub const ALL: [PermissionKind; 2] =
        [PermissionKind::InstanceAttach, PermissionKind::EipAssociate];

    /// EC2's name for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            PermissionKind::InstanceAttach => "INSTANCE-ATTACH",
            PermissionKind::EipAssociate => "EIP-ASSOCIATE",
        }
    }
}

impl World {
    /// The permissions to use an ENI go with it.
    pub(super) fn forget_permissions(&mut self, eni: &EniId) {
        self.eni_permissions
            .retain(|_, permission| permission.eni != *eni);
    }
}
