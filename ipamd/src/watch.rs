//! Looks now and then whether IMDS shows what the pool holds: somebody else may have taken an address or an ENI.

use std::time::Duration;

use cloud::Metadata;
use ipam::Event;

use crate::engine::Engine;

/// How often. IMDS lags by seconds: what it still shows after so long is no lag.
const EVERY: Duration = Duration::from_secs(30);
/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tells the pool of doubt, once for each sight that does not agree with it twice in a row. EC2 decides then; where it
/// stands by the pool, the same sight is no news.
pub(crate) async fn watch(metadata: Metadata, engine: Engine) {
    let mut doubted = None;
    let mut told = None;
    loop {
        tokio::time::sleep(EVERY).await;
        // It tells when it answers again.
        let Some(seen) = metadata.enis(PATIENCE).await else {
            continue;
        };
        let sight = seen.clone();
        match engine.look(move |state, _| state.agrees_with(&sight)).await {
            Ok(true) => (doubted, told) = (None, None),
            Ok(false) if doubted.as_ref() != Some(&seen) => doubted = Some(seen),
            Ok(false) if told.as_ref() == Some(&seen) => {}
            Ok(false) => {
                tracing::warn!(
                    ?seen,
                    "IMDS shows something else than the pool holds: asking EC2"
                );
                engine.tell(Event::Doubt);
                told = Some(seen);
            }
            Err(_gone) => return,
        }
    }
}
