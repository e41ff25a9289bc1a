//! GC: what the runtime does not know any more goes, and nothing else.

use serde_json::{Value, json};

use crate::Test;
use crate::fake_ipamd::FakeIpamd;
use crate::runtime::{Call, Outcome, PodNetNs, host_links};

pub(crate) const TESTS: &[Test] = &[
    ("a_gc_takes_back_what_is_not_valid_any_more", collects),
    ("a_gc_without_a_list_collects_nothing", no_list),
    ("a_gc_without_ipamd_is_code_11_and_removes_nothing", absent),
];

fn gc(ipamd: &FakeIpamd, valid: Value) -> Outcome {
    let call = Call::new("GC", ipamd, "", "")
        .without("CNI_CONTAINERID")
        .without("CNI_NETNS")
        .without("CNI_IFNAME");
    call.field("cniVersion", json!("1.1.0"))
        .field("cni.dev/valid-attachments", valid)
        .run()
}

fn add(ipamd: &FakeIpamd, id: &str) -> (PodNetNs, String) {
    let pod = PodNetNs::new();
    let result = Call::new("ADD", ipamd, &pod.path(), id).run().result();
    let veth = result["interfaces"][0]["name"].as_str().unwrap().to_owned();
    (pod, veth)
}

fn collects() {
    let ipamd = FakeIpamd::start();
    let (_stays, valid) = add(&ipamd, "valid");
    let (_goes, stale) = add(&ipamd, "stale");
    ipamd.state().calls.clear();
    let list = json!([{"containerID": "valid", "ifname": "eth0"}]);
    gc(&ipamd, list).assert_silent_success();
    assert_eq!(ipamd.state().calls, ["Gc aws-cni valid/eth0"]);
    assert!(host_links().contains(&valid));
    assert!(!host_links().contains(&stale), "its link goes too");
    gc(&ipamd, json!([])).assert_silent_success();
    assert!(!host_links().contains(&valid), "an empty list is a list");
    assert!(ipamd.state().held.is_empty());
}

fn no_list() {
    let ipamd = FakeIpamd::start();
    let (pod, veth) = add(&ipamd, "c0ffee");
    gc(&ipamd, Value::Null).assert_silent_success();
    assert!(host_links().contains(&veth));
    assert_eq!(ipamd.state().held.len(), 1);
    let del = Call::new("DEL", &ipamd, &pod.path(), "c0ffee");
    del.run().assert_silent_success();
}

fn absent() {
    gc(&FakeIpamd::absent(), json!([])).assert_error(11, &["IPAMD_UNREACHABLE"]);
}
