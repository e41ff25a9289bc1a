//! The steps that histories are made of.

use proptest::prelude::*;

use super::ledger::Reserved;

#[derive(Clone, Debug)]
pub(super) enum Step {
    Create {
        addresses: usize,
        ipv6: usize,
    },
    CreateWithPrefixes {
        prefixes: usize,
        ipv6: usize,
    },
    Assign {
        eni: usize,
        count: usize,
    },
    AssignThis {
        eni: usize,
        host: u8,
        may_move: bool,
    },
    AssignPrefixes {
        eni: usize,
        count: usize,
    },
    AssignPrefix {
        eni: usize,
        first: u8,
    },
    Unassign {
        eni: usize,
        which: usize,
    },
    UnassignPrefix {
        eni: usize,
        which: usize,
    },
    Assign6 {
        eni: usize,
        count: usize,
    },
    Assign6This {
        eni: usize,
        block: u16,
        host: u16,
    },
    Assign6Prefixes {
        eni: usize,
        count: usize,
    },
    Assign6Prefix {
        eni: usize,
        block: u16,
    },
    Unassign6 {
        eni: usize,
        which: usize,
    },
    Unassign6Prefix {
        eni: usize,
        which: usize,
    },
    Reserve {
        part: Reserved,
    },
    Unreserve {
        which: usize,
    },
    Run {
        nics: usize,
        ask: Nic,
        stay: bool,
    },
    Terminate {
        instance: usize,
    },
    Attach {
        eni: usize,
        instance: usize,
        index: u32,
    },
    Detach {
        eni: usize,
    },
    Delete {
        eni: usize,
    },
    Pass {
        millis: u64,
    },
}

/// What each interface of RunInstances asks for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Nic {
    Addresses(usize),
    Prefixes(usize),
    Ipv6(usize),
    Ipv6Prefixes(usize),
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let eni = || 0..6_usize;
    let (few, which, block6) = (1..3_usize, 0..9_usize, || {
        prop_oneof![0..6_u16, Just(0xffff)]
    });
    let part = (
        prop_oneof![
            Just((0, 16)),
            Just((16, 16)),
            Just((32, 16)),
            Just((16, 8)),
            Just((32, 32)),
            Just((60, 8))
        ],
        any::<bool>(),
    );
    let nic = prop_oneof![
        (0..11_usize).prop_map(Nic::Addresses),
        few.clone().prop_map(Nic::Prefixes),
        (1..12_usize).prop_map(Nic::Ipv6),
        few.clone().prop_map(Nic::Ipv6Prefixes),
    ];
    let ipv4 = prop_oneof![
        3 => (0..6_usize, 0..3_usize).prop_map(|(addresses, ipv6)| Step::Create { addresses, ipv6 }),
        1 => (few.clone(), 0..3_usize).prop_map(|(prefixes, ipv6)| Step::CreateWithPrefixes { prefixes, ipv6 }),
        3 => (eni(), 1..8_usize).prop_map(|(eni, count)| Step::Assign { eni, count }),
        3 => (eni(), 0..70_u8, any::<bool>()).prop_map(|(eni, host, may_move)| Step::AssignThis { eni, host, may_move }),
        2 => (eni(), few.clone()).prop_map(|(eni, count)| Step::AssignPrefixes { eni, count }),
        1 => (eni(), 0..5_u8).prop_map(|(eni, first)| Step::AssignPrefix { eni, first: first * 16 }),
        2 => (eni(), which.clone()).prop_map(|(eni, which)| Step::Unassign { eni, which }),
        1 => (eni(), 0..3_usize).prop_map(|(eni, which)| Step::UnassignPrefix { eni, which }),
    ];
    let ipv6 = prop_oneof![
        (eni(), 1..8_usize).prop_map(|(eni, count)| Step::Assign6 { eni, count }),
        (eni(), block6(), 0..7_u16).prop_map(|(eni, block, host)| Step::Assign6This {
            eni,
            block,
            host
        }),
        (eni(), few).prop_map(|(eni, count)| Step::Assign6Prefixes { eni, count }),
        (eni(), block6()).prop_map(|(eni, block)| Step::Assign6Prefix { eni, block }),
        (eni(), 0..4_usize).prop_map(|(eni, which)| Step::Unassign6 { eni, which }),
        (eni(), 0..2_usize).prop_map(|(eni, which)| Step::Unassign6Prefix { eni, which }),
    ];
    let rest = prop_oneof![
        2 => part.prop_map(|((first, size), for_prefixes)| Step::Reserve { part: Reserved { first, size, for_prefixes } }),
        1 => (0..2_usize).prop_map(|which| Step::Unreserve { which }),
        2 => (1..5_usize, nic, any::<bool>()).prop_map(|(nics, ask, stay)| Step::Run { nics, ask, stay }),
        1 => (0..3_usize).prop_map(|instance| Step::Terminate { instance }),
        3 => (eni(), 0..2_usize, 0..4_u32).prop_map(|(eni, instance, index)| Step::Attach { eni, instance, index }),
        1 => eni().prop_map(|eni| Step::Detach { eni }),
        2 => eni().prop_map(|eni| Step::Delete { eni }),
        3 => (0..4000_u64).prop_map(|millis| Step::Pass { millis }),
    ];
    prop_oneof![4 => ipv4, 3 => ipv6, 3 => rest]
}
