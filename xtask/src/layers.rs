//! Who may use whom: the table of docs/design.md, over `cargo metadata`.
//!
//! Normal and build dependencies of the product obey the table. Its dev-dependencies may reach further, but
//! never into tests/, bench/ or xtask, which nothing uses. Some libraries are behind one door each.

use anyhow::Context;
use cargo_metadata::{DependencyKind, Metadata};

/// What each product crate may use of ours. A crate that is not here is refused until it is.
const MAY_USE: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("cni-spec", &[]),
    ("ipam", &[]),
    ("datapath", &[]),
    ("books", &["ipam"]),
    ("cloud", &["ipam"]),
    ("cluster", &["ipam"]),
    ("cni-plugin", &["cni-spec", "proto", "datapath"]),
    (
        "ipamd",
        &["proto", "ipam", "datapath", "books", "cloud", "cluster"],
    ),
];

/// Folders whose crates may use everything, and which nothing uses.
const OUTSIDE_THE_PRODUCT: &[&str] = &["tests", "bench", "xtask"];

/// Libraries that one crate alone may name, by the start of their names.
const ONE_DOOR: &[(&str, &str)] = &[
    ("aws-config", "cloud"),
    ("aws-sdk-", "cloud"),
    ("aws-smithy-", "cloud"),
    ("kube", "cluster"),
    ("k8s-openapi", "cluster"),
    ("netlink-", "datapath"),
    ("rtnetlink", "datapath"),
];

/// Who else may name them, in tests alone: `suites` holds the simulated EC2 to the real SDK (decision 13).
const BACK_DOOR: &[(&str, &str)] = &[("aws-config", "suites"), ("aws-sdk-", "suites")];

/// A member of the workspace, as far as these rules care.
#[derive(Debug)]
struct Member {
    name: String,
    /// The first part of its path in the checkout: `crates`, `tests`, `ipamd`.
    folder: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug)]
struct Dependency {
    name: String,
    kind: DependencyKind,
    ours: bool,
    /// The version requirement as the manifest, or the workspace for it, says.
    requirement: String,
}

/// Every broken rule, as a sentence with the remedy; empty when all is well.
///
/// # Errors
/// When cargo can't read the manifests.
pub(crate) fn violations(metadata: &Metadata) -> anyhow::Result<Vec<String>> {
    Ok(check(&members(metadata)?))
}

fn check(members: &[Member]) -> Vec<String> {
    let mut found = Vec::new();
    for member in members {
        for dependency in &member.dependencies {
            if dependency.ours {
                found.extend(layering(member, dependency, members));
            } else {
                found.extend(door(member, dependency));
            }
        }
        if !is_outside(member) && !MAY_USE.iter().any(|(name, _)| *name == member.name) {
            found.push(format!(
                "`{}` is not in the table of who may use whom: decide, write it in docs/design.md, and add \
                 it to xtask/src/layers.rs",
                member.name
            ));
        }
    }
    found.extend(versions(members));
    found
}

fn layering(member: &Member, dependency: &Dependency, members: &[Member]) -> Option<String> {
    if is_outside(member) {
        return None;
    }
    let used = members.iter().find(|other| other.name == dependency.name);
    if used.is_some_and(is_outside) {
        return Some(format!(
            "`{}` uses `{}`, which is for tests: nothing of the product may use it, not even as a \
             dev-dependency; move the test to tests/suites",
            member.name, dependency.name
        ));
    }
    let (_, allowed) = MAY_USE.iter().find(|(name, _)| *name == member.name)?;
    let free = dependency.kind == DependencyKind::Development;
    (!free && !allowed.contains(&dependency.name.as_str())).then(|| {
        let allowed = if allowed.is_empty() {
            "nothing of ours".to_owned()
        } else {
            allowed.join(", ")
        };
        format!(
            "`{}` uses `{}`, but it may use only: {allowed} (docs/design.md, \"Who may use whom\")",
            member.name, dependency.name
        )
    })
}

fn door(member: &Member, dependency: &Dependency) -> Option<String> {
    let (_, owner) = ONE_DOOR
        .iter()
        .find(|(prefix, _)| dependency.name.starts_with(prefix))?;
    let in_tests = dependency.kind == DependencyKind::Development
        && BACK_DOOR
            .iter()
            .any(|(prefix, who)| dependency.name.starts_with(prefix) && member.name == *who);
    (member.name != *owner && !in_tests).then(|| {
        format!(
            "`{}` names `{}`, which only `{owner}` may: go through `{owner}`",
            member.name, dependency.name
        )
    })
}

/// One version per dependency: members that name the same library ask for the same version of it.
fn versions(members: &[Member]) -> Vec<String> {
    let mut first: std::collections::BTreeMap<&str, (&str, &str)> = Default::default();
    let mut found = Vec::new();
    for member in members {
        for dependency in member.dependencies.iter().filter(|d| !d.ours) {
            let (by, requirement) = *first
                .entry(&dependency.name)
                .or_insert((&member.name, &dependency.requirement));
            if requirement != dependency.requirement {
                found.push(format!(
                    "`{}` asks for {} {}, but `{by}` for {requirement}: put one version in \
                     [workspace.dependencies] and write `{} = {{ workspace = true }}` in both",
                    member.name, dependency.name, dependency.requirement, dependency.name
                ));
            }
        }
    }
    found
}

fn is_outside(member: &Member) -> bool {
    OUTSIDE_THE_PRODUCT.contains(&member.folder.as_str())
}

fn members(metadata: &Metadata) -> anyhow::Result<Vec<Member>> {
    metadata
        .workspace_packages()
        .into_iter()
        .map(|package| {
            let path = package
                .manifest_path
                .strip_prefix(&metadata.workspace_root)
                .with_context(|| format!("{} is not in the workspace", package.manifest_path))?;
            Ok(Member {
                name: package.name.to_string(),
                folder: path
                    .components()
                    .next()
                    .map(|part| part.to_string())
                    .unwrap_or_default(),
                dependencies: package
                    .dependencies
                    .iter()
                    .map(|dependency| Dependency {
                        name: dependency.name.clone(),
                        kind: dependency.kind,
                        ours: dependency.path.is_some(),
                        requirement: dependency.req.to_string(),
                    })
                    .collect(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use DependencyKind::{Build, Development, Normal};

    fn member(name: &str, folder: &str, dependencies: Vec<Dependency>) -> Member {
        Member {
            name: name.to_owned(),
            folder: folder.to_owned(),
            dependencies,
        }
    }

    fn ours(name: &str, kind: DependencyKind) -> Dependency {
        Dependency {
            name: name.to_owned(),
            kind,
            ours: true,
            requirement: "*".to_owned(),
        }
    }

    fn theirs(name: &str, requirement: &str) -> Dependency {
        Dependency {
            name: name.to_owned(),
            kind: Normal,
            ours: false,
            requirement: requirement.to_owned(),
        }
    }

    fn only(found: &[String], words: &[&str]) {
        assert_eq!(found.len(), 1, "{found:#?}");
        for word in words {
            assert!(found[0].contains(word), "`{word}` is not in: {}", found[0]);
        }
    }

    #[test]
    fn what_the_table_allows_is_allowed() {
        let graph = [
            member("ipam", "crates", vec![]),
            member("books", "crates", vec![ours("ipam", Normal)]),
            member(
                "cloud",
                "crates",
                vec![ours("ipam", Normal), theirs("aws-sdk-ec2", "^1")],
            ),
            member(
                "ipamd",
                "ipamd",
                vec![ours("cloud", Normal), ours("books", Normal)],
            ),
            member(
                "suites",
                "tests",
                vec![ours("ipamd", Normal), ours("vpc-lab", Normal)],
            ),
            member("vpc-lab", "tests", vec![]),
        ];
        assert_eq!(check(&graph), Vec::<String>::new());
    }

    #[test]
    fn the_plugin_may_not_use_the_pool() {
        let graph = [
            member("ipam", "crates", vec![]),
            member("cni-plugin", "cni-plugin", vec![ours("ipam", Normal)]),
        ];
        only(
            &check(&graph),
            &["`cni-plugin`", "`ipam`", "cni-spec, proto, datapath"],
        );
    }

    #[test]
    fn ipamd_may_not_use_cni_spec() {
        let graph = [
            member("cni-spec", "crates", vec![]),
            member("ipamd", "ipamd", vec![ours("cni-spec", Normal)]),
        ];
        only(&check(&graph), &["`ipamd`", "`cni-spec`"]);
    }

    #[test]
    fn the_pool_uses_nothing_of_ours_not_even_to_build() {
        let graph = [
            member("proto", "proto", vec![]),
            member("ipam", "crates", vec![ours("proto", Build)]),
        ];
        only(&check(&graph), &["`ipam`", "`proto`", "nothing of ours"]);
    }

    #[test]
    fn a_dev_dependency_may_reach_further_but_not_into_tests() {
        let graph = [
            member("proto", "proto", vec![]),
            member("aws-sim", "tests", vec![]),
            member(
                "ipam",
                "crates",
                vec![ours("proto", Development), ours("aws-sim", Development)],
            ),
        ];
        only(&check(&graph), &["`ipam`", "`aws-sim`", "tests/suites"]);
    }

    #[test]
    fn the_sdk_has_one_door_but_for_the_tests_of_suites() {
        let graph = [member("suites", "tests", vec![theirs("aws-sdk-ec2", "^1")])];
        only(&check(&graph), &["`suites`", "`aws-sdk-ec2`", "`cloud`"]);
        let in_tests = |name| Dependency {
            kind: Development,
            ..theirs(name, "^1")
        };
        let graph = [member("vpc-lab", "tests", vec![in_tests("aws-sdk-ec2")])];
        only(&check(&graph), &["`vpc-lab`", "`aws-sdk-ec2`", "`cloud`"]);
        let graph = [member("suites", "tests", vec![in_tests("aws-sdk-ec2")])];
        assert_eq!(check(&graph), Vec::<String>::new());
    }

    #[test]
    fn netlink_has_one_door() {
        let graph = [member(
            "ipamd",
            "ipamd",
            vec![theirs("netlink-packet-route", "^0.2")],
        )];
        only(
            &check(&graph),
            &["`ipamd`", "`netlink-packet-route`", "`datapath`"],
        );
    }

    #[test]
    fn a_crate_that_is_not_in_the_table_is_refused() {
        let graph = [member("helpers", "crates", vec![])];
        only(&check(&graph), &["`helpers`", "docs/design.md"]);
    }

    #[test]
    fn two_versions_of_one_library_are_refused() {
        let graph = [
            member("books", "crates", vec![theirs("serde", "^1.0")]),
            member("ipam", "crates", vec![theirs("serde", "^1.2")]),
        ];
        only(&check(&graph), &["`ipam`", "^1.2", "`books`", "^1.0"]);
    }

    #[test]
    fn this_workspace_keeps_its_rules() {
        let metadata = crate::workspace::metadata().unwrap();
        assert_eq!(violations(&metadata).unwrap(), Vec::<String>::new());
    }
}
