//! Reads values out of EC2's XML by the name of their element: enough for names to be learned and replies checked.

/// The texts of all elements of this name that have only text, in order.
#[must_use]
pub fn all(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let after = xml.split(&open).skip(1);
    let texts = after
        .filter_map(|rest| rest.split_once(&close))
        .map(|(text, _)| text);
    texts
        .filter(|text| !text.contains('<'))
        .map(unescape)
        .collect()
}

/// The first of them.
#[must_use]
pub fn first(xml: &str, name: &str) -> Option<String> {
    all(xml, name).into_iter().next()
}

fn unescape(text: &str) -> String {
    let entities = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#13;", "\r"),
        ("&amp;", "&"),
    ];
    entities
        .iter()
        .fold(text.to_owned(), |text, (entity, plain)| {
            text.replace(entity, plain)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_are_found_by_name_and_others_are_not() {
        let xml = "<a><b>1 &amp;lt; 2</b><c><b>3</b></c><b><d/></b></a>";
        assert_eq!(all(xml, "b"), ["1 &lt; 2", "3"]);
        assert_eq!(first(xml, "a"), None);
    }
}
