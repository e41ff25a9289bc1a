//! What the file says: a header, the ledger, and a checksum over both.

use ipam::{BooksVersion, CoolingEntry, EniEntry, EniIntent, Ledger, SubnetsSeen, Tombstone};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Serializer;
use serde_json::value::RawValue;

use crate::Identity;
use crate::grants::GrantLines;
use crate::lines::Lines;

const NAME: &str = "weir-books/";
/// What is written.
const VERSION: u32 = 3;
/// What is read besides: what later versions have more of, the ledger takes for not known.
const OLDEST: u32 = 2;

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    instance_id: String,
    boot_id: String,
    ledger: Ledger,
    #[serde(rename = "crc32")]
    _crc32: IgnoredAny,
}

/// The same, on its way out.
#[derive(Serialize)]
struct Draft<'a> {
    format: String,
    instance_id: &'a str,
    boot_id: &'a str,
    ledger: LedgerDraft<'a>,
    /// CRC-32 of all that is before it in the file, in hexadecimal. The last thing in the file but for [`TAIL`].
    crc32: &'a str,
}

/// The ledger, on its way out: grants are written already.
#[derive(Serialize)]
struct LedgerDraft<'a> {
    version: BooksVersion,
    enis: &'a [EniEntry],
    grants: Vec<&'a RawValue>,
    cooling: &'a [CoolingEntry],
    intents: &'a [EniIntent],
    tombstones: &'a [Tombstone],
    orphans: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    subnets: &'a Option<SubnetsSeen>,
}

/// What stands for the checksum while it is not known.
const NO_CRC: &str = "00000000";
/// What follows the checksum.
const TAIL: &[u8] = b"\"\n}\n";

/// What must be readable in all versions to come.
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

    /// The words of all but [`Distrust::OtherInstance`].
    pub(crate) const OF_THIS_INSTANCE: [&str; 6] =
        ["empty", "torn", "foreign", "newer", "damaged", "other-boot"];

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
///
/// # Errors
///
/// Those of the JSON writer; a ledger gives none.
pub fn encode(identity: &Identity, ledger: &Ledger) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::new();
    encode_into(&mut bytes, &mut GrantLines::default(), identity, ledger)?;
    Ok(bytes)
}

/// The same, instead of what is in `bytes`: room that was there already costs nothing, and neither do grants that were
/// written the last time.
pub(crate) fn encode_into(
    bytes: &mut Vec<u8>,
    lines: &mut GrantLines,
    identity: &Identity,
    ledger: &Ledger,
) -> Result<(), serde_json::Error> {
    let Ledger {
        version,
        enis,
        grants,
        cooling,
        intents,
        tombstones,
        orphans,
        subnets,
    } = ledger;
    let ledger = LedgerDraft {
        version: *version,
        enis,
        grants: lines.of(grants)?,
        cooling,
        intents,
        tombstones,
        orphans: *orphans,
        subnets,
    };
    bytes.clear();
    Draft {
        format: format!("{NAME}{VERSION}"),
        instance_id: identity.instance_id.as_str(),
        boot_id: &identity.boot_id,
        ledger,
        crc32: NO_CRC,
    }
    .serialize(&mut Serializer::with_formatter(
        &mut *bytes,
        Lines::default(),
    ))?;
    bytes.push(b'\n');
    bytes.truncate(bytes.len() - TAIL.len() - NO_CRC.len());
    let crc = format!("{:08x}", crc32fast::hash(bytes));
    bytes.extend_from_slice(crc.as_bytes());
    bytes.extend_from_slice(TAIL);
    Ok(())
}

/// The ledger that the bytes hold, if they can be trusted.
///
/// # Errors
///
/// Why they cannot.
pub fn decode(identity: &Identity, bytes: &[u8]) -> Result<Ledger, Distrust> {
    let torn = |error: serde_json::Error| Distrust::Torn(error.to_string());
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Distrust::Empty);
    }
    // Whole first, as it nearly always is: to look at the head alone is to read the file twice.
    let file = match serde_json::from_slice::<File>(bytes) {
        Ok(file) => {
            check_format(file.format.clone())?;
            file
        }
        Err(error) => {
            let Head { format } = serde_json::from_slice(bytes).map_err(torn)?;
            check_format(format)?;
            return Err(torn(error));
        }
    };
    let unlike = || Distrust::Torn("it does not end with its checksum".to_owned());
    let (content, crc) = bytes
        .strip_suffix(TAIL)
        .and_then(|rest| rest.split_last_chunk::<8>())
        .ok_or_else(unlike)?;
    let found = String::from_utf8_lossy(crc).into_owned();
    let computed = format!("{:08x}", crc32fast::hash(content));
    if found != computed {
        return Err(Distrust::Checksum { found, computed });
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

fn check_format(format: String) -> Result<(), Distrust> {
    match format.strip_prefix(NAME).map(str::parse::<u32>) {
        Some(Ok(version)) if version > VERSION => Err(Distrust::Newer { found: format }),
        Some(Ok(OLDEST..=VERSION)) => Ok(()),
        _ => Err(Distrust::Foreign(format)),
    }
}
