//! The pool's own data as the contract's.

use ipam::{
    AddressState, AddressView, Dial, EniState, EniView, Grant, PendingCallView, Pod, PoolView,
    Sandbox, SlotKind, WaiterView, Warm,
};
use proto::v1;

use crate::clock::Calendar;
use crate::effects::at;

pub(super) fn pod_addresses(grant: &Grant) -> Vec<v1::PodAddress> {
    let addresses = grant.addresses.iter().map(|it| v1::PodAddress {
        address: it.address.to_string(),
        eni_id: it.eni.to_string(),
        device_index: it.place.device_index,
        route_table: at(it.place).table(),
    });
    addresses.collect()
}

pub(super) fn sandbox(sandbox: &Sandbox) -> v1::Sandbox {
    v1::Sandbox {
        container_id: sandbox.container_id.to_string(),
        ifname: sandbox.ifname.to_string(),
    }
}

fn pod(pod: Pod) -> v1::Pod {
    v1::Pod {
        namespace: pod.namespace,
        name: pod.name,
        uid: pod.uid,
    }
}

pub(super) fn pool(
    view: PoolView,
    repairs: Vec<v1::Repair>,
    calendar: Calendar,
) -> v1::GetPoolResponse {
    let PoolView {
        node,
        settings,
        mode,
        ipv4,
        // The configuration knows IPv4 alone.
        ipv6: _,
        enis,
        waiters,
        pending_calls,
    } = view;
    let (ip, minimum_ip) = match settings.warm {
        Warm::Targets(targets) => (targets.ip, targets.minimum_ip),
        Warm::Demand(_) => (None, None),
    };
    v1::GetPoolResponse {
        node: Some(v1::Node {
            instance_id: node.instance_id.to_string(),
            instance_type: node.instance_type,
            availability_zone: node.availability_zone,
            vpc_id: node.vpc_id.to_string(),
            max_enis: node.limits.enis_per_card.first().copied().unwrap_or(0),
            slots_per_eni: node.limits.ipv4_slots_per_eni,
            warm_ip_target: ip.unwrap_or(0),
            minimum_ip_target: minimum_ip.unwrap_or(0),
            warm: warm(settings.warm),
            mode: mode.to_string(),
        }),
        totals: Some(v1::Totals {
            held: small(ipv4.held),
            free: small(ipv4.free),
            owned: small(ipv4.owned),
            cooling: small(ipv4.cooling),
            preparing: small(ipv4.preparing),
            quarantined: small(ipv4.quarantined),
            leaving: small(ipv4.leaving),
        }),
        enis: enis.into_iter().map(|view| eni(view, calendar)).collect(),
        waiters: waiters
            .into_iter()
            .map(|view| waiter(view, calendar))
            .collect(),
        pending_calls: pending_calls
            .into_iter()
            .map(|view| pending_call(view, calendar))
            .collect(),
        repairs,
    }
}

/// What is kept ready, for people.
fn warm(warm: Warm) -> String {
    match warm {
        Warm::Demand(dial) => {
            let dial = match dial {
                Dial::Economy => "economy",
                Dial::Balanced => "balanced",
                Dial::Latency => "latency",
            };
            format!("as demand has it ({dial})")
        }
        Warm::Targets(targets) => {
            let set = [
                ("WARM_ENI_TARGET", targets.eni),
                ("WARM_IP_TARGET", targets.ip),
                ("MINIMUM_IP_TARGET", targets.minimum_ip),
                ("WARM_PREFIX_TARGET", targets.prefix),
            ];
            let set = set
                .into_iter()
                .filter_map(|(name, target)| Some(format!("{name}={}", target?)));
            set.collect::<Vec<_>>().join(" ")
        }
    }
}

/// No node has so many of anything of IPv4.
fn small(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn address_state(state: AddressState) -> v1::AddressState {
    match state {
        AddressState::Preparing => v1::AddressState::Preparing,
        AddressState::Free => v1::AddressState::Free,
        AddressState::Owned => v1::AddressState::Owned,
        AddressState::Cooling => v1::AddressState::Cooling,
        AddressState::Quarantined => v1::AddressState::Quarantined,
        AddressState::Leaving => v1::AddressState::Leaving,
    }
}

fn eni(view: EniView, calendar: Calendar) -> v1::Eni {
    let state = match view.state {
        EniState::Creating => v1::EniState::Creating,
        EniState::Attaching => v1::EniState::Attaching,
        EniState::SettingUp => v1::EniState::SettingUp,
        EniState::Ready => v1::EniState::Ready,
        EniState::Draining => v1::EniState::Draining,
        EniState::Unmanaged => v1::EniState::Unmanaged,
        EniState::Failed => v1::EniState::Failed,
    };
    v1::Eni {
        eni_id: text(view.id),
        device_index: view.place.device_index,
        mac: text(view.mac),
        subnet_id: text(view.subnet_id),
        subnet_cidr: text(view.subnet_cidr),
        primary_address: text(view.primary_address),
        route_table: at(view.place).table(),
        state: state.into(),
        since: Some(calendar.timestamp(view.since)),
        addresses: view
            .addresses
            .into_iter()
            .map(|view| address(view, calendar))
            .collect(),
        prefixes: view
            .slots
            .into_iter()
            .filter(|slot| SlotKind::of(&slot.slot) != SlotKind::Address)
            .map(|slot| v1::Prefix {
                cidr: slot.slot.to_string(),
                since: Some(calendar.timestamp(slot.since)),
                state: address_state(slot.state).into(),
                claimed: small(slot.claimed),
            })
            .collect(),
        trouble: view.trouble.unwrap_or_default(),
    }
}

fn address(view: AddressView, calendar: Calendar) -> v1::Address {
    v1::Address {
        address: view.address.to_string(),
        state: address_state(view.state).into(),
        since: Some(calendar.timestamp(view.since)),
        owner: view.owner.as_ref().map(sandbox),
        pod: view.pod.map(pod),
        prefix: text(view.prefix),
    }
}

fn waiter(view: WaiterView, calendar: Calendar) -> v1::Waiter {
    v1::Waiter {
        sandbox: Some(sandbox(&view.sandbox)),
        pod: Some(pod(view.pod)),
        since: Some(calendar.timestamp(view.since)),
        deadline: Some(calendar.timestamp(view.deadline)),
    }
}

fn pending_call(view: PendingCallView, calendar: Calendar) -> v1::PendingCall {
    v1::PendingCall {
        action: view.action.to_owned(),
        eni_id: text(view.eni),
        since: Some(calendar.timestamp(view.since)),
    }
}

/// Empty when it is not known (yet).
fn text(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipam::Time;

    fn view(trouble: Option<&str>) -> EniView {
        EniView {
            id: None,
            place: ipam::Place {
                card: 0,
                device_index: 1,
            },
            mac: None,
            subnet_id: None,
            subnet_cidr: None,
            primary_address: None,
            state: EniState::Failed,
            since: Time(0),
            trouble: trouble.map(str::to_owned),
            slots: Vec::new(),
            addresses: Vec::new(),
        }
    }

    #[test]
    fn people_are_told_what_is_wrong_with_an_eni_and_nothing_when_all_is_well() {
        let told = |trouble| eni(view(trouble), Calendar::now()).trouble;
        assert_eq!(
            told(Some("its link does not come")),
            "its link does not come"
        );
        assert_eq!(told(None), "");
    }
}
