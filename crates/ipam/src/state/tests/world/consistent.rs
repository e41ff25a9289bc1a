//! What the pool shows, counts and announces of itself must fit together.

use super::World;
use crate::*;

/// Longer than anything that the pool waits for by itself.
const LONG: u64 = 1_000_000;

impl World {
    pub(super) fn assert_consistent(&self, view: &PoolView) {
        self.assert_adds_up(view);
        self.assert_summary_is_right();
        self.assert_sleeps_until_woken();
        self.assert_ready_if_an_add_is_not_refused();
    }

    /// The totals are those of what is listed, and what is said to be ready is so.
    fn assert_adds_up(&self, view: &PoolView) {
        let (mut ipv4, mut ipv6) = (Totals::default(), Totals::default());
        for eni in &view.enis {
            for slot in &eni.slots {
                let kind = SlotKind::of(&slot.slot);
                let totals = match kind.family() {
                    Family::V4 => &mut ipv4,
                    Family::V6 => &mut ipv6,
                };
                // EC2 has taken it away; or only the books name it yet.
                let lost = slot.state == AddressState::Quarantined;
                let unconfirmed = eni.mac.is_none() || self.is_loading();
                let others = if lost || unconfirmed {
                    0
                } else {
                    kind.size() - slot.claimed
                };
                if !lost {
                    totals.held += slot.claimed + others;
                }
                if kind != SlotKind::Address {
                    *count(totals, slot.state) += others;
                }
                let listed = eni.addresses.iter();
                let listed =
                    listed.filter(|it| it.prefix.unwrap_or(it.address.into()) == slot.slot);
                let mut claimed = 0;
                for it in listed {
                    assert_eq!(it.prefix.is_some(), kind != SlotKind::Address);
                    let is_claimed = it.owner.is_some()
                        || it.until.is_some()
                        || it.state == AddressState::Quarantined;
                    claimed += u64::from(is_claimed);
                    if is_claimed || others > 0 {
                        *count(totals, it.state) += 1;
                    }
                    self.assert_listed_rightly(it);
                }
                assert_eq!(claimed, slot.claimed, "{slot:?}");
                if slot.state == AddressState::Free {
                    let id = eni.id.clone().expect("an ENI with slots has an id");
                    assert_eq!(eni.state, EniState::Ready);
                    assert!(
                        self.routed.contains(&(id, slot.slot)),
                        "free, and not routed"
                    );
                }
            }
        }
        assert_eq!((view.ipv4, view.ipv6), (ipv4, ipv6));
    }

    fn assert_listed_rightly(&self, it: &AddressView) {
        let theirs = it.owner.as_ref().and_then(|owner| self.owned.get(owner));
        match it.state {
            AddressState::Owned => assert!(it.owner.is_some() && it.until.is_none(), "{it:?}"),
            AddressState::Cooling => {
                assert!(
                    it.until
                        .is_some_and(|until| until > Time(self.now) || self.is_loading()),
                    "{it:?}"
                );
            }
            AddressState::Quarantined => {}
            _ => assert!(it.owner.is_none() && it.until.is_none(), "{it:?}"),
        }
        if let (AddressState::Owned, Some((addresses, _))) = (it.state, theirs) {
            assert!(addresses.contains(&it.address), "{it:?}");
        }
    }

    /// What is known without a look at each ENI is what a look at each would say.
    fn assert_summary_is_right(&self) {
        let waiters = self.state.waiting();
        let (facts, summary) = (self.state.facts(waiters), self.state.summary(waiters));
        assert_eq!((summary.ipv4, summary.ipv6), (facts.ipv4, facts.ipv6));
        let rest = |facts: &Facts| (facts.waiters, facts.bound, facts.draining, facts.mode);
        assert_eq!(waiters as usize, self.state.waiters().len());
        assert_eq!(rest(&summary), rest(&facts));
    }

    /// Until the moment that it asked to be woken at, time changes nothing.
    fn assert_sleeps_until_woken(&self) {
        let before = self.wake.map_or(self.now + LONG, |wake| wake - 1);
        if before <= self.now {
            return;
        }
        let mut sleeper = self.state.clone();
        let effects = sleeper.step(Time(before), Event::Wake);
        let wakes = |effect: &Effect| matches!(effect, Effect::WakeAt(_));
        assert!(
            effects.iter().all(wakes),
            "{effects:?} at {before}, and it did not ask to be woken"
        );
        assert_eq!(sleeper.view(), self.state.view(), "at {before}");
    }

    /// An ADD that can't wait for anything but growth is refused just when the pool is not ready, and for that reason.
    fn assert_ready_if_an_add_is_not_refused(&self) {
        let mut asked = self.state.clone();
        let request = RequestId(u64::MAX);
        let effects = asked.step(
            Time(self.now),
            Event::Add(AddRequest {
                request,
                sandbox: super::sandbox(u32::MAX),
                pod: Pod::default(),
                network: "aws-cni".to_owned(),
                netns: String::new(),
                deadline: Time(self.now + 1),
            }),
        );
        let refusal = effects.into_iter().find_map(|effect| match effect {
            Effect::Answer(of, Answer::Refused(refusal)) if of == request => Some(refusal),
            _ => None,
        });
        match (self.state.readiness(Time(self.now)), refusal) {
            (Ok(()), None) => {}
            // An ADD tries the disk once more, and waits for the start.
            (Err(why), _) if why.reason == Reason::BooksFailed => {}
            (Err(why), None) => assert!(self.is_loading(), "it is not refused: {why:?}"),
            (ready, Some(refusal)) => assert_eq!(ready, Err(refusal)),
        }
    }

    fn is_loading(&self) -> bool {
        self.state.phase != crate::state::Phase::Running
    }
}

fn count(totals: &mut Totals, state: AddressState) -> &mut u64 {
    match state {
        AddressState::Preparing => &mut totals.preparing,
        AddressState::Free => &mut totals.free,
        AddressState::Owned => &mut totals.owned,
        AddressState::Cooling => &mut totals.cooling,
        AddressState::Quarantined => &mut totals.quarantined,
        AddressState::Leaving => &mut totals.leaving,
    }
}
