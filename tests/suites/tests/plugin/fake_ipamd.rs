//! An ipamd that does what a test tells it to: the service's contract over a real socket, and no pool.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use proto::v1::ipam_server::{Ipam, IpamServer};
use proto::v1::{
    AddRequest, AddResponse, CheckRequest, CheckResponse, DelRequest, DelResponse, GcRequest,
    GcResponse, PodAddress, Sandbox, StatusRequest, StatusResponse,
};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// What it does with a call.
#[derive(Clone, Default)]
pub(crate) enum Mood {
    /// Serves it.
    #[default]
    Well,
    /// Refuses it.
    Refusing(Status),
    /// Never answers.
    Hanging,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) on_add: Mood,
    pub(crate) on_del: Mood,
    pub(crate) on_status: Mood,
    /// Why it is not ready, by the identifier.
    pub(crate) not_ready: Option<&'static str>,
    /// What each sandbox holds, by `container id/interface`.
    pub(crate) held: BTreeMap<String, String>,
    /// Each call, as `Add c/eth0`.
    pub(crate) calls: Vec<String>,
    /// The last Add in full.
    pub(crate) last_add: Option<AddRequest>,
    /// The deadline that came with it, as gRPC writes it.
    pub(crate) last_timeout: Option<String>,
    /// How an Add's answer differs from a good one.
    pub(crate) spoil: Option<fn(&mut AddResponse)>,
}

/// The daemon. It listens until it is dropped.
pub(crate) struct FakeIpamd {
    state: Arc<Mutex<State>>,
    folder: TempDir,
    server: Option<Runtime>,
}

impl FakeIpamd {
    /// Listens on a socket of its own.
    pub(crate) fn start() -> Self {
        let mut fake = Self::absent();
        fake.listen();
        fake
    }

    /// Listens, as one that comes after another.
    pub(crate) fn listen(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(self.socket()).unwrap()
        };
        let service = IpamServer::new(Service(Arc::clone(&self.state)));
        runtime.spawn(
            Server::builder()
                .add_service(service)
                .serve_with_incoming(UnixListenerStream::new(listener)),
        );
        self.server = Some(runtime);
    }

    /// Goes as one that is killed: connections break, and the socket stays.
    pub(crate) fn die(&mut self) {
        self.server = None;
    }

    /// Has a folder for its socket, and no socket in it.
    pub(crate) fn absent() -> Self {
        Self {
            state: Arc::default(),
            folder: tempfile::Builder::new()
                .prefix("weir-plugin-")
                .tempdir_in("/run")
                .unwrap(),
            server: None,
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("ipamd.sock")
    }

    /// A file for the plugin's log.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The releases in the spool: file name and content.
    pub(crate) fn spool(&self) -> Vec<(String, serde_json::Value)> {
        let Ok(entries) = std::fs::read_dir(self.folder.path().join("spool")) else {
            return Vec::new();
        };
        let read = |entry: std::io::Result<std::fs::DirEntry>| {
            let entry = entry.unwrap();
            let text = std::fs::read(entry.path()).unwrap();
            (
                entry.file_name().into_string().unwrap(),
                serde_json::from_slice(&text).unwrap(),
            )
        };
        entries.map(read).collect()
    }
}

struct Service(Arc<Mutex<State>>);

impl Service {
    fn note(&self, verb: &str, sandbox: Option<Sandbox>) -> (String, MutexGuard<'_, State>) {
        let sandbox = sandbox.expect("the sandbox is required");
        let key = format!("{}/{}", sandbox.container_id, sandbox.ifname);
        let mut state = self.0.lock().unwrap();
        state.calls.push(format!("{verb} {key}"));
        (key, state)
    }
}

async fn in_mood(mood: Mood) -> Result<(), Status> {
    match mood {
        Mood::Well => Ok(()),
        Mood::Refusing(status) => Err(status),
        Mood::Hanging => std::future::pending().await,
    }
}

fn pod_address(address: &str) -> PodAddress {
    PodAddress {
        address: address.to_owned(),
        eni_id: "eni-0123456789abcdef0".to_owned(),
        device_index: 0,
        route_table: 254,
    }
}

#[tonic::async_trait]
impl Ipam for Service {
    async fn add(&self, request: Request<AddRequest>) -> Result<Response<AddResponse>, Status> {
        let timeout = request
            .metadata()
            .get("grpc-timeout")
            .map(|t| t.to_str().unwrap().to_owned());
        let request = request.into_inner();
        let mood = {
            let (_, mut state) = self.note("Add", request.sandbox.clone());
            state.last_timeout = timeout;
            state.last_add = Some(request.clone());
            state.on_add.clone()
        };
        in_mood(mood).await?;
        let sandbox = request.sandbox.unwrap();
        let key = format!("{}/{}", sandbox.container_id, sandbox.ifname);
        let mut state = self.0.lock().unwrap();
        let free = format!("10.0.1.{}", 17 + state.held.len());
        let address = state.held.entry(key).or_insert(free).clone();
        let mut answer = AddResponse {
            addresses: vec![pod_address(&address)],
            mtu: 9001,
            pods_table: datapath::layout::PODS_TABLE,
        };
        if let Some(spoil) = state.spoil {
            spoil(&mut answer);
        }
        Ok(Response::new(answer))
    }

    async fn del(&self, request: Request<DelRequest>) -> Result<Response<DelResponse>, Status> {
        let (key, mood) = {
            let (key, state) = self.note("Del", request.into_inner().sandbox);
            (key, state.on_del.clone())
        };
        in_mood(mood).await?;
        let released = self.0.lock().unwrap().held.remove(&key);
        let released = released
            .iter()
            .map(|address| pod_address(address))
            .collect();
        Ok(Response::new(DelResponse { released }))
    }

    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        let (key, state) = self.note("Check", request.into_inner().sandbox);
        match state.held.get(&key) {
            Some(address) => Ok(Response::new(CheckResponse {
                addresses: vec![pod_address(address)],
            })),
            None => Err(Status::not_found("it holds nothing")),
        }
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let (mood, id) = {
            let mut state = self.0.lock().unwrap();
            state.calls.push("Status".to_owned());
            (state.on_status.clone(), state.not_ready)
        };
        in_mood(mood).await?;
        Ok(Response::new(StatusResponse {
            ready: id.is_none(),
            reason: id
                .map(|id| format!("a sentence about {id}"))
                .unwrap_or_default(),
            reason_id: id.unwrap_or_default().to_owned(),
        }))
    }

    async fn gc(&self, request: Request<GcRequest>) -> Result<Response<GcResponse>, Status> {
        let GcRequest { network, valid } = request.into_inner();
        let keys = valid
            .iter()
            .map(|it| format!("{}/{}", it.container_id, it.ifname));
        let valid: Vec<_> = keys.collect();
        let mut state = self.0.lock().unwrap();
        state
            .calls
            .push(format!("Gc {network} {}", valid.join(",")));
        let mut released = Vec::new();
        state.held.retain(|key, _| {
            let stays = valid.contains(key);
            if !stays && let Some((container_id, ifname)) = key.split_once('/') {
                released.push(Sandbox {
                    container_id: container_id.to_owned(),
                    ifname: ifname.to_owned(),
                });
            }
            stays
        });
        Ok(Response::new(GcResponse { released }))
    }
}
