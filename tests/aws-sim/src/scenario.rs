//! Files that describe a world, what goes wrong in it, and stories that are played in it.
//!
//! A file is TOML with these parts, each of which may be missing:
//!
//! - `title = ".."`;
//! - `[world]`: the knobs of [`WorldConfig`], by their names;
//! - `[[vpc]]`, `[[subnet]]`, `[[security-group]]`, `[[instance]]`, `[[eni]]`: what there is at the beginning, each
//!   with a `name` that the others refer to, and that becomes its `Name` tag;
//! - `[[fault]]`, `[[imds-fault]]`, `[[deny]]`: [`Fault`], [`ImdsFault`] and [`Deny`] from the beginning on;
//! - `[[event]]`: a [`Scheduled`] event;
//! - `[[step]]`: what callers do, with what they must see: a story, for [`play()`].
//!
//! In the texts of the last three, `$name` stands for the id of the thing of that name.
//!
//! What is there at the beginning is made by EC2's own rules, so that a file can't have what EC2 would refuse.

mod builder;
mod document;
pub mod elements;
mod instances;
mod names;
mod network;
mod play;
mod story;

use self::builder::Builder;
pub use self::document::FileError;
use self::document::{Document, Entry};
pub use self::names::{Kind, Names};
pub use self::play::{Line, Played, play};
use crate::actions;
use crate::events::Scheduled;
use crate::faults::{Fault, ImdsFault};
use crate::filters::wildcard;
use crate::iam::Deny;
use crate::time::SimTime;
use crate::world::{Latencies, World, WorldConfig};

/// All parts that a file can have.
const PARTS: &[&str] = &[
    "title",
    "world",
    "vpc",
    "subnet",
    "security-group",
    "instance",
    "eni",
    "fault",
    "imds-fault",
    "deny",
    "event",
    "step",
];

/// A world file with all there can be in one, and comments that explain it.
pub const EXAMPLE: &str = include_str!("scenario/example.toml");

/// A world as files describe it, with what will go wrong in it, and the steps of a story.
#[derive(Clone, Debug)]
pub struct Scenario<'t> {
    /// The world at its beginning.
    pub world: World,
    /// What things in it are called.
    pub names: Names,
    /// What the story is called; empty when no file says.
    pub title: String,
    steps: Vec<Entry<'t>>,
}

impl Scenario<'_> {
    /// How many steps the story has; 0 is a world without a story.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.steps.len()
    }
}

/// A file: its name, for errors, and its text.
pub type File<'a> = (&'a str, &'a str);

/// Makes the world that files describe, one after the other. `base` is how it behaves when no file has `[world]`.
///
/// # Errors
/// Says what is wrong, where, and what to do.
pub fn load<'t>(files: &[File<'t>], base: &WorldConfig) -> Result<Scenario<'t>, FileError> {
    let parsed = files.iter().map(|(file, text)| Document::parse(file, text));
    let documents: Vec<Document<'t>> = parsed.collect::<Result<_, _>>()?;
    let mut config: Option<WorldConfig> = None;
    let mut title = String::new();
    for document in &documents {
        document.only(PARTS)?;
        if let Some(text) = document.text("title")? {
            title = text;
        }
        if let Some(entry) = document.table("world")? {
            if config.is_some() {
                return Err(entry.error("", "another file has [world] already: keep one"));
            }
            config = Some(entry.read()?);
        }
    }
    let config = config.unwrap_or_else(|| base.clone());
    let latencies = config.latencies;
    // At the beginning everything is done that the file asks for.
    let mut world = World::new(WorldConfig {
        latencies: Latencies::NONE,
        ..config
    });
    let mut names = Names::default();
    for document in &documents {
        build(
            document,
            &mut Builder {
                world: &mut world,
                names: &mut names,
            },
        )?;
    }
    world.config.latencies = latencies;
    let mut steps = Vec::new();
    for document in &documents {
        go_wrong(document, &mut world, &names)?;
        steps.extend(document.tables("step")?);
    }
    Ok(Scenario {
        world,
        names,
        title,
        steps,
    })
}

/// Whether a file describes a network, or only what happens in one.
///
/// # Errors
/// When it is not TOML.
pub fn describes_network((file, text): File<'_>) -> Result<bool, FileError> {
    Ok(!Document::parse(file, text)?.tables("vpc")?.is_empty())
}

fn build(document: &Document<'_>, builder: &mut Builder<'_>) -> Result<(), FileError> {
    document
        .tables("vpc")?
        .iter()
        .try_for_each(|entry| builder.vpc(entry))?;
    document
        .tables("subnet")?
        .iter()
        .try_for_each(|entry| builder.subnet(entry))?;
    document
        .tables("security-group")?
        .iter()
        .try_for_each(|entry| builder.group(entry))?;
    document
        .tables("instance")?
        .iter()
        .try_for_each(|entry| builder.instances(entry))?;
    document
        .tables("eni")?
        .iter()
        .try_for_each(|entry| builder.lone_eni(entry))
}

fn go_wrong<'t>(
    document: &Document<'t>,
    world: &mut World,
    names: &Names,
) -> Result<(), FileError> {
    let named = |world: &World, part: &str| -> Result<Vec<Entry<'t>>, FileError> {
        let entries = document.tables(part)?;
        let replaced = entries
            .iter()
            .map(|entry| entry.replaced(&mut |text| names.replace(world, text)));
        replaced.collect()
    };
    for entry in named(world, "fault")? {
        let fault: Fault = entry.read()?;
        check_action(fault.action.as_deref()).map_err(|what| entry.error("action", what))?;
        world.faults.add(fault);
    }
    for entry in named(world, "imds-fault")? {
        world
            .faults
            .add_imds(SimTime::ZERO, entry.read::<ImdsFault>()?);
    }
    for entry in named(world, "deny")? {
        let deny: Deny = entry.read()?;
        check_action(Some(&deny.action)).map_err(|what| entry.error("action", what))?;
        world.iam.deny(deny);
    }
    for entry in named(world, "event")? {
        world.schedule_event(entry.read::<Scheduled>()?);
    }
    Ok(())
}

/// Whether any action matches: a rule with a slip of the pen would never act.
pub(crate) fn check_action(pattern: Option<&str>) -> Result<(), String> {
    let Some(pattern) = pattern else {
        return Ok(());
    };
    let bare = pattern.strip_prefix("ec2:").unwrap_or(pattern);
    if actions::names().any(|name| wildcard(bare, name)) {
        return Ok(());
    }
    Err(format!(
        "no action matches {pattern:?}: write one of EC2's, such as CreateNetworkInterface, or a pattern, such as \
         Describe*; `aws-sim actions` lists them"
    ))
}
