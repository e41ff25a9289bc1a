//! What a run says at its end.

use std::process::ExitCode;

use serde_json::json;

use super::Totals;
use crate::fleet::SAMPLED;
use crate::{Args, Output};

/// A shorter run need not have met everything.
const MEETS_ALL: u64 = 5_000_000;

pub(super) fn tell(args: &Args, totals: &Totals, seconds: f64) -> anyhow::Result<ExitCode> {
    let missing = if totals.steps >= MEETS_ALL && totals.failure.is_none() {
        totals.cover.missing()
    } else {
        Vec::new()
    };
    let failed = totals.failure.is_some() || !missing.is_empty();
    match args.output {
        Output::Json => json(args, totals, seconds, &missing)?,
        Output::Text => text(args, totals, seconds, &missing),
    }
    Ok(ExitCode::from(u8::from(failed)))
}

fn per_second(totals: &Totals, seconds: f64) -> u64 {
    let millis = std::time::Duration::from_secs_f64(seconds).as_millis();
    let millis = u64::try_from(millis).unwrap_or(u64::MAX).max(1);
    totals.steps * 1000 / millis
}

/// What the pools alone would do, by the steps that were timed.
fn pools_per_second(totals: &Totals) -> u64 {
    let nanos = u64::try_from(totals.pools_took.as_nanos()).unwrap_or(u64::MAX);
    (totals.steps / SAMPLED).saturating_mul(1_000_000_000) / nanos.max(1)
}

fn json(args: &Args, totals: &Totals, seconds: f64, missing: &[String]) -> anyhow::Result<()> {
    let failure = totals.failure.as_ref().map(|failure| {
        json!({
            "world": failure.world,
            "rule": failure.broken.rule,
            "what": failure.broken.what,
            "acts": failure.short.iter().map(|(_, act)| format!("{act:?}")).collect::<Vec<_>>(),
            "story": failure.story,
        })
    });
    let all = json!({
        "seed": args.seed,
        "worlds": totals.worlds,
        "steps": totals.steps,
        "steps-per-second": per_second(totals, seconds),
        "steps-per-second-of-the-pools-alone": pools_per_second(totals),
        "trace": format!("{:016x}", totals.hash),
        "most-calls-of-a-node-in-a-minute": totals.most_calls,
        "met": totals.cover.table(),
        "never-met": missing,
        "failure": failure,
    });
    println!("{}", serde_json::to_string_pretty(&all)?);
    Ok(())
}

fn text(args: &Args, totals: &Totals, seconds: f64, missing: &[String]) {
    for (group, counts) in totals.cover.table() {
        println!("{group}");
        for (name, count) in counts {
            println!("  {count:>12}  {name}");
        }
    }
    if let Some(failure) = &totals.failure {
        println!("\nrule {}: {}", failure.broken.rule, failure.broken.what);
        println!(
            "of {} things that happened, these {} are enough:",
            failure.acts,
            failure.short.len()
        );
        for (_, act) in &failure.short {
            println!("  {act:?}");
        }
        println!("what happened then:");
        for line in &failure.story {
            println!("  {line}");
        }
        let nodes = args.nodes.map(|nodes| format!(" --nodes {nodes}"));
        println!(
            "again: cargo xtask torture --world {}{}",
            failure.world,
            nodes.unwrap_or_default()
        );
    }
    for name in missing {
        println!("never met: {name}");
    }
    println!(
        "\ntorture: seed {}, {} worlds, {} steps in {seconds:.1} s ({} steps/s; the pools alone, on one \
         core: {} steps/s), trace {:016x}, at most {} calls of a node in a minute: {}",
        args.seed,
        totals.worlds,
        totals.steps,
        per_second(totals, seconds),
        pools_per_second(totals),
        totals.hash,
        totals.most_calls,
        match (&totals.failure, missing) {
            (Some(_), _) => "BROKEN".to_owned(),
            (None, []) => "all promises kept".to_owned(),
            (None, missing) => format!("{} things never met", missing.len()),
        }
    );
}
