//! What went wrong in systems of this kind, by the public thread that tells of it; here it must go right.
//!
//! `#N` is an issue or pull request of aws/amazon-vpc-cni-k8s; others have their repository's name.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::look::{carry_out, full, granted, is_call, one_eni_too_many, only, refused};
use super::world::{COOLDOWN, Fate, World, fresh, node, sandbox, settings, targets};
use crate::*;

mod growth;
mod late_views;
mod lifecycle;
mod one_owner;
mod orphans;
mod truth;

fn described(world: &World) -> usize {
    called(world, "DescribeNetworkInterfaces")
}

fn called(world: &World, action: &str) -> usize {
    let calls = world.asked.iter();
    calls.filter(|call| call.action() == action).count()
}

fn address(world: &World, request: RequestId) -> IpAddr {
    only(&granted(world, request)).address
}

fn warm(warm: WarmTargets) -> Settings {
    settings(Families::V4, false, Warm::Targets(warm))
}

/// All is well for so many minutes.
fn minutes(world: &mut World, minutes: u32) {
    for _ in 0..minutes * 12 {
        world.calm();
        world.advance(5_000);
    }
    world.calm();
}

/// Answers the Describe that is to be done with this view of EC2.
fn describe(world: &mut World, view: &[EniFacts]) {
    let is_describe = |effect: &Effect| is_call(effect, "DescribeNetworkInterfaces");
    let at = world.todo.iter().position(is_describe).unwrap();
    let Effect::Call(call, _) = world.todo.remove(at) else {
        unreachable!()
    };
    let outcome = Ok(CallReply::Enis(view.to_vec()));
    world.step(Event::CallDone { call, outcome });
}

/// A pool that gave addresses back a moment ago; what they were; what IMDS and EC2 showed before.
struct GaveBack {
    world: World,
    gone: Vec<IpNet>,
    seen: Vec<SeenEni>,
    facts: EniFacts,
}

fn gave_back() -> GaveBack {
    let mut world = World::started(targets(1, 0));
    for n in 0..2 {
        world.add(n, 60_000);
    }
    world.calm();
    let (seen, facts) = (world.seen(), world.eni("eni-0").clone());
    for n in 0..2 {
        world.del(n);
    }
    world.go_on_until(|world| world.held_by_ec2() == 1);
    world.calm();
    let left = world.eni("eni-0").slots.clone();
    let mut gone = facts.slots.clone();
    gone.retain(|net| !left.contains(net));
    assert_eq!((left.len(), gone.len()), (1, 2));
    GaveBack {
        world,
        gone,
        seen,
        facts,
    }
}

/// An ENI that is attached to the instance and that the books do not know.
fn attach(world: &mut World, managed: bool, device_index: u32) -> EniId {
    let eni = world.make_eni(None, Some((SlotKind::Address, 2)), 0).id;
    let facts = world.eni(eni.as_str());
    facts.managed = managed;
    facts.attachment = Some(Attachment {
        id: AttachmentId::new(format!("attach-{eni}")),
        place: Place {
            card: 0,
            device_index,
        },
        complete: true,
        delete_on_termination: managed,
    });
    eni
}
