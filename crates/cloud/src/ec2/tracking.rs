//! The time-outs of connection tracking: what users have set on the primary ENI holds for the others too, as aws-node has
//! it (amazon-vpc-cni-k8s#3666). EC2 gives a new ENI its defaults.

use aws_sdk_ec2::types::{
    ConnectionTrackingConfiguration, ConnectionTrackingSpecificationRequest, NetworkInterface,
};
use ipam::CallError;

use super::Ec2;

impl Ec2 {
    /// Remembers those of the primary ENI, where EC2 tells of it.
    pub(super) fn note_tracking(&self, eni: &NetworkInterface) {
        if eni.network_interface_id() == Some(self.identity.primary_eni.as_str()) {
            self.known().tracking = Some(eni.connection_tracking_configuration().cloned());
        }
    }

    /// What a new ENI gets; none where the primary has EC2's defaults. EC2 is asked where it has not told yet: a restart
    /// asks for nothing.
    pub(super) async fn tracking(
        &self,
    ) -> Result<Option<ConnectionTrackingSpecificationRequest>, CallError> {
        let known = self.known().tracking.clone();
        let tracking = match known {
            Some(tracking) => tracking,
            None => {
                let primary = self.identity.primary_eni.as_str();
                self.describe_by("network-interface-id", primary).await?;
                self.known().tracking.clone().flatten()
            }
        };
        Ok(tracking.and_then(|tracking| specification(&tracking)))
    }
}

fn specification(
    of: &ConnectionTrackingConfiguration,
) -> Option<ConnectionTrackingSpecificationRequest> {
    let asked = ConnectionTrackingSpecificationRequest::builder()
        .set_tcp_established_timeout(of.tcp_established_timeout())
        .set_udp_stream_timeout(of.udp_stream_timeout())
        .set_udp_timeout(of.udp_timeout())
        .build();
    let nothing = ConnectionTrackingSpecificationRequest::builder().build();
    (asked != nothing).then_some(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_copied_and_what_is_not_is_left_to_ec2() {
        let bare = ConnectionTrackingConfiguration::builder();
        assert_eq!(specification(&bare.clone().build()), None);
        let copied = specification(&bare.tcp_established_timeout(600).build()).unwrap();
        assert_eq!(copied.tcp_established_timeout(), Some(600));
        assert_eq!(copied.udp_stream_timeout(), None);
        assert_eq!(copied.udp_timeout(), None);
    }
}
