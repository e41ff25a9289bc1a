//! What the file says: a header, the ledger, and a checksum over both.

use ipam::Ledger;
use serde::{Deserialize, Serialize};

use crate::Identity;

const NAME: &str = "weir-books/";
const VERSION: u32 = 1;

/// The whole file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    instance_id: String,
    boot_id: String,
    ledger: Ledger,
    /// CRC-32 of all the rest, as a JSON array without spaces, in hexadecimal.
    crc32: String,
}

/// What is looked at first: it must be readable in all versions to come.
#[derive(Deserialize)]
struct Head {
    format: String,
}

/// Why a books file is not trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Distrust {
    /// No content.
    #[error("it is empty")]
    Empty,
    /// Not JSON, or not all of it: torn, or written by something else.
    #[error("it is torn or not a books file: {0}")]
    Torn(String),
    /// JSON with an unknown format.
    #[error("its format is {0:?}, which is not one of Weir's books")]
    Foreign(String),
    /// A later Weir wrote it.
    #[error(
        "a newer Weir wrote it (format {found:?}, this one reads up to \"{NAME}{VERSION}\"); go back to that one to use it"
    )]
    Newer {
        /// Its format.
        found: String,
    },
    /// Its content is not what was written.
    #[error("its checksum is {found}, but its content gives {computed}: it was changed or damaged")]
    Checksum {
        /// As it says.
        found: String,
        /// As it is.
        computed: String,
    },
    /// Written on another instance.
    #[error("it belongs to instance {found}, and this one is {ours}")]
    OtherInstance {
        /// Its instance.
        found: String,
        /// This instance.
        ours: String,
    },
    /// Written before the node was started anew.
    #[error("it belongs to boot {found}, and this one is {ours}: the pods in it are gone")]
    OtherBoot {
        /// Its boot.
        found: String,
        /// This boot.
        ours: String,
    },
}

impl Distrust {
    /// Whether pods that it names may still run: their addresses must not be given out.
    #[must_use]
    pub fn pods_may_run(&self) -> bool {
        match self {
            Self::OtherInstance { .. } | Self::OtherBoot { .. } => false,
            Self::Empty
            | Self::Torn(_)
            | Self::Foreign(_)
            | Self::Newer { .. }
            | Self::Checksum { .. } => true,
        }
    }

    /// In one word, for the name of the file that is set aside.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Torn(_) => "torn",
            Self::Foreign(_) => "foreign",
            Self::Newer { .. } => "newer",
            Self::Checksum { .. } => "damaged",
            Self::OtherInstance { .. } => "other-instance",
            Self::OtherBoot { .. } => "other-boot",
        }
    }
}

/// The file's bytes.
pub(crate) fn encode(identity: &Identity, ledger: &Ledger) -> Result<Vec<u8>, serde_json::Error> {
    let mut file = File {
        format: format!("{NAME}{VERSION}"),
        instance_id: identity.instance_id.as_str().to_owned(),
        boot_id: identity.boot_id.clone(),
        ledger: ledger.clone(),
        crc32: String::new(),
    };
    file.crc32 = checksum(&file)?;
    let mut bytes = serde_json::to_vec_pretty(&file)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The ledger that the bytes hold, if they can be trusted.
pub(crate) fn decode(identity: &Identity, bytes: &[u8]) -> Result<Ledger, Distrust> {
    let torn = |error: serde_json::Error| Distrust::Torn(error.to_string());
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Distrust::Empty);
    }
    let Head { format } = serde_json::from_slice(bytes).map_err(torn)?;
    match format.strip_prefix(NAME).map(str::parse::<u32>) {
        Some(Ok(version)) if version > VERSION => return Err(Distrust::Newer { found: format }),
        Some(Ok(VERSION)) => {}
        _ => return Err(Distrust::Foreign(format)),
    }
    let file: File = serde_json::from_slice(bytes).map_err(torn)?;
    let computed = checksum(&file).map_err(torn)?;
    if file.crc32 != computed {
        return Err(Distrust::Checksum {
            found: file.crc32,
            computed,
        });
    }
    if file.instance_id != identity.instance_id.as_str() {
        return Err(Distrust::OtherInstance {
            found: file.instance_id,
            ours: identity.instance_id.as_str().to_owned(),
        });
    }
    if file.boot_id != identity.boot_id {
        return Err(Distrust::OtherBoot {
            found: file.boot_id,
            ours: identity.boot_id.clone(),
        });
    }
    Ok(file.ledger)
}

fn checksum(file: &File) -> Result<String, serde_json::Error> {
    let rest = (&file.format, &file.instance_id, &file.boot_id, &file.ledger);
    Ok(format!("{:08x}", crc32(&serde_json::to_vec(&rest)?)))
}

/// CRC-32 as in IEEE 802.3 and zlib: it finds every error of up to 32 bits in a row.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn crc32_gives_the_published_check_value() {
        assert_eq!(super::crc32(b"123456789"), 0xcbf4_3926);
    }
}
