//! What pods hold, as it stands in the file. An ADD changes one line of hundreds, so the others are kept from write to
//! write.

use std::sync::Arc;

use ipam::GrantEntry;
use serde_json::value::{RawValue, to_raw_value};

/// The entries that were written last, each with its line.
#[derive(Debug, Default)]
pub(crate) struct GrantLines(Vec<(Arc<GrantEntry>, Box<RawValue>)>);

impl GrantLines {
    /// The lines of these entries. An entry that is the very same as the last time is not written anew; they are
    /// found as both lists are in order of the sandboxes.
    pub(crate) fn of(
        &mut self,
        grants: &[Arc<GrantEntry>],
    ) -> Result<Vec<&RawValue>, serde_json::Error> {
        let mut before = std::mem::take(&mut self.0).into_iter().peekable();
        self.0.reserve(grants.len());
        for grant in grants {
            let same = |it: &(Arc<GrantEntry>, _)| Arc::ptr_eq(&it.0, grant);
            while before
                .next_if(|it| !same(it) && it.0.sandbox <= grant.sandbox)
                .is_some()
            {}
            let kept = before.next_if(same);
            let kept = kept.map_or_else(|| Ok((grant.clone(), to_raw_value(grant)?)), Ok);
            self.0.push(kept?);
        }
        Ok(self.0.iter().map(|(_, line)| line.as_ref()).collect())
    }
}
