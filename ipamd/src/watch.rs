//! Looks now and then whether IMDS shows what the pool holds: somebody else may have taken an address or an ENI, or given the
//! primary ENI other security groups.

use std::time::Duration;

use cloud::Metadata;
use ipam::{Event, Mac, SecurityGroupId, SeenEni};

use crate::engine::{Engine, Gone};

/// How often. IMDS lags by seconds: what it still shows after so long is no lag.
const EVERY: Duration = Duration::from_secs(30);
/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What IMDS is watched for.
#[derive(Debug)]
pub(crate) struct Watch {
    metadata: Metadata,
    engine: Engine,
    primary: Mac,
    /// The primary ENI's, as the pool knows them.
    groups: Vec<SecurityGroupId>,
    /// What did not agree with the pool the last time.
    doubted: Option<Vec<SeenEni>>,
    /// What the pool was told of.
    told: Option<Vec<SeenEni>>,
}

impl Watch {
    /// Of a pool that begins with these groups of the primary ENI.
    pub(crate) fn new(
        metadata: Metadata,
        engine: Engine,
        primary: Mac,
        groups: Vec<SecurityGroupId>,
    ) -> Self {
        Self {
            metadata,
            engine,
            primary,
            groups,
            doubted: None,
            told: None,
        }
    }

    /// Watches until the pool is gone.
    pub(crate) async fn run(mut self) {
        loop {
            tokio::time::sleep(EVERY).await;
            self.look_at_groups().await;
            // It tells when it answers again.
            if let Some(seen) = self.metadata.enis(PATIENCE).await
                && self.compare(seen).await.is_err()
            {
                return;
            }
        }
    }

    async fn look_at_groups(&mut self) {
        let groups = self.metadata.security_groups(self.primary, PATIENCE).await;
        if let Some(groups) = groups.filter(|groups| *groups != self.groups) {
            tracing::info!(?groups, "the primary ENI has other security groups");
            self.groups.clone_from(&groups);
            self.engine.tell(Event::SecurityGroups(groups));
        }
    }

    /// Tells the pool of doubt, once for each sight that does not agree with it twice in a row. EC2 decides then; where it
    /// stands by the pool, the same sight is no news.
    async fn compare(&mut self, seen: Vec<SeenEni>) -> Result<(), Gone> {
        let sight = seen.clone();
        let look = move |state: &ipam::State, _| state.agrees_with(&sight);
        if self.engine.look(look).await? {
            (self.doubted, self.told) = (None, None);
        } else if self.doubted.as_ref() != Some(&seen) {
            self.doubted = Some(seen);
        } else if self.told.as_ref() != Some(&seen) {
            tracing::warn!(
                ?seen,
                "IMDS shows something else than the pool holds: asking EC2"
            );
            self.engine.tell(Event::Doubt);
            self.told = Some(seen);
        }
        Ok(())
    }
}
