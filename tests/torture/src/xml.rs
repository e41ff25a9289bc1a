//! Just enough XML to read what EC2 answers: elements and text. Attributes are passed over.

use std::borrow::Cow;

/// An element.
#[derive(Debug, Default)]
pub(crate) struct Element<'a> {
    name: &'a str,
    text: Cow<'a, str>,
    children: Vec<Element<'a>>,
}

impl<'a> Element<'a> {
    /// The document's root; none when the text ends too early or is no XML.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let mut rest = text;
        if let Some(prolog) = rest.strip_prefix("<?") {
            rest = prolog.split_once("?>")?.1;
        }
        let (root, rest) = element(rest.trim_start())?;
        rest.trim().is_empty().then_some(root)
    }

    /// The first child of this name.
    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text of the first child of this name.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.as_ref())
    }

    /// The items of the list of this name; none when it is not there.
    pub(crate) fn items(&self, name: &str) -> &[Self] {
        self.child(name).map_or(&[], |list| &list.children)
    }

    /// Its own text.
    pub(crate) fn own_text(&self) -> &str {
        &self.text
    }
}

fn element(text: &str) -> Option<(Element<'_>, &str)> {
    let rest = text.strip_prefix('<')?;
    let (tag, mut rest) = rest.split_once('>')?;
    let (tag, empty) = match tag.strip_suffix('/') {
        Some(tag) => (tag, true),
        None => (tag, false),
    };
    let name = tag.split_ascii_whitespace().next()?;
    let mut found = Element {
        name,
        ..Element::default()
    };
    if empty {
        return Some((found, rest));
    }
    loop {
        let at = rest.find('<')?;
        let (words, tag) = rest.split_at(at);
        if let Some(end) = tag.strip_prefix("</") {
            if found.children.is_empty() {
                found.text = unescape(words);
            }
            let (closed, after) = end.split_once('>')?;
            return (closed == name).then_some((found, after));
        }
        let (child, after) = element(tag)?;
        found.children.push(child);
        rest = after;
    }
}

fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let plain = text.replace("&lt;", "<").replace("&gt;", ">");
    let plain = plain.replace("&quot;", "\"").replace("&apos;", "'");
    Cow::Owned(plain.replace("&#39;", "'").replace("&amp;", "&"))
}

#[cfg(test)]
mod tests {
    use super::Element;

    #[test]
    fn elements_and_text_are_read_and_half_a_document_is_none() {
        let text = "<?xml version=\"1.0\"?>\n<R xmlns=\"x\"><a>1 &amp; 2</a><l><item><b>x</b></item><item/></l></R>";
        let root = Element::parse(text).unwrap();
        assert_eq!(root.text("a"), Some("1 & 2"));
        assert_eq!(root.items("l").len(), 2);
        assert_eq!(root.items("l")[0].text("b"), Some("x"));
        for end in 0..text.len() {
            let half = text.get(..end).unwrap();
            assert!(Element::parse(half).is_none(), "{half}");
        }
    }
}
