//! What values may be: each message names the variable, its unit and its bounds.

use std::str::FromStr;

use ipnet::Ipv4Net;

/// aws-node's smallest and EC2's largest MTU, in bytes (IPv4).
pub(super) const MTU: (u32, u32) = (576, 9001);
/// More than any instance type can hold: beyond it, a target is a mistake.
pub(super) const MOST_ADDRESSES: u32 = 1000;
/// More than kubelet can run.
const MOST_PODS: u32 = 10_000;
/// Far beyond what Kubernetes is made for.
const MOST_NODES: u32 = 100_000;

/// Go's `strconv.ParseBool`, which manifests of aws-node are written for.
pub(super) fn as_boolean(text: &str) -> Option<bool> {
    match text.trim() {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

pub(super) fn boolean(
    variable: &'static str,
) -> impl Fn(&str) -> Result<bool, String> + Clone + Send + Sync + 'static {
    move |text| {
        as_boolean(text).ok_or_else(|| {
            format!(
                "{variable} must be true (or 1, t, T, TRUE, True) or false (or 0, f, F, FALSE, False)"
            )
        })
    }
}

/// A whole number within bounds; the message names the variable, as clap names the flag alone.
pub(super) fn number(
    variable: &'static str,
    what: &'static str,
    (least, most): (u32, u32),
) -> impl Fn(&str) -> Result<u32, String> + Clone + Send + Sync + 'static {
    move |text| {
        u32::from_str(text.trim())
            .ok()
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| {
                format!("{variable} must be a whole number of {what} from {least} to {most}")
            })
    }
}

pub(super) fn addresses(
    variable: &'static str,
) -> impl Fn(&str) -> Result<u32, String> + Clone + Send + Sync + 'static {
    number(variable, "addresses", (0, MOST_ADDRESSES))
}

pub(super) fn mtu(
    variable: &'static str,
) -> impl Fn(&str) -> Result<u32, String> + Clone + Send + Sync + 'static {
    number(variable, "bytes", MTU)
}

pub(super) fn cooldown(text: &str) -> Result<u32, String> {
    number("IP_COOLDOWN_PERIOD", "seconds", (0, 3600))(text)
}

pub(super) fn patience(text: &str) -> Result<u32, String> {
    number("WEIR_IMDS_PATIENCE", "seconds", (1, 3600))(text)
}

pub(super) fn max_pods(text: &str) -> Result<u32, String> {
    number("WEIR_MAX_PODS", "pods", (1, MOST_PODS))(text)
}

pub(super) fn cluster_size(text: &str) -> Result<u32, String> {
    number("WEIR_CLUSTER_SIZE", "nodes", (0, MOST_NODES))(text)
}

pub(super) fn max_enis(text: &str) -> Result<u32, String> {
    // aws-node takes 0 and less for "as many as the instance type allows".
    i64::from_str(text.trim())
        .ok()
        .and_then(|enis| u32::try_from(enis.max(0)).ok())
        .ok_or_else(|| "MAX_ENI must be a whole number of ENIs".to_owned())
}

/// One of several.
pub(super) fn cidr(
    variable: &'static str,
) -> impl Fn(&str) -> Result<Ipv4Net, String> + Clone + Send + Sync + 'static {
    move |text| {
        text.trim().parse().map_err(|_| {
            format!(
                "{variable} must be IPv4 CIDRs joined by commas, such as 192.0.2.0/24,198.51.100.0/24"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boolean_is_what_go_takes_for_one_and_nothing_else() {
        let read = boolean("ENABLE_SUBNET_DISCOVERY");
        for yes in ["1", "t", "T", "TRUE", "true", "True", " true "] {
            assert_eq!(read(yes), Ok(true), "{yes}");
        }
        for no in ["0", "f", "F", "FALSE", "false", "False"] {
            assert_eq!(read(no), Ok(false), "{no}");
        }
        for wrong in ["", "yes", "tRUE", "on", "2"] {
            let error = read(wrong).unwrap_err();
            assert!(
                error.contains("ENABLE_SUBNET_DISCOVERY must be true")
                    && error.contains("or false"),
                "{error}"
            );
        }
    }
}
