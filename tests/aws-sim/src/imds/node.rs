//! A tree whose branches grow when someone looks: nodes of a cluster poll single leaves.

use std::borrow::Cow;

/// A directory or a leaf.
pub(super) enum Node<'v> {
    Directory(Vec<Child<'v>>),
    Text(String),
    Json(serde_json::Value),
}

/// An entry of a directory. What an instance does not have opens to `None`: IMDS answers 404 for it, also for an
/// empty list, and does not list it.
pub(super) struct Child<'v> {
    name: Cow<'v, str>,
    open: Box<dyn Fn() -> Option<Node<'v>> + 'v>,
    /// Whether it is in the list also when it is not there.
    always_listed: bool,
}

impl<'v> Child<'v> {
    pub(super) fn new(
        name: impl Into<Cow<'v, str>>,
        open: impl Fn() -> Option<Node<'v>> + 'v,
    ) -> Child<'v> {
        Child {
            name: name.into(),
            open: Box::new(open),
            always_listed: false,
        }
    }

    pub(super) fn always_listed(self) -> Child<'v> {
        Child {
            always_listed: true,
            ..self
        }
    }

    /// The same, not there until `there`.
    pub(super) fn only_if(self, there: bool) -> Child<'v> {
        if there {
            return self;
        }
        Child::new(self.name, || None)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// A directory.
pub(super) fn directory<'v>(
    name: impl Into<Cow<'v, str>>,
    children: impl Fn() -> Vec<Child<'v>> + 'v,
) -> Child<'v> {
    Child::new(name, move || Some(Node::Directory(children())))
}

/// A leaf of one line.
pub(super) fn text<'v, T: ToString>(
    name: &'static str,
    value: impl Fn() -> Option<T> + 'v,
) -> Child<'v> {
    Child::new(name, move || Some(Node::Text(value()?.to_string())))
}

/// A leaf with one line for each value.
pub(super) fn lines<'v, T: ToString>(
    name: &'static str,
    values: impl Fn() -> Vec<T> + 'v,
) -> Child<'v> {
    Child::new(name, move || {
        let lines: Vec<String> = values().iter().map(ToString::to_string).collect();
        (!lines.is_empty()).then(|| Node::Text(lines.join("\n")))
    })
}

impl<'v> Node<'v> {
    /// The entry of this name.
    pub(super) fn child(&self, name: &str) -> Option<Node<'v>> {
        match self {
            Node::Directory(children) => {
                let child = children.iter().find(|child| child.name == name)?;
                (child.open)()
            }
            Node::Text(_) | Node::Json(_) => None,
        }
    }

    pub(super) fn content_type(&self) -> &'static str {
        match self {
            Node::Directory(_) | Node::Text(_) => "text/plain",
            Node::Json(_) => "application/json",
        }
    }

    /// A directory is the list of its entries by name, those that are directories with a slash.
    pub(super) fn text(self) -> String {
        let mut children = match self {
            Node::Text(text) => return text,
            Node::Json(value) => return format!("{value:#}"),
            Node::Directory(children) => children,
        };
        children.sort_by(|one, other| one.name.cmp(&other.name));
        let names = children.iter().filter_map(|child| match (child.open)() {
            Some(Node::Directory(_)) => Some(format!("{}/", child.name)),
            Some(Node::Text(_) | Node::Json(_)) => Some(child.name.to_string()),
            None => child.always_listed.then(|| child.name.to_string()),
        });
        names.collect::<Vec<_>>().join("\n")
    }
}
