//! What readers see: a world that is older than what was written.

use std::time::Duration;

use super::{Eni, Subnet, World};
use crate::error::{Ec2Error, Result};
use crate::history::History;
use crate::ids::{EniId, InstanceId};
use crate::params::Params;
use crate::subnet::PREFIX_ADDRESSES;
use crate::time::SimTime;

impl World {
    /// The time of the world that a Describe at `now` shows. Each asks anew: with
    /// [`reads_go_backwards`](super::WorldConfig::reads_go_backwards) it may be older than the last answer.
    pub fn describe_time(&mut self, now: SimTime) -> SimTime {
        now.minus(self.drawn(self.config.describe_lag))
    }

    /// The same, for a request for metadata.
    pub(crate) fn imds_time(&mut self, now: SimTime) -> SimTime {
        now.minus(self.drawn(self.config.imds_lag))
    }

    /// When an instance was made.
    pub(crate) fn instance_born(&self, id: &InstanceId) -> Option<SimTime> {
        self.instances.get(id).map(History::born)
    }

    /// A lag from nothing to `most`.
    fn drawn(&mut self, most: Duration) -> Duration {
        if self.config.reads_go_backwards && !most.is_zero() {
            most.mul_f64(self.views.fraction())
        } else {
            most
        }
    }

    /// `availableIpAddressCount` as it was at `then`, as far as ENIs go.
    pub(crate) fn available_at(&self, subnet: &Subnet, then: SimTime) -> usize {
        let available = self.available(subnet);
        if then >= self.now {
            return available;
        }
        let held = |eni: Option<&Eni>| {
            let eni = eni.filter(|eni| eni.subnet == subnet.id);
            eni.map_or(0, |eni| {
                eni.addresses().count() + PREFIX_ADDRESSES * eni.prefixes.len()
            })
        };
        let (mut now, mut before) = (0, 0);
        for history in self.enis.values() {
            now += held(history.current());
            before += held(history.at(then));
        }
        (available + now).saturating_sub(before)
    }

    /// Refuses a change to an ENI that not all of EC2 has heard of: see
    /// [`write_lag`](super::WorldConfig::write_lag).
    pub(crate) fn check_heard_of(
        &mut self,
        now: SimTime,
        action: &str,
        params: &Params,
    ) -> Result<()> {
        if self.config.write_lag.is_zero() || action.starts_with("Describe") {
            return Ok(());
        }
        let named = params.all().values();
        let named = named.filter(|value| EniId::is_well_formed(value));
        for id in named {
            let born = self.enis.get(id.as_str()).map(History::born);
            if born.is_some_and(|born| now.since(born) < self.config.write_lag)
                && self.views.fraction() < 0.5
            {
                return Err(Ec2Error::no_such_eni(id));
            }
        }
        Ok(())
    }
}
