use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;
use std::sync::Arc;

use ipam::{
    AddressEntry, BooksVersion, EniEntry, EniId, EniIntent, GrantEntry, IntentStage, Place, Pod,
    Sandbox, SlotKind, Time,
};
use proptest::prelude::*;

use super::*;

fn identity() -> Identity {
    Identity {
        instance_id: InstanceId::new("i-0123456789abcdef0"),
        boot_id: "6f3c9f0e-6a53-4a3e-9b5e-0d3c1a2b4c5d".to_owned(),
    }
}

fn address(n: u8) -> std::net::IpAddr {
    [10, 0, 1, n].into()
}

fn ledger(version: u64, pods: u8) -> Ledger {
    let grant = |n: u8| GrantEntry {
        addresses: vec![AddressEntry {
            address: address(n),
            slot: address(n).into(),
            eni: EniId::new("eni-0123456789abcdef0"),
        }],
        sandbox: Sandbox {
            container_id: format!("{n:064x}").into(),
            ifname: "eth0".into(),
        },
        pod: Pod {
            namespace: "default".to_owned(),
            name: format!("web-{n}"),
            uid: String::new(),
        },
        network: "aws-cni".to_owned(),
        netns: format!("/var/run/netns/cni-{n}"),
        since: Time(1_000 + u64::from(n)),
    };
    Ledger {
        version: BooksVersion(version),
        enis: vec![EniEntry {
            id: EniId::new("eni-0123456789abcdef0"),
            place: Place {
                card: 0,
                device_index: 1,
            },
            link: None,
            managed: true,
            slots: (0..pods).map(|n| address(n).into()).collect(),
            groups: [ipam::SecurityGroupId::new("sg-1")].into(),
        }],
        grants: (0..pods).map(|n| grant(n).into()).collect(),
        tombstones: Vec::new(),
        subnets: None,
        cooling: Vec::new(),
        intents: vec![EniIntent {
            token: ipam::ClientToken::new("weir-1"),
            subnet: ipam::SubnetId::new("subnet-1"),
            groups: vec![ipam::SecurityGroupId::new("sg-1")],
            ipv4: Some((SlotKind::Address, 3)),
            ipv6_prefixes: 0,
            place: Place {
                card: 0,
                device_index: 2,
            },
            stage: IntentStage::Attach(EniId::new("eni-2")),
            since: Time(7),
        }],
        orphans: true,
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn open(path: &Path) -> (Books, Loaded) {
    Books::open(path, identity()).unwrap()
}

#[test]
fn what_was_written_is_found_again_and_the_file_before_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/weir/books.json");
    let (mut books, loaded) = open(&path);
    assert_eq!(loaded, Loaded::Fresh);
    books.write(&ledger(1, 2)).unwrap();
    books.write(&ledger(2, 3)).unwrap();
    assert_eq!(open(&path).1, Loaded::Found(ledger(2, 3)));

    let folder = path.parent().unwrap();
    assert_eq!(names(folder), ["books.json", "books.json.previous"]);
    let before = fs::read(folder.join("books.json.previous")).unwrap();
    assert_eq!(format::decode(&identity(), &before), Ok(ledger(1, 2)));
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// Weir before ENIs that are left over were looked for.
#[test]
fn the_books_of_the_version_before_are_read_and_what_they_do_not_say_is_not_known() {
    let bytes = format::encode(&identity(), &ledger(4, 1)).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let old = text
        .replace("weir-books/3", "weir-books/2")
        .replace(",\n    \"orphans\": true", "");
    assert!(!old.contains("orphans"), "{old}");
    let (content, _) = old.split_at(old.len() - "00000000\"\n}\n".len());
    let crc = crc32fast::hash(content.as_bytes());
    let old = format!("{content}{crc:08x}\"\n}}\n");
    let expected = Ledger {
        orphans: false,
        ..ledger(4, 1)
    };
    assert_eq!(format::decode(&identity(), old.as_bytes()), Ok(expected));
}

#[test]
fn a_person_can_read_the_file() {
    let bytes = format::encode(&identity(), &ledger(4, 1)).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let head = "{\n  \"format\": \"weir-books/3\",\n  \"instance_id\": \"i-0123456789abcdef0\",\n  \"boot_id\"";
    assert!(text.starts_with(head), "{text}");
    let (_, crc) = text.split_once("\"crc32\": \"").unwrap();
    assert_eq!(crc.len(), "1234abcd\"\n}\n".len(), "{text}");
    // All of a pod in one line, for grep.
    let pod = text.lines().find(|line| line.contains("\"10.0.1.0\""));
    let pod = pod.unwrap_or_else(|| panic!("{text}"));
    assert!(pod.starts_with("      {\"sandbox\":{"), "{pod}");
    assert!(
        serde_json::from_str::<serde_json::Value>(pod.trim_end_matches(',')).is_ok(),
        "{pod}"
    );
}

#[test]
fn a_file_that_cannot_be_trusted_is_set_aside_whole_and_the_next_start_is_fresh() {
    let good = String::from_utf8(format::encode(&identity(), &ledger(4, 2)).unwrap()).unwrap();
    let other = |instance: &str, boot: &str| {
        let other = Identity {
            instance_id: InstanceId::new(instance),
            boot_id: boot.to_owned(),
        };
        String::from_utf8(format::encode(&other, &ledger(4, 2)).unwrap()).unwrap()
    };
    let ours = identity();
    for (content, word, sentence, pods_may_run) in [
        (String::new(), "empty", "it is empty", true),
        ("\n\n".to_owned(), "empty", "it is empty", true),
        (
            good.split_at(good.len() / 2).0.to_owned(),
            "torn",
            "torn",
            true,
        ),
        ("pods: 3".to_owned(), "torn", "torn", true),
        (
            "{\"format\": \"checkpoint/1\"}".to_owned(),
            "foreign",
            "checkpoint/1",
            true,
        ),
        (
            good.replace("books/3", "books/4"),
            "newer",
            "a newer Weir wrote it",
            true,
        ),
        (
            good.replace("10.0.1.1", "10.0.1.7"),
            "damaged",
            "checksum",
            true,
        ),
        (
            other("i-0fedcba9876543210", &ours.boot_id),
            "other-instance",
            "i-0fedcba9876543210",
            false,
        ),
        (
            other(ours.instance_id.as_str(), "11111111-2222"),
            "other-boot",
            "11111111-2222",
            false,
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("books.json");
        fs::write(&path, &content).unwrap();
        let (mut books, loaded) = open(&path);
        let Loaded::SetAside { reason, moved_to } = loaded else {
            panic!("{word}: {loaded:?}");
        };
        assert!(reason.to_string().contains(sentence), "{word}: {reason}");
        assert_eq!(reason.pods_may_run(), pods_may_run, "{word}");
        let name = moved_to.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with(&format!("books.json.{word}-2")), "{name}");
        assert_eq!(fs::read_to_string(&moved_to).unwrap(), content);
        assert_eq!(open(&path).1, Loaded::Fresh);
        books.write(&ledger(1, 1)).unwrap();
        assert_eq!(open(&path).1, Loaded::Found(ledger(1, 1)));
        assert_eq!(fs::read_to_string(&moved_to).unwrap(), content);
    }
}

#[test]
fn books_that_were_set_aside_are_known_of_until_the_boot_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("books.json");
    fs::write(&path, "torn").unwrap();
    assert!(!open(&path).0.path().exists());
    // An ipamd that ended before it wrote any.
    let (books, loaded) = open(&path);
    assert_eq!(loaded, Loaded::Fresh);
    assert!(books.were_set_aside());

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("books.json");
    let (mut books, _) = open(&path);
    books.write(&ledger(1, 1)).unwrap();
    books.write(&ledger(2, 1)).unwrap();
    assert!(!books.were_set_aside(), "the file before is no such file");
}

#[test]
fn two_files_set_aside_in_one_second_are_both_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("books.json");
    for content in ["a", "b", "c"] {
        fs::write(&path, content).unwrap();
        assert!(matches!(open(&path).1, Loaded::SetAside { .. }));
    }
    let mut kept: Vec<_> = names(dir.path())
        .iter()
        .map(|name| fs::read_to_string(dir.path().join(name)).unwrap())
        .collect();
    kept.sort();
    assert_eq!(kept, ["a", "b", "c"]);
}

#[test]
fn a_crash_before_the_rename_leaves_the_old_books_and_the_next_write_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("books.json");
    open(&path).0.write(&ledger(1, 2)).unwrap();
    // Torn in the middle of writing; and whole, but not renamed, with the link already made.
    let next = format::encode(&identity(), &ledger(2, 3)).unwrap();
    for left in [&next[..100], &next[..]] {
        fs::write(beside(&path, ".tmp"), left).unwrap();
        fs::remove_file(beside(&path, ".previous")).ok();
        fs::hard_link(&path, beside(&path, ".previous")).unwrap();
        let (mut books, loaded) = open(&path);
        assert_eq!(loaded, Loaded::Found(ledger(1, 2)));
        books.write(&ledger(2, 3)).unwrap();
        assert_eq!(open(&path).1, Loaded::Found(ledger(2, 3)));
        assert_eq!(names(dir.path()), ["books.json", "books.json.previous"]);
        books.write(&ledger(1, 2)).unwrap();
    }
}

/// It would be torn if the write were cut short.
#[test]
fn a_file_that_has_another_name_or_may_be_the_books_after_a_crash_is_not_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("books.json");
    let previous = beside(&path, ".previous");
    let stays_through = |file: &Path, books: &mut Books| {
        let as_it_was = fs::read(file).unwrap();
        let mut same_file = fs::File::open(file).unwrap();
        books.write(&ledger(2, 3)).unwrap();
        let mut now = Vec::new();
        same_file.read_to_end(&mut now).unwrap();
        assert!(now == as_it_was, "{} was written over", file.display());
    };
    let (mut books, _) = open(&path);
    books.write(&ledger(1, 2)).unwrap();
    fs::hard_link(&path, &previous).unwrap();
    stays_through(&path, &mut books);
    fs::rename(&previous, beside(&path, ".mine")).unwrap();
    symlink(beside(&path, ".mine"), &previous).unwrap();
    stays_through(&beside(&path, ".mine"), &mut books);
    // Nobody knows whether the last write of the ipamd before came to its end.
    let (mut books, _) = open(&path);
    stays_through(&previous, &mut books);
}

#[test]
fn books_that_become_shorter_end_where_they_should() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("books.json");
    let (mut books, _) = open(&path);
    for count in [30, 30, 30, 2, 1, 30, 1] {
        books.write(&ledger(1, count)).unwrap();
        assert_eq!(open(&path).1, Loaded::Found(ledger(1, count)));
        assert_eq!(fs::metadata(&path).unwrap().nlink(), 1);
    }
}

#[test]
fn a_write_takes_the_room_of_the_file_before_the_last_unless_somebody_changed_its_mode() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("books.json");
    let previous = beside(&path, ".previous");
    let (mut books, _) = open(&path);
    let mut write = || {
        let before = fs::metadata(&previous).map(|file| file.ino()).ok();
        books.write(&ledger(1, 2)).unwrap();
        let now = fs::metadata(&path).unwrap();
        assert_eq!(now.mode() & 0o777, 0o600);
        before == Some(now.ino())
    };
    assert_eq!(
        [write(), write(), write(), write()],
        [false, false, true, true]
    );
    fs::set_permissions(&previous, fs::Permissions::from_mode(0o644)).unwrap();
    write();
    assert!(write());
}

#[test]
fn books_that_cannot_be_opened_or_written_name_the_path_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Books::open(file.join("books.json"), identity()).unwrap_err();
    assert!(error.to_string().contains("cannot be made"), "{error}");
    let error = Books::open(dir.path(), identity()).unwrap_err();
    assert!(error.to_string().contains("cannot be read"), "{error}");

    let folder = dir.path().join("weir");
    let (mut books, _) = open(&folder.join("books.json"));
    fs::remove_dir(&folder).unwrap();
    let error = books.write(&ledger(1, 1)).unwrap_err().to_string();
    assert!(
        error.contains("weir/books.json could not be written"),
        "{error}"
    );
    assert!(error.contains("make its folder again"), "{error}");

    // A folder stands where the temporary file goes.
    fs::create_dir_all(folder.join("books.json.tmp")).unwrap();
    let error = books.write(&ledger(1, 1)).unwrap_err().to_string();
    assert!(error.contains("removing an old temporary file"), "{error}");
}

#[test]
fn a_path_without_a_folder_is_in_the_folder_of_the_process() {
    assert_eq!(super::folder(Path::new("books.json")), Path::new("."));
    assert_eq!(
        super::folder(Path::new("/run/books.json")),
        Path::new("/run")
    );
}

/// In namespaces of its own, so that it needs no root and leaves no mount behind.
#[test]
fn a_full_or_read_only_disk_is_told_and_the_old_books_stay() {
    let dir = tempfile::tempdir().unwrap();
    let mount = "mount -t tmpfs -o size=32k weir-books-test \"$WEIR_BOOKS_TEST\"; exec \"$@\"";
    let unshare = ["--map-root-user", "--mount", "sh", "-ec", mount, "sh"];
    elsewhere(&unshare, "tests::on_a_small_disk", dir.path());
}

/// In a user namespace that maps nobody, where root too is held to the mode of the folder.
#[test]
fn a_folder_that_ipamd_may_not_write_to_says_who_must_run_it() {
    let dir = tempfile::tempdir().unwrap();
    let set = |mode| fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
    set(0o555);
    elsewhere(&["--user"], "tests::in_a_folder_of_others", dir.path());
    set(0o755);
}

/// Runs an ignored test in other namespaces.
fn elsewhere(unshare: &[&str], test: &str, dir: &Path) {
    let output = Command::new("unshare")
        .args(unshare)
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", test])
        .env("WEIR_BOOKS_TEST", dir)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains("1 passed"), "{said}");
}

fn test_dir() -> PathBuf {
    PathBuf::from(std::env::var_os("WEIR_BOOKS_TEST").unwrap())
}

#[test]
#[ignore = "run by a_folder_that_ipamd_may_not_write_to_says_who_must_run_it, in a user namespace"]
fn in_a_folder_of_others() {
    let (mut books, loaded) = open(&test_dir().join("books.json"));
    assert_eq!(loaded, Loaded::Fresh);
    let error = books.write(&ledger(1, 1)).unwrap_err().to_string();
    assert!(error.contains("it must run as root"), "{error}");
}

#[test]
#[ignore = "run by a_full_or_read_only_disk_is_told_and_the_old_books_stay, which mounts the disk"]
fn on_a_small_disk() {
    let dir = test_dir();
    let path = dir.join("books.json");
    let (mut books, _) = open(&path);
    // In a new file, and in the room of an older one.
    for writes in [1, 2] {
        (0..writes).for_each(|_| books.write(&ledger(1, 2)).unwrap());
        let error = books.write(&ledger(2, 200)).unwrap_err().to_string();
        assert!(error.contains("make room on that file system"), "{error}");
        assert_eq!(open(&path).1, Loaded::Found(ledger(1, 2)));
        assert_eq!(names(&dir), ["books.json"], "no half file takes room");
    }
    books.write(&ledger(3, 3)).unwrap();

    let remount = |how: &str| {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,{how}")])
            .arg(&dir)
            .status();
        assert!(status.unwrap().success());
    };
    remount("ro");
    let error = books.write(&ledger(4, 3)).unwrap_err().to_string();
    assert!(error.contains("mount that file system writable"), "{error}");
    assert_eq!(open(&path).1, Loaded::Found(ledger(3, 3)));
    remount("rw");
    books.write(&ledger(4, 3)).unwrap();
    assert_eq!(open(&path).1, Loaded::Found(ledger(4, 3)));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn a_file_cut_anywhere_is_not_trusted_or_says_the_same(pods in 0..5u8, at in any::<prop::sample::Index>()) {
        let bytes = format::encode(&identity(), &ledger(9, pods)).unwrap();
        let cut = &bytes[..at.index(bytes.len())];
        if let Ok(read) = format::decode(&identity(), cut) {
            prop_assert_eq!(read, ledger(9, pods));
        }
    }

    #[test]
    fn a_file_with_one_byte_changed_is_not_trusted_or_says_the_same(
        pods in 0..5u8, at in any::<prop::sample::Index>(), flip in 1..=255u8,
    ) {
        let mut bytes = format::encode(&identity(), &ledger(9, pods)).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(read) = format::decode(&identity(), &bytes) {
            prop_assert_eq!(read, ledger(9, pods));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// Lines are kept from write to write: pods come, go, and change what is said of them.
    #[test]
    fn each_write_has_all_that_is_so_now(
        history in prop::collection::vec(prop::collection::btree_map(0..6u8, 0..3u8, 0..6), 1..8),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("books.json");
        let (mut books, _) = open(&path);
        let mut known = BTreeMap::new();
        for (version, pods) in (1..).zip(&history) {
            known.retain(|pod, _| pods.contains_key(pod));
            for (pod, said) in pods {
                let entry: &mut Arc<GrantEntry> = known
                    .entry(*pod)
                    .or_insert_with(|| ledger(0, 6).grants[usize::from(*pod)].clone());
                if entry.pod.uid != said.to_string() {
                    Arc::make_mut(entry).pod.uid = said.to_string();
                }
            }
            let now = Ledger { grants: known.values().cloned().collect(), ..ledger(version, 6) };
            books.write(&now).unwrap();
            let bytes = fs::read(&path).unwrap();
            prop_assert_eq!(&bytes, &format::encode(&identity(), &now).unwrap());
            prop_assert_eq!(format::decode(&identity(), &bytes), Ok(now));
        }
    }
}
