//! aws-node's settings that have no effect here.

use Harmless::{Boolean, Text, Unset};

use super::values::as_boolean;

/// Values that ask for what happens anyway. A variable that is set to nothing always does.
enum Harmless {
    Unset,
    Boolean(bool),
    Text(&'static [&'static str]),
}

/// The name, the values that ask for what happens anyway, and what happens instead of anything else.
const WITHOUT_EFFECT: &[(&str, Harmless, &str)] = &[
    ("ANNOTATE_POD_IP", Boolean(false), "pods are not annotated"),
    (
        "AWS_EC2_ENDPOINT",
        Unset,
        "set AWS_ENDPOINT_URL_EC2 instead",
    ),
    (
        "AWS_MANAGE_ENIS_NON_SCHEDULABLE",
        Boolean(true),
        "only Kubernetes knows whether a node is cordoned, and ipamd does not ask it yet: the pool grows on cordoned nodes too",
    ),
    (
        "AWS_VPC_CNI_NODE_PORT_SUPPORT",
        Boolean(true),
        "NodePort connections are always supported",
    ),
    (
        "AWS_VPC_K8S_CNI_BACKING_STORE",
        Unset,
        "set WEIR_BOOKS instead",
    ),
    (
        "AWS_VPC_K8S_CNI_CONFIGURE_RPFILTER",
        Boolean(true),
        "rp_filter of ENIs is always 2 (loose)",
    ),
    (
        "AWS_VPC_K8S_CNI_CONNMARK",
        Text(&["0x80", "128"]),
        "the mark is 0x80",
    ),
    (
        "AWS_VPC_K8S_CNI_LOG_FILE",
        Text(&["stderr"]),
        "the log goes to standard error",
    ),
    (
        "AWS_VPC_K8S_PLUGIN_LOG_FILE",
        Unset,
        "set logFile in the conflist instead",
    ),
    (
        "AWS_VPC_K8S_PLUGIN_LOG_LEVEL",
        Unset,
        "set logLevel in the conflist instead",
    ),
    ("CLUSTER_ENDPOINT", Unset, "ipamd does not ask Kubernetes"),
    (
        "ENABLE_BANDWIDTH_PLUGIN",
        Boolean(false),
        "there is no bandwidth limit",
    ),
    (
        "ENABLE_POD_ENI",
        Boolean(false),
        "pods have no security groups of their own",
    ),
    (
        "ENI_CONFIG_ANNOTATION_DEF",
        Unset,
        "WEIR_ENI_CONFIG names the file with the ENIConfig of the node",
    ),
    (
        "ENI_CONFIG_LABEL_DEF",
        Unset,
        "WEIR_ENI_CONFIG names the file with the ENIConfig of the node",
    ),
    (
        "HOST_CNI_BIN_PATH",
        Unset,
        "`ipamd install --bin-dir` and WEIR_PLUGIN_DIR say where plugins are",
    ),
    (
        "HOST_CNI_CONFDIR_PATH",
        Unset,
        "WEIR_CONFLIST_DIR says where the conflist is written",
    ),
    (
        "HTTP_TIMEOUT",
        Unset,
        "each call of EC2 and IMDS has a deadline of its own",
    ),
    (
        "INTROSPECTION_BIND_ADDRESS",
        Unset,
        "ask weir.ipam.v1.Pool over the socket instead",
    ),
    (
        "NETWORK_POLICY_ENFORCING_MODE",
        Text(&["none", "standard"]),
        "network policies are not enforced",
    ),
    (
        "POD_SECURITY_GROUP_ENFORCING_MODE",
        Text(&["strict"]),
        "pods have no security groups of their own",
    ),
];

/// One sentence for each of aws-node's settings that is set and has no effect.
pub(crate) fn settings_without_effect(
    environment: impl Fn(&str) -> Option<String>,
) -> impl Iterator<Item = String> {
    WITHOUT_EFFECT
        .iter()
        .filter_map(move |(name, harmless, instead)| {
            let value = environment(name)?;
            (!harmless.is(&value)).then(|| format!("{name}={value} has no effect yet: {instead}"))
        })
}

impl Harmless {
    fn is(&self, value: &str) -> bool {
        value.is_empty()
            || match self {
                Unset => false,
                Boolean(harmless) => as_boolean(value) == Some(*harmless),
                Text(harmless) => harmless.iter().any(|it| it.eq_ignore_ascii_case(value)),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_aws_node_that_have_no_effect_are_named_when_they_ask_for_something() {
        let environment = |name: &str| match name {
            "ANNOTATE_POD_IP" => Some("False".to_owned()),
            "ENABLE_POD_ENI" => Some("true".to_owned()),
            "ENABLE_BANDWIDTH_PLUGIN" => Some("true".to_owned()),
            _ => None,
        };
        let said: Vec<_> = settings_without_effect(environment).collect();
        assert_eq!(
            said,
            [
                "ENABLE_BANDWIDTH_PLUGIN=true has no effect yet: there is no bandwidth limit",
                "ENABLE_POD_ENI=true has no effect yet: pods have no security groups of their own",
            ]
        );
    }
}
