//! The pool's own data as the contract's.

use datapath::layout::eni_table;
use ipam::{
    AddressState, AddressView, EniState, EniView, Grant, PendingCallView, PoolView, Sandbox,
};
use ipam::{Pod, WaiterView};
use proto::v1;

use crate::clock::Calendar;

pub(super) fn pod_address(grant: &Grant) -> v1::PodAddress {
    v1::PodAddress {
        address: grant.address.to_string(),
        eni_id: grant.eni.to_string(),
        device_index: grant.device_index,
        route_table: eni_table(grant.device_index),
    }
}

pub(super) fn sandbox(sandbox: Sandbox) -> v1::Sandbox {
    v1::Sandbox {
        container_id: sandbox.container_id,
        ifname: sandbox.ifname,
    }
}

fn pod(pod: Pod) -> v1::Pod {
    v1::Pod {
        namespace: pod.namespace,
        name: pod.name,
        uid: pod.uid,
    }
}

pub(super) fn pool(view: PoolView, calendar: Calendar) -> v1::GetPoolResponse {
    let PoolView {
        node,
        targets,
        totals,
        enis,
        waiters,
        pending_calls,
    } = view;
    v1::GetPoolResponse {
        node: Some(v1::Node {
            instance_id: node.instance_id.to_string(),
            instance_type: node.instance_type,
            availability_zone: node.availability_zone,
            vpc_id: node.vpc_id.to_string(),
            max_enis: node.limits.max_enis,
            slots_per_eni: node.limits.ipv4_slots_per_eni,
            warm_ip_target: targets.warm_ip,
            minimum_ip_target: targets.minimum_ip,
        }),
        totals: Some(v1::Totals {
            held: totals.held,
            free: totals.free,
            owned: totals.owned,
            cooling: totals.cooling,
            preparing: totals.preparing,
            quarantined: totals.quarantined,
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
    }
}

fn eni(view: EniView, calendar: Calendar) -> v1::Eni {
    let state = match view.state {
        EniState::Creating => v1::EniState::Creating,
        EniState::Attaching => v1::EniState::Attaching,
        EniState::SettingUp => v1::EniState::SettingUp,
        EniState::Ready => v1::EniState::Ready,
        EniState::Unmanaged => v1::EniState::Unmanaged,
        EniState::Failed => v1::EniState::Failed,
    };
    v1::Eni {
        eni_id: text(view.id),
        device_index: view.device_index,
        mac: text(view.mac),
        subnet_id: text(view.subnet_id),
        subnet_cidr: text(view.subnet_cidr),
        primary_address: text(view.primary_address),
        route_table: eni_table(view.device_index),
        state: state.into(),
        since: Some(calendar.timestamp(view.since)),
        addresses: view
            .addresses
            .into_iter()
            .map(|view| address(view, calendar))
            .collect(),
        prefixes: Vec::new(),
        trouble: view.trouble.unwrap_or_default(),
    }
}

fn address(view: AddressView, calendar: Calendar) -> v1::Address {
    let state = match view.state {
        AddressState::Preparing => v1::AddressState::Preparing,
        AddressState::Free => v1::AddressState::Free,
        AddressState::Owned => v1::AddressState::Owned,
        AddressState::Cooling => v1::AddressState::Cooling,
        AddressState::Quarantined => v1::AddressState::Quarantined,
    };
    v1::Address {
        address: view.address.to_string(),
        state: state.into(),
        since: Some(calendar.timestamp(view.since)),
        owner: view.owner.map(sandbox),
        pod: view.pod.map(pod),
        prefix: String::new(),
    }
}

fn waiter(view: WaiterView, calendar: Calendar) -> v1::Waiter {
    v1::Waiter {
        sandbox: Some(sandbox(view.sandbox)),
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
            device_index: 1,
            mac: None,
            subnet_id: None,
            subnet_cidr: None,
            primary_address: None,
            state: EniState::Failed,
            since: Time(0),
            trouble: trouble.map(str::to_owned),
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
