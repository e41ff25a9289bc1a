//! Branch interfaces on trunk interfaces: one link that carries many ENIs.

use super::{Eni, EniKind, World};
use crate::error::Result;
use crate::ids::{EniId, TrunkAssociationId};

/// A branch on its trunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrunkAssociation {
    /// `trunk-assoc-...`
    pub id: TrunkAssociationId,
    /// The ENI that hangs on the trunk.
    pub branch: EniId,
    /// The ENI that the instance has.
    pub trunk: EniId,
    /// How the branch's packets are told from others' on the trunk.
    pub key: TrunkKey,
}

/// What is on the packets of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TrunkKey {
    /// A VLAN id: 1 to 4094.
    Vlan(u16),
    /// A GRE key.
    Gre(u32),
}

impl World {
    /// The branches of a trunk.
    pub fn branches<'w>(
        &'w self,
        trunk: &'w EniId,
    ) -> impl Iterator<Item = &'w TrunkAssociation> + 'w {
        let all = self.trunk_associations.values();
        all.filter(move |association| association.trunk == *trunk)
    }

    /// Hangs a branch on a trunk: it becomes a branch, and is in use.
    pub(crate) fn associate_trunk(&mut self, association: TrunkAssociation) -> Result<()> {
        self.change_eni(&association.branch, |branch| {
            branch.kind = EniKind::Branch;
            branch.trunk = Some(association.trunk.clone());
        })?;
        self.trunk_associations
            .insert(association.id.clone(), association);
        Ok(())
    }

    /// Takes a branch off its trunk: it is available.
    pub(crate) fn disassociate_trunk(&mut self, id: &TrunkAssociationId) {
        if let Some(association) = self.trunk_associations.remove(id) {
            let branch = &association.branch;
            drop(self.change_eni(branch, |branch| branch.trunk = None));
        }
    }

    /// What hangs on an ENI that is gone, or what it hung on.
    pub(super) fn forget_trunk(&mut self, eni: &Eni) {
        if eni.trunk.is_none() && eni.kind != EniKind::Trunk {
            return;
        }
        let all = self.trunk_associations.values();
        let over: Vec<TrunkAssociationId> = all
            .filter(|association| [&association.branch, &association.trunk].contains(&&eni.id))
            .map(|association| association.id.clone())
            .collect();
        over.iter().for_each(|id| self.disassociate_trunk(id));
    }
}
