//! The one writer of XML: elements in EC2's order, text escaped.

use std::fmt::Display;

/// A body that grows.
#[derive(Clone, Debug, Default)]
pub struct Xml {
    out: String,
}

impl Xml {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Xml {
        Xml::default()
    }

    /// `<name>value</name>`
    pub fn text(&mut self, name: &str, value: impl Display) -> &mut Xml {
        self.open(name);
        self.escape(&value.to_string());
        self.close(name);
        self
    }

    /// Only the text, within an element that is open: for lists of plain values.
    pub fn value(&mut self, value: impl Display) {
        self.escape(&value.to_string());
    }

    /// `<name>value</name>`, or nothing.
    pub fn maybe(&mut self, name: &str, value: Option<impl Display>) -> &mut Xml {
        if let Some(value) = value {
            self.text(name, value);
        }
        self
    }

    /// `<name>...</name>`
    pub fn node(&mut self, name: &str, inside: impl FnOnce(&mut Xml)) -> &mut Xml {
        self.open(name);
        inside(self);
        self.close(name);
        self
    }

    /// `<name><item>...</item><item>...</item></name>`, also when there are none.
    pub fn set<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        mut item: impl FnMut(&mut Xml, T),
    ) -> &mut Xml {
        self.open(name);
        for value in items {
            self.open("item");
            item(self, value);
            self.close("item");
        }
        self.close(name);
        self
    }

    /// The document of a success.
    #[must_use]
    pub fn into_response(self, action: &str, request_id: &str) -> String {
        let body = self.out;
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <{action}Response xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
             <requestId>{request_id}</requestId>{body}</{action}Response>"
        )
    }

    /// The document of an error. Unlike all others it has no namespace, and calls the id `RequestID`.
    #[must_use]
    pub fn error_response(code: &str, message: &str, request_id: &str) -> String {
        let mut xml = Xml::new();
        xml.node("Response", |xml| {
            xml.node("Errors", |xml| {
                xml.node("Error", |xml| {
                    xml.text("Code", code).text("Message", message);
                });
            });
            xml.text("RequestID", request_id);
        });
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}", xml.out)
    }

    fn open(&mut self, name: &str) {
        self.out.push('<');
        self.out.push_str(name);
        self.out.push('>');
    }

    fn close(&mut self, name: &str) {
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }

    fn escape(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '"' => self.out.push_str("&quot;"),
                '\t' | '\n' => self.out.push(c),
                '\r' => self.out.push_str("&#13;"),
                // XML 1.0 has no way to write the other control characters and these two.
                '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => self.out.push('\u{fffd}'),
                _ => self.out.push(c),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        let mut xml = Xml::new();
        xml.text("a", "<&>\"\u{1}é");
        assert_eq!(xml.out, "<a>&lt;&amp;&gt;&quot;\u{fffd}é</a>");
    }

    #[test]
    fn errors_have_the_form_that_sdks_parse() {
        assert_eq!(
            Xml::error_response("C", "m's", "id"),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>C</Code>\
             <Message>m's</Message></Error></Errors><RequestID>id</RequestID></Response>"
        );
    }
}
