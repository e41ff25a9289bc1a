//! What makes a node ready for a runtime: the plugin in its folder, and the conflist once ipamd serves.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use libtest_mimic::Trial;
use serde_json::Value;
use suites::harness::{async_test, eventually, test};
use suites::node::Node;
use suites::programs;
use vpc_lab::Endpoint;

use crate::rig::{lab, log_says};
use crate::start::run;

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        async_test(
            "the_conflist_is_written_once_ipamd_serves_and_not_before",
            conflist,
        ),
        test(
            "a_conflist_that_can_not_be_written_ends_ipamd_with_the_reason",
            no_folder,
        ),
        test("install_puts_the_plugin_in_place_executable", install),
    ]
}

async fn conflist() -> anyhow::Result<()> {
    let lab = lab()?;
    let folder = lab.node("a").run_dir();
    let (net_d, plugins) = (folder.join("net.d"), folder.join("bin"));
    fs::create_dir(&net_d)?;
    fs::create_dir(&plugins)?;
    fs::write(plugins.join("portmap"), "")?;
    let conflist = net_d.join("10-aws.conflist");

    lab.cut("a", Endpoint::Ec2)?;
    let mut node = Node::new(&lab, "a")
        .with("WEIR_CONFLIST_DIR", net_d.display())
        .with("WEIR_PLUGIN_DIR", plugins.display());
    node.launch_ipamd()?;
    log_says(&node, "listening").await?;
    assert!(!node.ready().await?, "ready without having heard from EC2");
    assert!(
        !conflist.exists(),
        "pods are sent to an ipamd that has none"
    );

    lab.restore("a", Endpoint::Ec2)?;
    eventually("the conflist", async || Ok(conflist.exists().then_some(()))).await?;
    assert!(node.ready().await?, "the conflist was there first");
    let written: Value = serde_json::from_slice(&fs::read(&conflist)?)?;
    assert_eq!(written["name"], "aws-cni");
    assert_eq!(written["cniVersion"], "1.0.0");
    assert_eq!(written["plugins"][0]["type"], "weir-cni");
    assert_eq!(written["plugins"][1]["type"], "portmap");
    assert_eq!(written["plugins"].as_array().map(Vec::len), Some(2));
    log_says(&node, "wrote the conflist").await?;
    node.stop_ipamd().await?;
    assert!(conflist.exists(), "a restart must not take the node away");
    Ok(())
}

fn no_folder() -> anyhow::Result<()> {
    let lab = lab()?;
    let output = run(&lab, &[("WEIR_CONFLIST_DIR", "/nowhere/net.d")])?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{said}");
    for words in [
        "ipamd ends: the runtime can't be told that the node is ready",
        "writing /nowhere/net.d/10-aws.conflist: No such file or directory",
        "must exist, be mounted writable",
    ] {
        assert!(said.contains(words), "{words:?} is missing: {said}");
    }
    Ok(())
}

fn install() -> anyhow::Result<()> {
    let lab = lab()?;
    let folder = lab.node("a").run_dir();
    let (plugin, bin) = (folder.join("plugin"), folder.join("bin"));
    fs::write(&plugin, "a program")?;
    let ipamd = || -> anyhow::Result<Command> {
        let mut command = Command::new(programs::path("ipamd")?);
        command.arg("install").arg("--plugin").arg(&plugin);
        command.arg("--bin-dir").arg(&bin);
        Ok(command)
    };

    let refused = ipamd()?.output()?;
    let said = String::from_utf8(refused.stderr)?;
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("the folder must exist"), "{said}");

    fs::create_dir(&bin)?;
    let done = ipamd()?.output()?;
    assert!(done.status.success(), "{done:?}");
    let installed = bin.join("weir-cni");
    assert_eq!(fs::read(&installed)?, b"a program");
    assert_eq!(
        fs::metadata(&installed)?.permissions().mode() & 0o777,
        0o755
    );
    Ok(())
}
