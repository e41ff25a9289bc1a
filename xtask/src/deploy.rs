//! What deploy/ promises, held against the sources. That its settings are ipamd's is tested in ipamd.

use std::collections::BTreeSet;

use saphyr_parser::{Event, Parser};
use serde_json::{Map, Value};

fn file(path: &str) -> String {
    std::fs::read_to_string(crate::workspace::root().join(path)).unwrap()
}

/// The documents of a YAML text; every scalar is text.
fn yaml(text: &str) -> Vec<Value> {
    let mut events = Parser::new_from_str(text).map(|event| event.unwrap().0);
    let mut documents = Vec::new();
    while let Some(event) = events.next() {
        if let Event::DocumentStart(_) = event {
            documents.extend(node(&mut events));
        }
    }
    documents
}

/// The next value; none at the end of what it would be in.
fn node<'t>(events: &mut impl Iterator<Item = Event<'t>>) -> Option<Value> {
    match events.next()? {
        Event::Scalar(text, ..) => Some(Value::String(text.into_owned())),
        Event::SequenceStart(..) => {
            Some(Value::Array(std::iter::from_fn(|| node(events)).collect()))
        }
        Event::MappingStart(..) => {
            let mut fields = Map::new();
            while let Some(key) = node(events) {
                let key = key.as_str().unwrap().to_owned();
                let value = node(events).unwrap();
                assert_eq!(
                    fields.insert(key.clone(), value),
                    None,
                    "{key} stands twice"
                );
            }
            Some(Value::Object(fields))
        }
        _ => None,
    }
}

fn manifest() -> Vec<Value> {
    yaml(&file("deploy/manifests/weir.yaml"))
}

fn names(list: &Value) -> BTreeSet<&str> {
    let list = list.as_array().unwrap().iter();
    list.map(|item| item["name"].as_str().unwrap()).collect()
}

#[test]
fn the_manifest_is_a_service_account_without_rights_and_a_daemon_set() {
    let documents = manifest();
    let kinds: Vec<_> = documents.iter().map(|document| &document["kind"]).collect();
    assert_eq!(kinds, ["ServiceAccount", "DaemonSet"]);
    assert_eq!(documents[0]["automountServiceAccountToken"], "false");
    let pod = &documents[1]["spec"]["template"]["spec"];
    assert_eq!(pod["serviceAccountName"], documents[0]["metadata"]["name"]);
    assert_eq!(pod["hostNetwork"], "true");
    let labels = &documents[1]["spec"]["template"]["metadata"]["labels"];
    assert_eq!(documents[1]["spec"]["selector"]["matchLabels"], *labels);
}

#[test]
fn each_mount_of_the_manifest_has_its_volume_and_the_socket_is_on_the_node() {
    let documents = manifest();
    let pod = &documents[1]["spec"]["template"]["spec"];
    let mut mounted = BTreeSet::new();
    for containers in ["initContainers", "containers"] {
        for container in pod[containers].as_array().unwrap() {
            mounted.extend(names(&container["volumeMounts"]));
        }
    }
    assert_eq!(mounted, names(&pod["volumes"]));
    // The plugin calls this path on the node.
    let socket = file("proto/src/lib.rs");
    assert!(
        socket.contains("\"/run/weir/ipamd.sock\""),
        "the manifest mounts /run/weir"
    );
    let volumes = pod["volumes"].as_array().unwrap().iter();
    let paths: Vec<_> = volumes.map(|volume| &volume["hostPath"]["path"]).collect();
    assert_eq!(paths, ["/run/weir", "/opt/cni/bin", "/etc/cni/net.d"]);
}

/// EC2's actions that a network daemon may call.
const ACTIONS: &[&str] = &[
    "AssignIpv6Addresses",
    "AssignPrivateIpAddresses",
    "AttachNetworkInterface",
    "CreateNetworkInterface",
    "DeleteNetworkInterface",
    "DescribeInstanceTypes",
    "DescribeInstances",
    "DescribeNetworkInterfaces",
    "DescribeSecurityGroups",
    "DescribeSubnets",
    "DescribeTags",
    "DescribeVpcs",
    "DetachNetworkInterface",
    "ModifyNetworkInterfaceAttribute",
    "UnassignIpv6Addresses",
    "UnassignPrivateIpAddresses",
];

/// As the SDK names the call: `DescribeSubnets` is `describe_subnets`.
fn method(action: &str) -> String {
    let mut name = String::new();
    for letter in action.chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[test]
fn the_policy_allows_what_ipamd_calls_and_no_more() {
    let policy: Value = serde_json::from_str(&file("deploy/iam-policy.json")).unwrap();
    let mut allowed = BTreeSet::new();
    for statement in policy["Statement"].as_array().unwrap() {
        assert_eq!(statement["Effect"], "Allow");
        let actions = match &statement["Action"] {
            Value::Array(actions) => actions.clone(),
            one => vec![one.clone()],
        };
        allowed.extend(actions.iter().map(|action| {
            let action = action.as_str().unwrap();
            action.strip_prefix("ec2:").unwrap().to_owned()
        }));
    }
    let mut source = file("crates/cloud/src/ec2.rs");
    let parts = crate::workspace::root().join("crates/cloud/src/ec2");
    for part in std::fs::read_dir(parts).unwrap() {
        source.push_str(&std::fs::read_to_string(part.unwrap().path()).unwrap());
    }
    let mut called: BTreeSet<_> = ACTIONS
        .iter()
        .filter(|action| source.contains(&format!(".{}()", method(action))))
        .map(|action| (*action).to_owned())
        .collect();
    // Asked for by CreateNetworkInterface with tags.
    called.insert("CreateTags".to_owned());
    assert_eq!(allowed, called);
}
