//! Answers that are cut short.
//!
//! A body that is shorter than its Content-Length fails by itself. One that was cut before that was counted, by a proxy or
//! by EC2, does not: the SDK's reader of XML takes the end of the text for the end of all lists, and says that EC2 has
//! answered. An ENI that the rest would have told would be taken for gone. So an answer counts only when its root is closed.

use aws_smithy_runtime_api::client::http::HttpConnector as _;
use aws_smithy_runtime_api::client::http::{HttpConnectorFuture, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;

/// XML whose root is not closed.
#[derive(Debug, thiserror::Error)]
#[error(
    "the answer is cut short: {length} bytes of XML without its end. Look what is on the way to the endpoint (a proxy, a \
     VPC endpoint) if this goes on"
)]
struct CutShort {
    length: usize,
}

/// Sends a request, and takes no answer that is cut short.
pub(crate) fn call(connector: &SharedHttpConnector, request: HttpRequest) -> HttpConnectorFuture {
    let sent = connector.call(request);
    HttpConnectorFuture::new(async move {
        let mut response = sent.await?;
        let body = std::mem::replace(response.body_mut(), SdkBody::taken());
        let body = ByteStream::new(body).collect().await;
        let body = body
            .map_err(|error| ConnectorError::io(error.into()))?
            .into_bytes();
        if !is_whole(&body) {
            let length = body.len();
            return Err(ConnectorError::io(CutShort { length }.into()));
        }
        *response.body_mut() = SdkBody::from(body);
        Ok(response)
    })
}

/// Whether it is no XML, or XML that ends with the end of its root.
fn is_whole(body: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(body) else {
        // In the middle of a character, or no text at all: the SDK's reader says which.
        return !body.trim_ascii_start().starts_with(b"<");
    };
    let text = text.trim();
    if !text.starts_with('<') {
        return true;
    }
    let Some((tag, rest)) = root(text) else {
        return false;
    };
    if let Some(tag) = tag.strip_suffix('/') {
        return !tag.is_empty() && rest.is_empty();
    }
    let name = tag.split_ascii_whitespace().next().unwrap_or_default();
    let end = rest
        .strip_suffix('>')
        .and_then(|rest| rest.trim_end().strip_suffix(name));
    !name.is_empty() && end.is_some_and(|rest| rest.ends_with("</"))
}

/// What is in the first element's tag, and what is after it.
fn root(mut text: &str) -> Option<(&str, &str)> {
    loop {
        let rest = text.trim_start().strip_prefix('<')?;
        let (tag, after) = rest.split_once('>')?;
        // `<?xml ...?>`, `<!-- ... -->`.
        if !tag.starts_with(['?', '!']) {
            return Some((tag, after));
        }
        text = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
        <DescribeNetworkInterfacesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\n\
        <networkInterfaceSet><item><networkInterfaceId>eni-1</networkInterfaceId></item></networkInterfaceSet>\n\
        <nextToken>\u{e9}</nextToken></DescribeNetworkInterfacesResponse>";

    #[test]
    fn xml_is_whole_at_its_end_alone() {
        assert!(is_whole(WHOLE.as_bytes()));
        assert!(is_whole(format!("{WHOLE}\n").as_bytes()));
        for at in 1..WHOLE.len() {
            assert!(!is_whole(&WHOLE.as_bytes()[..at]), "cut at {at}");
        }
    }

    #[test]
    fn a_root_without_content_is_whole() {
        assert!(is_whole(b"<DeleteNetworkInterfaceResponse/>"));
        assert!(is_whole(b"<a></a >"));
        for cut in [
            "<a></", "<a></a", "<a", "</", "<>", "</>", "<a/><b>", "<ab></b>",
        ] {
            assert!(!is_whole(cut.as_bytes()), "{cut}");
        }
    }

    #[test]
    fn what_is_no_xml_is_not_looked_at() {
        for body in ["", "  ", "{\"Token\":", "Service Unavailable"] {
            assert!(is_whole(body.as_bytes()), "{body:?}");
        }
    }

    #[test]
    fn a_page_of_a_proxy_is_whole_too() {
        assert!(is_whole(b"<!DOCTYPE html>\n<html><body>no</body></html>"));
        assert!(!is_whole(b"<!DOCTYPE html>\n<html><body>no"));
    }
}
