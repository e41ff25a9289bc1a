//! An OCI image as an archive: the image layout of the OCI image specification 1.1, in a tar file.
//!
//! Nothing in it depends on when, where or by whom it was made: times are zero, owners root, order fixed.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Context;
use flate2::{Compression, GzBuilder};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::dist::hex;

/// An image of files, for one architecture.
#[derive(Debug)]
pub(super) struct Image<'a> {
    /// As Go names it: `amd64`, `arm64`.
    pub(super) architecture: &'static str,
    /// Of the program in it; also the name of the image in the archive.
    pub(super) version: &'a str,
    /// The absolute path of the program that it starts.
    pub(super) entrypoint: &'a str,
    /// The lowest first.
    pub(super) layers: Vec<Layer>,
}

/// One file, and the folders that it lies in.
#[derive(Debug)]
pub(super) struct Layer {
    path: &'static str,
    mode: u32,
    content: Vec<u8>,
}

impl Layer {
    /// The file at an absolute path.
    pub(super) fn file(path: &'static str, mode: u32, content: Vec<u8>) -> Self {
        Self {
            path,
            mode,
            content,
        }
    }

    fn tar(&self) -> anyhow::Result<Vec<u8>> {
        let path = self.path.trim_start_matches('/');
        let mut tar = tar::Builder::new(Vec::new());
        for (at, _) in path.match_indices('/') {
            let folder = path.get(..=at).context("a path that is not text")?;
            append(&mut tar, folder, tar::EntryType::Directory, 0o755, &[])?;
        }
        append(
            &mut tar,
            path,
            tar::EntryType::Regular,
            self.mode,
            &self.content,
        )?;
        Ok(tar.into_inner()?)
    }
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

impl Image<'_> {
    /// The whole archive.
    ///
    /// # Errors
    /// When a path does not fit into a tar header.
    pub(super) fn archive(&self) -> anyhow::Result<Vec<u8>> {
        let mut blobs = Blobs::default();
        let (mut layers, mut diff_ids, mut history) = (Vec::new(), Vec::new(), Vec::new());
        for layer in &self.layers {
            let tar = layer.tar()?;
            diff_ids.push(digest(&tar));
            history.push(json!({"created_by": format!("cargo xtask image: {}", layer.path)}));
            layers.push(blobs.add(LAYER, compress(&tar)?));
        }
        let config = json!({
            "architecture": self.architecture,
            "os": "linux",
            "config": {
                "Entrypoint": [self.entrypoint],
                "Labels": {
                    "org.opencontainers.image.title": "weir",
                    "org.opencontainers.image.description": "AWS VPC-native pod networking for Kubernetes",
                    "org.opencontainers.image.licenses": "Apache-2.0",
                    "org.opencontainers.image.version": self.version,
                },
            },
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": history,
        });
        let config = blobs.add(CONFIG, serde_json::to_vec(&config)?);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": layers,
        });
        let mut manifest = blobs.add(MANIFEST, serde_json::to_vec(&manifest)?);
        manifest.insert(
            "annotations".to_owned(),
            json!({"org.opencontainers.image.ref.name": self.version}),
        );
        manifest.insert(
            "platform".to_owned(),
            json!({"architecture": self.architecture, "os": "linux"}),
        );
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]});

        let mut tar = tar::Builder::new(Vec::new());
        let regular = tar::EntryType::Regular;
        append(
            &mut tar,
            "oci-layout",
            regular,
            0o644,
            br#"{"imageLayoutVersion":"1.0.0"}"#,
        )?;
        append(
            &mut tar,
            "index.json",
            regular,
            0o644,
            &serde_json::to_vec(&index)?,
        )?;
        for folder in ["blobs/", "blobs/sha256/"] {
            append(&mut tar, folder, tar::EntryType::Directory, 0o755, &[])?;
        }
        for (hash, content) in &blobs.by_hash {
            append(
                &mut tar,
                &format!("blobs/sha256/{hash}"),
                regular,
                0o644,
                content,
            )?;
        }
        Ok(tar.into_inner()?)
    }
}

/// Content by its hash, so that it comes in one order.
#[derive(Default)]
struct Blobs {
    by_hash: BTreeMap<String, Vec<u8>>,
}

impl Blobs {
    /// Keeps the content and answers its descriptor.
    fn add(&mut self, media_type: &str, content: Vec<u8>) -> Map<String, Value> {
        let hash = hex(&Sha256::digest(&content));
        let descriptor = Map::from_iter([
            ("mediaType".to_owned(), json!(media_type)),
            ("digest".to_owned(), json!(format!("sha256:{hash}"))),
            ("size".to_owned(), json!(content.len())),
        ]);
        self.by_hash.insert(hash, content);
        descriptor
    }
}

fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(content)))
}

/// Gzip without a file name and a time.
fn compress(content: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut gzip = GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), Compression::new(6));
    gzip.write_all(content)?;
    Ok(gzip.finish()?)
}

fn append(
    tar: &mut tar::Builder<Vec<u8>>,
    path: &str,
    kind: tar::EntryType,
    mode: u32,
    content: &[u8],
) -> anyhow::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(u64::try_from(content.len())?);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, path, content)
        .with_context(|| format!("putting {path} into the archive"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn image() -> Image<'static> {
        Image {
            architecture: "amd64",
            version: "0.1.0",
            entrypoint: "/usr/bin/ipamd",
            layers: vec![
                Layer::file("/opt/weir/weir-cni", 0o755, b"plugin".to_vec()),
                Layer::file("/usr/bin/ipamd", 0o755, vec![7; 100_000]),
            ],
        }
    }

    /// The files of a tar, by path.
    fn files(tar: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(tar);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (path, content)
        });
        entries.collect()
    }

    /// What a descriptor points at, after its digest and size were held against it.
    fn follow(
        archive: &BTreeMap<String, Vec<u8>>,
        descriptor: &Value,
        media_type: &str,
    ) -> Vec<u8> {
        assert_eq!(descriptor["mediaType"], media_type);
        let digest = descriptor["digest"].as_str().unwrap();
        let content = &archive[&format!("blobs/{}", digest.replace(':', "/"))];
        assert_eq!(super::digest(content), digest);
        assert_eq!(descriptor["size"], content.len());
        content.clone()
    }

    #[test]
    fn an_image_reads_back_down_to_its_files() {
        let archive = files(&image().archive().unwrap());
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        assert_eq!(json(&archive["oci-layout"])["imageLayoutVersion"], "1.0.0");
        let index = json(&archive["index.json"]);
        assert_eq!(index["mediaType"], INDEX);
        let manifest = json(&follow(&archive, &index["manifests"][0], MANIFEST));
        assert_eq!(manifest["schemaVersion"], 2);
        let config = json(&follow(&archive, &manifest["config"], CONFIG));
        assert_eq!(config["architecture"], "amd64");
        assert_eq!(config["config"]["Entrypoint"], json!(["/usr/bin/ipamd"]));

        let layers = manifest["layers"].as_array().unwrap();
        let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap();
        assert_eq!((layers.len(), diff_ids.len()), (2, 2));
        let mut paths = Vec::new();
        for (layer, diff_id) in layers.iter().zip(diff_ids) {
            let mut tar = Vec::new();
            let packed = follow(&archive, layer, LAYER);
            flate2::read::GzDecoder::new(packed.as_slice())
                .read_to_end(&mut tar)
                .unwrap();
            assert_eq!(super::digest(&tar), diff_id.as_str().unwrap());
            paths.extend(files(&tar).into_keys());
            let program = tar::Archive::new(tar.as_slice())
                .entries()
                .unwrap()
                .map(|entry| entry.unwrap().header().mode().unwrap())
                .last();
            assert_eq!(program, Some(0o755));
        }
        assert_eq!(
            paths,
            [
                "opt/",
                "opt/weir/",
                "opt/weir/weir-cni",
                "usr/",
                "usr/bin/",
                "usr/bin/ipamd"
            ]
        );
        // Everything in the archive is reached from its index.
        assert_eq!(
            archive
                .keys()
                .filter(|path| path.starts_with("blobs/sha256/"))
                .count()
                - 1,
            4
        );
    }

    #[test]
    fn the_same_files_give_the_same_archive() {
        assert_eq!(image().archive().unwrap(), image().archive().unwrap());
    }
}
