//! As much of the Kubernetes API as kube-proxy asks for: lists and watches of its node, of Services and of their
//! endpoints, over plain HTTP on the node's loopback.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::Context;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use vpc_lab::{Lab, Netns};

use crate::cluster::Pods;
use crate::paths::node_address;
use crate::services::{Backend, Family, PORT, SERVICES, Service, TARGET_PORT};

/// What the API shows.
#[derive(Debug, Clone, Default)]
struct Shown {
    nodes: Vec<Value>,
    services: Vec<Value>,
    slices: Vec<Value>,
}

/// The server; it ends with the runtime that it was started in.
#[derive(Debug)]
pub(crate) struct Api {
    address: SocketAddr,
    shown: watch::Sender<Shown>,
}

impl Api {
    /// Serves in this namespace what a node of this name is shown: all Services, and no endpoints yet.
    pub(crate) fn start(lab: &Lab, node: &str) -> anyhow::Result<Self> {
        let netns: &Netns = lab.node(node).netns();
        let listener = netns.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let (shown, seen) = watch::channel(Shown {
            nodes: vec![object_of_node(lab, node)?],
            services: SERVICES.iter().map(object_of_service).collect(),
            slices: Vec::new(),
        });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let seen = seen.clone();
                // A client that goes away is its own business.
                tokio::spawn(async move { serve(stream, seen).await.ok() });
            }
        });
        Ok(Self { address, shown })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Shows the endpoints.
    pub(crate) fn show(&self, pods: &Pods) {
        let families = [Family::V4, Family::V6];
        let slices = families.iter().flat_map(|family| {
            let services = SERVICES.iter();
            services.map(|service| object_of_slice(service, pods, *family))
        });
        self.shown
            .send_modify(|shown| shown.slices = slices.collect());
    }
}

async fn serve(stream: TcpStream, mut seen: watch::Receiver<Shown>) -> anyhow::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let Some((method, target)) = request(&mut stream).await? else {
            return Ok(());
        };
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let kind = match path {
            "/api/v1/nodes" => ("v1", "Node"),
            "/api/v1/services" => ("v1", "Service"),
            "/apis/discovery.k8s.io/v1/endpointslices" => ("discovery.k8s.io/v1", "EndpointSlice"),
            "/apis/networking.k8s.io/v1/servicecidrs" => ("networking.k8s.io/v1", "ServiceCIDR"),
            _ => {
                let shown = seen.borrow().clone();
                let node = path.strip_prefix("/api/v1/nodes/");
                let node = node.and_then(|_| shown.nodes.first().cloned());
                match node {
                    Some(node) if method == "GET" => respond(&mut stream, 200, &node).await?,
                    _ if method == "POST" => respond(&mut stream, 201, &json!({})).await?,
                    _ => respond(&mut stream, 404, &status(404, path)).await?,
                }
                continue;
            }
        };
        let is_watch = query.contains("watch=1") || query.contains("watch=true");
        if is_watch && query.contains("sendInitialEvents=true") {
            // A client that hears this lists instead.
            respond(
                &mut stream,
                422,
                &status(422, "sendInitialEvents is not served"),
            )
            .await?;
        } else if is_watch {
            return watch(&mut stream, kind, &mut seen).await;
        } else {
            let items = items(kind.1, &seen.borrow());
            let list = json!({
                "apiVersion": kind.0, "kind": format!("{}List", kind.1),
                "metadata": {"resourceVersion": "1"}, "items": items,
            });
            respond(&mut stream, 200, &list).await?;
        }
    }
}

/// The next request's method and target; none when the client has gone.
async fn request(stream: &mut BufReader<TcpStream>) -> anyhow::Result<Option<(String, String)>> {
    let (mut first, mut length) = (String::new(), 0);
    if stream.read_line(&mut first).await? == 0 {
        return Ok(None);
    }
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(bytes) = line.strip_prefix("content-length:") {
            length = bytes.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let mut words = first.split(' ').map(str::to_owned);
    let method = words.next().context("a request without a method")?;
    Ok(Some((method, words.next().context("no target")?)))
}

async fn respond(stream: &mut BufReader<TcpStream>, code: u16, body: &Value) -> anyhow::Result<()> {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {code} \r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    Ok(stream.write_all((head + &body).as_bytes()).await?)
}

/// Tells of all objects of a kind anew whenever some have changed, until the client goes.
async fn watch(
    stream: &mut BufReader<TcpStream>,
    (_, kind): (&str, &str),
    seen: &mut watch::Receiver<Shown>,
) -> anyhow::Result<()> {
    let head =
        "HTTP/1.1 200 \r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    // What changed between the list and this is told again.
    loop {
        let items = items(kind, &seen.borrow_and_update());
        for object in items {
            let event = json!({"type": "MODIFIED", "object": object}).to_string() + "\n";
            let chunk = format!("{:x}\r\n{event}\r\n", event.len());
            stream.write_all(chunk.as_bytes()).await?;
        }
        seen.changed().await?;
    }
}

fn items(kind: &str, shown: &Shown) -> Vec<Value> {
    match kind {
        "Node" => shown.nodes.clone(),
        "Service" => shown.services.clone(),
        "EndpointSlice" => shown.slices.clone(),
        _ => Vec::new(),
    }
}

fn status(code: u16, why: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "message": why,
        "reason": if code == 404 { "NotFound" } else { "Invalid" },
    })
}

fn metadata(name: &str) -> Value {
    json!({"name": name, "namespace": "demo", "uid": name, "resourceVersion": "1"})
}

fn object_of_node(lab: &Lab, name: &str) -> anyhow::Result<Value> {
    let address = |family| -> anyhow::Result<Value> {
        let address = node_address(lab, name, family)?;
        Ok(json!({"type": "InternalIP", "address": address.to_string()}))
    };
    Ok(json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "uid": name, "resourceVersion": "1"},
        "status": {"addresses": [address(Family::V4)?, address(Family::V6)?]},
    }))
}

fn object_of_service(service: &Service) -> Value {
    let addresses = [Family::V4, Family::V6].map(|family| service.cluster_ip(family).to_string());
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata(service.name),
        "spec": {
            "type": "NodePort",
            "clusterIP": addresses[0], "clusterIPs": addresses,
            "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack",
            "internalTrafficPolicy": "Cluster",
            "externalTrafficPolicy": if service.local { "Local" } else { "Cluster" },
            "ports": [{
                "port": PORT, "targetPort": TARGET_PORT, "nodePort": service.node_port(),
                "protocol": "TCP",
            }],
        },
    })
}

fn object_of_slice(service: &Service, pods: &Pods, family: Family) -> Value {
    let address = pods.of(service.backend).address(family);
    let (name, kind) = match family {
        Family::V4 => (format!("{}-v4", service.name), "IPv4"),
        Family::V6 => (format!("{}-v6", service.name), "IPv6"),
    };
    let node = if service.backend == Backend::Remote {
        "b"
    } else {
        "a"
    };
    let mut metadata = metadata(&name);
    metadata["labels"] = json!({"kubernetes.io/service-name": service.name});
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
        "addressType": kind,
        "endpoints": [{
            "addresses": [address.to_string()], "nodeName": node,
            "conditions": {"ready": true, "serving": true, "terminating": false},
        }],
        "ports": [{"name": "", "port": TARGET_PORT, "protocol": "TCP"}],
    })
}
