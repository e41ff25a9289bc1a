//! Who is let in, and what finds its way around without the .proto file.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use libtest_mimic::Trial;
use proto::v1::StatusRequest;
use rustix::process::Uid;
use suites::harness::async_test;
use suites::node::Node;
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::rig::{Plugin, lab};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        async_test("the_socket_is_roots_alone", modes),
        async_test(
            "another_uid_that_gets_at_the_socket_is_refused_in_a_sentence",
            other_uid,
        ),
        async_test("reflection_lists_the_services", reflection),
    ]
}

async fn modes() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut node = Node::new(&lab, "a");
    node.start_ipamd().await?;
    let mode = fs::metadata(node.socket())?.permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    node.stop_ipamd().await
}

async fn other_uid() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut node = Node::new(&lab, "a");
    node.start_ipamd().await?;
    // As a mount with other modes, or a careless chmod, would.
    fs::set_permissions(node.socket(), Permissions::from_mode(0o666))?;
    let socket = node.socket();
    let asked = std::thread::spawn(move || -> anyhow::Result<Option<tonic::Status>> {
        let nobody = Uid::from_raw(65_534);
        // This thread alone changes: the system call itself knows nothing of processes.
        if rustix::thread::set_thread_res_uid(nobody, nobody, nobody).is_err() {
            println!("SKIPPED ipamd::another_uid: this user namespace has one uid alone");
            return Ok(None);
        }
        // The kernel notes the credentials of the thread that connects: this one.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let mut plugin = Plugin::connect(&socket).await?;
            let answer = plugin.client().status(StatusRequest {}).await;
            Ok(Some(answer.expect_err("another uid was let in")))
        })
    });
    let Some(refused) = asked.join().expect("the thread panicked")? else {
        return node.stop_ipamd().await;
    };
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    assert!(
        refused.message().contains("root alone") && refused.message().contains("uid 65534"),
        "{refused:?}"
    );
    assert!(node.ready().await?, "root is refused too");
    node.stop_ipamd().await
}

async fn reflection() -> anyhow::Result<()> {
    let lab = lab()?;
    let mut node = Node::new(&lab, "a");
    node.start_ipamd().await?;
    let endpoint = Endpoint::try_from(format!("unix:{}", node.socket().display()))?;
    let mut client = ServerReflectionClient::new(endpoint.connect().await?);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await?
        .into_inner();
    let answer = answers
        .message()
        .await?
        .and_then(|answer| answer.message_response);
    let Some(MessageResponse::ListServicesResponse(list)) = answer else {
        panic!("not a list: {answer:?}");
    };
    let names: Vec<_> = list
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    for name in [
        "weir.ipam.v1.Ipam",
        "weir.ipam.v1.Pool",
        "grpc.health.v1.Health",
    ] {
        assert!(
            names.iter().any(|known| known == name),
            "{name} is not in {names:?}"
        );
    }
    drop(answers);
    node.stop_ipamd().await
}
