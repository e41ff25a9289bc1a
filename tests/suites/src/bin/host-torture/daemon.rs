//! ipamd's own life: it is ended, stays away for a while, and comes again.

use std::time::{Duration, Instant};

use suites::node::Node;

use crate::random::Random;
use crate::world::World;

/// It lives for so long at the most; sometimes for hardly any time at all.
const LIFE: Duration = Duration::from_secs(5);
/// And is away for so long at the most.
const AWAY: Duration = Duration::from_millis(1500);

pub(crate) async fn run(
    world: &World<'_>,
    node: &mut Node<'_>,
    mut random: Random,
    over: Instant,
) -> anyhow::Result<()> {
    while Instant::now() < over && !world.is_broken() {
        tokio::time::sleep(random.up_to(LIFE)).await;
        world.ends();
        if random.percent(50) {
            world.tell("ipamd: SIGTERM");
            world.met("ipamd: SIGTERM");
            node.stop_ipamd().await?;
        } else {
            world.tell("ipamd: SIGKILL");
            world.met("ipamd: SIGKILL");
            node.kill_ipamd();
        }
        if random.percent(70) {
            tokio::time::sleep(random.up_to(AWAY)).await;
        }
        if random.percent(20) {
            // Killed in the middle of its start.
            world.starts();
            node.launch_ipamd()?;
            tokio::time::sleep(random.up_to(Duration::from_millis(400))).await;
            world.met("ipamd: SIGKILL as it starts");
            world.tell("ipamd: SIGKILL as it starts");
            node.kill_ipamd();
        }
        start(world, node).await?;
    }
    Ok(())
}

/// Starts it and waits until it serves.
pub(crate) async fn start(world: &World<'_>, node: &mut Node<'_>) -> anyhow::Result<()> {
    let hurts = world.starts();
    node.start_ipamd().await?;
    world.tell("ipamd: serves");
    world.serves(hurts);
    Ok(())
}
