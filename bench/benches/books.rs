//! What it costs to save and load the books of a full node: 737 pods, on a file system in memory. The floor is what any
//! books have to do: write as many bytes to a new file, sync it, and rename it.

#![expect(clippy::expect_used, reason = "the input is the benchmark's own")]

use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use books::{Books, Identity};
use criterion::{Criterion, criterion_group, criterion_main};
use ipam::{
    AddressEntry, BooksVersion, EniEntry, EniId, GrantEntry, InstanceId, Ledger, Place, Pod,
    Sandbox, Time,
};

const PODS: u32 = 737;

fn address(n: u32) -> IpAddr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 10).to_bits() + n).into()
}

fn ledger() -> Ledger {
    let eni_of = |n: u32| EniId::new(format!("eni-{:017x}", n / 50));
    let enis = (0..PODS.div_ceil(50)).map(|index| EniEntry {
        id: eni_of(index * 50),
        place: Place {
            card: 0,
            device_index: index,
        },
        link: None,
        managed: true,
        slots: (index * 50..(index * 50 + 50).min(PODS))
            .map(|n| address(n).into())
            .collect(),
        groups: [ipam::SecurityGroupId::new("sg-0123456789abcdef0")].into(),
    });
    let grants = (0..PODS).map(|n| GrantEntry {
        sandbox: Sandbox {
            container_id: format!("{n:064x}").into(),
            ifname: "eth0".into(),
        },
        pod: Pod {
            namespace: "default".to_owned(),
            name: format!("web-5d8f7c9b6d-{n:05}"),
            uid: "0b331645-445b-4d27-bf6c-67e81909778a".to_owned(),
        },
        network: "aws-cni".to_owned(),
        netns: format!("/var/run/netns/cni-{n:08x}"),
        since: Time(1_000),
        addresses: vec![AddressEntry {
            address: address(n),
            slot: address(n).into(),
            eni: eni_of(n),
        }],
    });
    Ledger {
        version: BooksVersion(1),
        enis: enis.collect(),
        grants: grants.map(Into::into).collect(),
        ..Ledger::default()
    }
}

fn full_node(c: &mut Criterion) {
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let path = folder.path().join("books.json");
    let identity = Identity {
        instance_id: InstanceId::new("i-0123456789abcdef0"),
        boot_id: "6f3c9f0e-6a53-4a3e-9b5e-0d3c1a2b4c5d".to_owned(),
    };
    let (mut books, _) = Books::open(&path, identity.clone()).expect("books");
    let ledger = ledger();
    books.write(&ledger).expect("to be written");
    let bytes = fs::read(&path).expect("the file");

    let mut group = c.benchmark_group("books_of_737_pods");
    group.bench_function("save", |b| {
        b.iter(|| books.write(&ledger).expect("to be written"));
    });
    group.bench_function("save_floor", |b| {
        let (new, old) = (folder.path().join("new"), folder.path().join("old"));
        b.iter(|| {
            let mut file = fs::File::create(&new).expect("a file");
            file.write_all(&bytes).expect("to be written");
            file.sync_all().expect("to be synced");
            fs::rename(&new, &old).expect("to be renamed");
        });
    });
    group.bench_function("load", |b| {
        b.iter(|| Books::open(&path, identity.clone()).expect("books"));
    });
    group.bench_function("load_floor", |b| {
        b.iter(|| fs::read(&path).expect("the file"));
    });
    group.finish();
}

criterion_group!(benches, full_node);
criterion_main!(benches);
