//! The command `vpc-lab`, as people use it.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::process::{Command, Output};

/// Runs `vpc-lab` with a folder for temporary files of its own, so that it sees no other labs.
fn vpc_lab(folder: &std::path::Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vpc-lab"))
        .args(arguments)
        .env("TMPDIR", folder)
        .output()
        .unwrap()
}

/// Takes the lab down also when the test fails.
struct Down<'a>(&'a std::path::Path);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        vpc_lab(self.0, &["down"]);
    }
}

#[test]
fn a_lab_left_behind_is_found_entered_and_taken_down() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let up = vpc_lab(
        folder,
        &["up", "--detach", "--name", "here", "--nodes", "3"],
    );
    let said = String::from_utf8_lossy(&up.stderr);
    if said.contains("gives this process no namespaces") {
        println!("SKIPPED: {said}");
        return;
    }
    let _down = Down(folder);
    assert!(up.status.success(), "{said}");

    let listed = vpc_lab(folder, &["list"]);
    let listed = String::from_utf8_lossy(&listed.stdout);
    assert!(
        listed.contains("\"here\"") && listed.contains("a, b, c, internet"),
        "{listed}"
    );

    let inside = vpc_lab(
        folder,
        &["enter", "c", "--lab", "here", "--", "ip", "-br", "link"],
    );
    let links = String::from_utf8_lossy(&inside.stdout);
    assert!(links.contains("ens5"), "{links}");
    let elsewhere = vpc_lab(folder, &["enter", "nowhere"]);
    let said = String::from_utf8_lossy(&elsewhere.stderr);
    assert!(
        !elsewhere.status.success() && said.contains("it has a, b, c"),
        "{said}"
    );

    assert!(vpc_lab(folder, &["down"]).status.success());
    let gone = vpc_lab(folder, &["enter", "a"]);
    assert!(String::from_utf8_lossy(&gone.stderr).contains("no lab is up"));
    assert_eq!(
        std::fs::read_dir(folder).unwrap().count(),
        0,
        "a file is left"
    );
}
