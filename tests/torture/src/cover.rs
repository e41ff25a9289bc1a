//! What was met, and how often. What was never met was not tested.

use std::collections::BTreeMap;

macro_rules! things_to_meet {
    ($($group:literal { $($name:ident $text:literal)* })*) => {
        /// One thing that a run should meet.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Met { $($($name,)*)* }

        /// All of them, with their group and what people call them.
        const ALL: &[(Met, &str, &str)] = &[$($((Met::$name, $group, $text),)*)*];
    };
}

things_to_meet! {
    "event" {
        EvStart "start" EvAdd "add" EvCancel "cancel" EvDel "del" EvGc "gc" EvWritten "books-written"
        EvFailed "books-failed" EvCallDone "call-done" EvPrepared "node-prepared" EvSetUp "eni-set-up"
        EvTornDown "eni-torn-down" EvRouted "routed" EvUnrouted "unrouted" EvDoubt "doubt" EvGroups "security-groups"
        EvBound "pods-bound" EvDraining "draining" EvSetMode "set-mode" EvWake "wake" EvShutDown "shut-down"
    }
    "call" {
        CallDescribe "describe" CallSubnets "describe-subnets" CallCreate "create" CallAttach "attach" CallDot "delete-on-termination"
        CallGroups "set-groups" CallAssignAddress "assign-address" CallAssignPrefix "assign-prefix" CallAssignIpv6 "assign-ipv6-prefix"
        CallUnassign "unassign" CallDetach "detach" CallDelete "delete" CallOrphansOwn "look-for-own-orphans"
        CallOrphansCluster "look-for-the-clusters-orphans" CallDeleteOrphan "delete-orphan"
    }
    "failed call" {
        KindThrottled "throttled" KindSubnet "subnet-exhausted" KindPrefixes "prefixes-exhausted"
        KindEniLimit "eni-limit" KindAddressLimit "address-limit" KindNotFound "not-found" KindInUse "in-use"
        KindNotReady "instance-not-ready" KindRefused "refused" KindUnavailable "unavailable" KindUnknown "unknown" KindOther "other"
    }
    "fault" {
        FaultServerError "server-error" FaultThrottled "throttled-by-others" FaultCredentials "credentials"
        FaultLatency "latency" FaultHangBefore "hang-before" FaultHangAfter "hang-after"
        FaultResetBefore "reset-before" FaultResetAfter "reset-after" FaultTruncated "reply-truncated"
        FaultTwice "request-done-twice" FaultBucket "bucket-empty" FaultSdkRetry "sdk-retried"
        FaultMismatch "token-with-other-tags" FaultReplyTwice "reply-twice" FaultDisk "disk-full"
        FaultDiskUnsure "disk-failed-after-rename" FaultSlowDisk "disk-slow" FaultHost "kernel-refuses"
        FaultNoLink "link-does-not-come" FaultImdsLags "imds-differs" FaultImdsGone "imds-does-not-answer"
    }
    "from outside" {
        OutSteal "address-stolen" OutUnassign "address-unassigned" OutUnassignAll "all-unassigned"
        OutDetach "eni-detached" OutDelete "eni-deleted" OutStrip "tags-stripped" OutNoManage "no-manage-tagged"
        OutFill "subnet-filled" OutFragment "subnet-fragmented" OutEmpty "subnet-emptied" OutOrphan "orphan-made"
        OutAttach "foreign-eni-attached" OutStick "attach-or-detach-stuck" OutUnstick "unstuck"
        OutGroups "primary-regrouped" OutClock "wall-clock-steps" OutStop "instance-stopped" OutReboot "node-rebooted"
        OutReplace "instance-replaced"
    }
    "crash" {
        CrashIdle "at-rest" CrashBeforeWrite "before-books-are-asked-for" CrashAfterWrite "after-books-are-asked-for"
        CrashBeforeAnswer "before-answer" CrashAfterAnswer "after-answer" CrashBeforeCall "before-call"
        CrashAfterCall "after-call" CrashBeforeHost "before-kernel-change" CrashAfterHost "after-kernel-change"
        CrashWriteLost "books-write-lost" CrashWriteDone "books-write-done-but-not-known"
        CrashCallLost "call-never-arrives" CrashCallArrives "call-takes-effect-later"
        CrashReplyLost "reply-lost" CrashHostDone "kernel-change-done-but-not-known"
        CrashHostLost "kernel-change-not-done" CrashShutDown "orderly-end" CrashLoading "while-loading"
    }
    "books at start" {
        BooksFresh "fresh" BooksFound "found" BooksEmpty "empty" BooksTorn "torn" BooksDamaged "damaged"
        BooksNewer "newer" BooksForeign "foreign" BooksOtherBoot "other-boot" BooksOtherInstance "other-instance"
        BooksLost "lost"
    }
    "kubelet" {
        PodAdd "add" PodAgainWaiting "add-again-while-waiting" PodAgainOwned "add-again-when-owned"
        PodAgainRefused "add-again-after-refusal" PodTimesOut "times-out" PodAnswerMissed "answer-to-nobody"
        PodDel "del" PodDelWaiting "del-while-waiting" PodDelTwice "del-twice" PodDelUnknown "del-of-unknown"
        PodForgotten "forgotten" PodGc "gc" PodCollected "gc-collects" PodSpooled "del-while-down"
        PodAddDown "add-while-down" PodGranted "granted" PodGrantedAgain "granted-again"
        PodDeadline "deadline-reached"
    }
    "refusal" {
        RefPool "pool-exhausted" RefSubnet "subnet-exhausted" RefRefused "ec2-refused" RefThrottled "ec2-throttled"
        RefUnavailable "ec2-unavailable" RefDeadline "deadline-exceeded" RefStarting "starting"
        RefBooks "books-failed" RefEni "eni-failed" RefLost "address-lost" RefDeleted "sandbox-deleted"
        RefShutDown "shutting-down" RefFrozen "pool-frozen"
    }
    "mode" {
        ModeNormal "normal" ModeAllocate "allocate-only" ModeFrozen "frozen"
        ModeEnteredAllocate "allocate-only-by-itself" ModeEnteredFrozen "frozen-by-itself"
        ModeLeft "normal-again-by-itself"
    }
    "address" {
        AdPreparing "preparing" AdFree "free" AdOwned "owned" AdCooling "cooling" AdQuarantined "quarantined"
        AdLeaving "leaving"
    }
    "address to" {
        ToPreparingFree "preparing-free" ToFreeOwned "free-owned" ToOwnedCooling "owned-cooling"
        ToOwnedFree "owned-free" ToCoolingFree "cooling-free" ToFreeLeaving "free-leaving"
        ToLeavingGone "leaving-gone" ToNewPreparing "new-preparing" ToOwnedQuarantined "owned-quarantined"
        ToQuarantinedGone "quarantined-gone" ToQuarantinedCooling "quarantined-cooling"
        ToFreeGone "free-gone" ToFreePreparing "free-preparing" ToPreparingGone "preparing-gone"
        ToQuarantinedOwned "quarantined-owned"
    }
    "eni" {
        EniCreating "creating" EniAttaching "attaching" EniSettingUp "setting-up" EniReady "ready"
        EniDraining "draining" EniUnmanaged "unmanaged" EniFailed "failed"
    }
    "intent" {
        InCreate "create" InAttach "attach" InDot "delete-on-termination" InDetach "detach" InDelete "delete"
        InTombstone "tombstone" InGivenBack "tombstone-given-back"
    }
    "setting" {
        SetV4 "ipv4" SetV6 "ipv6" SetDual "dual" SetDelegation "delegation" SetWarmIp "warm-ip" SetWarmEni "warm-eni"
        SetWarmPrefix "warm-prefix" SetEconomy "economy" SetBalanced "balanced" SetLatency "latency"
        SetMaxPods "max-pods" SetMaxEni "max-eni" SetCards "all-cards" SetSubnets "more-subnets" SetTagged "tagged-subnets"
        SetThrottling "tight-buckets" SetBackwards "reads-go-backwards" SetLag "describe-lag" SetWriteLag "write-lag"
        SetVague "vague-subnet-errors" SetPages "short-pages" SetXen "no-prefixes"
        SetNoSweep "no-sweep" SetSweepOwn "sweep-own" SetSweepCluster "sweep-cluster"
    }
    "quiet" {
        QuietReached "reached" QuietGrants "served-a-pod" QuietFull "had-a-full-node" QuietGroups "had-enis-with-other-groups"
    }
    "excused" {
        ExDisturbed "granted-what-was-taken-and-not-told" ExTagged "touched-what-was-retagged-and-not-told"
        ExBooksLeak "eni-left-by-lost-books" ExOutsideLeak "eni-detached-by-others-left"
        ExGivenUpLeak "eni-left-and-told" ExBooksCooling "cooling-lost-with-the-books"
    }
}

/// How often each was met.
#[derive(Clone, Debug)]
pub(crate) struct Cover {
    counts: Vec<u64>,
}

impl Cover {
    pub(crate) fn new() -> Self {
        Self {
            counts: vec![0; ALL.len()],
        }
    }

    pub(crate) fn met(&mut self, what: Met) {
        self.counts[what as usize] += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
    }

    /// Counts by group and name.
    pub(crate) fn table(&self) -> BTreeMap<&'static str, BTreeMap<&'static str, u64>> {
        let mut table: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for (what, group, name) in ALL {
            table
                .entry(*group)
                .or_default()
                .insert(*name, self.counts[*what as usize]);
        }
        table
    }

    /// What a long run must have met and has not. What is excused need not happen.
    pub(crate) fn missing(&self) -> Vec<String> {
        ALL.iter()
            .filter(|(what, group, _)| *group != "excused" && self.counts[*what as usize] == 0)
            .map(|(_, group, name)| format!("{group}: {name}"))
            .collect()
    }
}
