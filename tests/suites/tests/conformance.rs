//! Whether a simulated EC2 does what EC2 does: one list of checks, run on `aws-sim`, LocalStack and moto through the
//! real SDK.
//!
//! On `aws-sim` every check must pass, each in a world of its own. On the other two, the rows that differ must be those
//! in `conformance/differences.tsv`: an independent look at the same wire format, and a list of what to know before
//! one trusts a test on them. A second list of checks looks at what only `aws-sim` has: clocks, faults, metadata.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests fail by panicking; without libtest's harness clippy does not see that these are tests"
)]
#![expect(
    clippy::redundant_closure_for_method_calls,
    reason = "`|state| state.as_str()` says it; the SDK has a type for every field, each with a name to import"
)]

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::anyhow;
use libtest_mimic::{Arguments, Trial};
use tokio::runtime::Runtime;

use vpc_lab::sandbox;

use check::{Check, Difference};
use peers::Peer;
use world::Inside;

#[path = "conformance/accounts.rs"]
mod accounts;
#[path = "conformance/assign.rs"]
mod assign;
#[path = "conformance/attach.rs"]
mod attach;
#[path = "conformance/check.rs"]
mod check;
#[path = "conformance/create.rs"]
mod create;
#[path = "conformance/describe.rs"]
mod describe;
#[path = "conformance/differences.rs"]
mod differences;
#[path = "conformance/ec2.rs"]
mod ec2;
#[path = "conformance/end.rs"]
mod end;
#[path = "conformance/events.rs"]
mod events;
#[path = "conformance/faults.rs"]
mod faults;
#[path = "conformance/http.rs"]
mod http;
#[path = "conformance/imds.rs"]
mod imds;
#[path = "conformance/instances.rs"]
mod instances;
#[path = "conformance/ipv6.rs"]
mod ipv6;
#[path = "conformance/metadata.rs"]
mod metadata;
#[path = "conformance/modify.rs"]
mod modify;
#[path = "localstack/moto.rs"]
mod moto;
#[path = "conformance/networks.rs"]
mod networks;
#[path = "conformance/peers.rs"]
mod peers;
#[path = "conformance/prefixes.rs"]
mod prefixes;
#[path = "conformance/refusals.rs"]
mod refusals;
#[path = "conformance/reservations.rs"]
mod reservations;
#[path = "localstack/server.rs"]
mod server;
#[path = "conformance/tags.rs"]
mod tags;
#[path = "conformance/throttling.rs"]
mod throttling;
#[path = "conformance/trunks.rs"]
mod trunks;
#[path = "conformance/types.rs"]
mod types;
#[path = "localstack/venv.rs"]
mod venv;
#[path = "conformance/views.rs"]
mod views;
#[path = "conformance/wire.rs"]
mod wire;
#[path = "conformance/world.rs"]
mod world;

/// All checks that run on any target.
fn checks() -> Vec<Check> {
    [
        networks::table(),
        types::table(),
        instances::table(),
        create::table(),
        refusals::table(),
        attach::table(),
        modify::table(),
        describe::table(),
        assign::table(),
        ipv6::table(),
        reservations::table(),
        tags::table(),
        end::table(),
        wire::table(),
        metadata::table(),
        instances::statements(),
        refusals::statements(),
        attach::statements(),
        modify::statements(),
        describe::statements(),
        assign::statements(),
        prefixes::statements(),
        ipv6::statements(),
        reservations::statements(),
        tags::statements(),
        trunks::statements(),
        end::statements(),
        wire::statements(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Those that look inside, for `aws-sim` alone.
fn insides() -> Vec<Inside> {
    [
        views::checks(),
        throttling::checks(),
        imds::checks(),
        events::checks(),
        faults::checks(),
        accounts::checks(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They wait for states more than they work.
    arguments.test_threads.get_or_insert(8);
    let missing = if arguments.list {
        Vec::new()
    } else {
        prepare()
    };
    // After the sandbox: it must be entered before there is any thread.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map(Arc::new)
        .expect("a runtime");
    if std::env::var_os("CONFORMANCE_WRITE").is_some() {
        return write(missing);
    }
    let any = checks().into_iter().map(world::as_is);
    let mut trials: Vec<_> = any
        .chain(insides())
        .map(|inside| on_aws_sim(&runtime, inside))
        .collect();
    trials.push(Trial::test(
        "each_row_has_a_name_of_its_own",
        names_are_unique,
    ));
    trials.push(Trial::test(
        "the_readme_has_the_table_of_differences",
        || differences::compare_readme(&checks()).map_err(|error| format!("{error:#}").into()),
    ));
    for peer in Peer::ALL {
        let trial = Trial::test(format!("{peer:?}_differs_where_it_is_listed"), move || {
            let found = peer.differences(&checks());
            let compared = found.and_then(|found| differences::compare(peer, &found));
            compared.map_err(|error| format!("{error:#}").into())
        });
        let reason = missing.iter().find(|(missing, _)| *missing == peer);
        if let Some((_, why)) = reason {
            println!("SKIPPED conformance::{}: {why:#}", trial.name());
        }
        trials.push(trial.with_ignored_flag(reason.is_some()));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Installs the other simulators, and then enters the sandbox, from within which their packages are out of reach.
/// Answers those that can't be had, and why.
fn prepare() -> Vec<(Peer, anyhow::Error)> {
    let installed = Peer::ALL.map(|peer| (peer, peer.install()));
    let entered = sandbox::enter();
    let could = installed.into_iter().map(|(peer, installed)| {
        let entered = entered.as_ref().map_err(|error| anyhow!("{error:#}"));
        (peer, installed.and(entered.copied()))
    });
    could
        .filter_map(|(peer, could)| Some((peer, could.err()?)))
        .collect()
}

/// Writes the list of differences and the README's table anew.
fn write(missing: Vec<(Peer, anyhow::Error)>) -> ExitCode {
    let written = match missing.into_iter().next() {
        Some((_, why)) => Err(why),
        None => {
            let all = checks();
            let [moto, localstack] = Peer::ALL.map(|peer| peer.differences(&all));
            moto.and_then(|moto| differences::write(&all, &moto, &localstack?))
        }
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn names_are_unique() -> Result<(), libtest_mimic::Failed> {
    let mut seen = BTreeSet::new();
    let inside = insides().into_iter().map(|inside| inside.check);
    for check in checks().into_iter().chain(inside) {
        if !seen.insert(check.row) {
            return Err(format!("{} is there twice", check.row).into());
        }
    }
    Ok(())
}

/// A trial of a check, in a world of its own.
fn on_aws_sim(runtime: &Arc<Runtime>, inside: Inside) -> Trial {
    let runtime = Arc::clone(runtime);
    let Inside { check, config } = inside;
    Trial::test(check.row.replace(' ', "_"), move || {
        let outcome = runtime.block_on(async {
            let mut world = world::config();
            config(&mut world);
            let ec2 = world::serve(world)?;
            (check.run)(&ec2).await?;
            let sound = ec2.sim().look(|world, _| world.check_invariants());
            sound.map_err(|broken| Difference(format!("aws-sim is broken: {broken}")))
        });
        outcome.map_err(|difference| {
            format!("{difference}\nEC2: {} ({})", check.says, check.source).into()
        })
    })
}
