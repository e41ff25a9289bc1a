//! EC2's port, asked in ways that no SDK asks: it answers with an EC2 error, and goes on.

use crate::process::{Served, parse};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
const SIGNED: &str = "Authorization: AWS4-HMAC-SHA256 \
    Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/ec2/aws4_request, SignedHeaders=host, Signature=00\r\n";

fn post(headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST / HTTP/1.1\r\nHost: here\r\n{SIGNED}{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// The status and code of an EC2 error; panics on anything else.
#[track_caller]
fn error(served: &Served, request: &str, half: bool) -> (u16, String) {
    let reply = String::from_utf8(served.raw("endpoint", request.as_bytes(), half)).unwrap();
    let (status, body) = parse(&reply);
    let inside = body
        .strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>")
        .unwrap_or_else(|| panic!("{request:?} got {reply:?}"));
    assert!(body.ends_with("</RequestID></Response>"), "{body}");
    assert!(
        reply.to_lowercase().contains("x-amzn-requestid: "),
        "{reply}"
    );
    (status, inside.split('<').next().unwrap().to_owned())
}

#[test]
fn requests_are_read_from_query_form_and_chunks() {
    let served = Served::start("read", &[]);
    let chunked = format!(
        "POST /?Action=DescribeVpcs HTTP/1.1\r\nHost: here\r\n{SIGNED}{FORM}Transfer-Encoding: chunked\r\n\
         Connection: close\r\n\r\n8\r\nVersion=\r\na\r\n2016-11-15\r\n0\r\n\r\n"
    );
    let get = format!(
        "GET /?Action=DescribeVpcs&Version=2016-11-15 HTTP/1.1\r\nHost: here\r\n{SIGNED}Connection: close\r\n\r\n"
    );
    let form = post(
        "Content-Type: application/x-www-form-urlencoded; charset=utf-8\r\n",
        "Action=DescribeVpcs&Version=2016-11-15",
    );
    let untyped = post("", "Action=DescribeVpcs&Version=2016-11-15");
    for request in [chunked, get, form, untyped] {
        let reply = String::from_utf8(served.raw("endpoint", request.as_bytes(), false)).unwrap();
        let (status, body) = parse(&reply);
        assert_eq!(status, 200, "{request}: {reply}");
        assert!(body.contains("<DescribeVpcsResponse "), "{request}: {body}");
    }
}

#[test]
fn what_is_no_request_gets_an_ec2_error() {
    let served = Served::start("no-request", &[]);
    let good = "Action=DescribeVpcs&Version=2016-11-15";
    let truncated = format!(
        "POST / HTTP/1.1\r\nHost: here\r\n{SIGNED}{FORM}Content-Length: 100\r\n\r\nAction=Describe"
    );
    for (request, status, code, half) in [
        (post(FORM, ""), 400, "MissingAction", false),
        (
            post(FORM, "%ff%fe=%zz&&&=&Action"),
            400,
            "MissingAction",
            false,
        ),
        (
            post(
                "Content-Type: application/json\r\n",
                "{\"Action\": \"DescribeVpcs\"}",
            ),
            400,
            "InvalidQueryParameter",
            false,
        ),
        (
            post(FORM, &format!("{good}&Action=DescribeSubnets")),
            400,
            "InvalidQueryParameter",
            false,
        ),
        (
            post(FORM, &format!("{good}&VpcId.1=a&VpcId.1=a")),
            400,
            "InvalidQueryParameter",
            false,
        ),
        (
            post(FORM, "Action=Describe\u{1f980}Vpcs&Version=2016-11-15"),
            400,
            "InvalidAction",
            false,
        ),
        (
            post(FORM, good).replacen("POST", "PUT", 1),
            400,
            "UnsupportedProtocol",
            false,
        ),
        (
            post(FORM, &format!("{good}&Filler={}", "x".repeat(1 << 20))),
            413,
            "RequestEntityTooLarge",
            false,
        ),
        (truncated, 400, "IncompleteBody", true),
    ] {
        let shown: String = request.chars().take(300).collect();
        assert_eq!(
            error(&served, &request, half),
            (status, code.to_owned()),
            "{shown}"
        );
    }
    let (_, counts) = served.control("GET", "/counts", "");
    assert!(
        counts.contains("InvalidQueryParameter"),
        "such requests are counted: {counts}"
    );
    assert_eq!(served.ec2("Action=DescribeVpcs").0, 200);
}

#[test]
fn what_is_not_even_http_ends_the_connection_and_nothing_else() {
    let served = Served::start("not-http", &[]);
    let bad_chunk = format!(
        "POST / HTTP/1.1\r\nHost: here\r\n{SIGNED}{FORM}Transfer-Encoding: chunked\r\n\r\nxyz\r\nAction=\r\n"
    );
    for bytes in [
        bad_chunk.as_bytes(),
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"",
    ] {
        let reply = served.raw("endpoint", bytes, true);
        assert!(!reply.starts_with(b"HTTP/1.1 200"), "{bytes:?}");
    }
    assert_eq!(served.ec2("Action=DescribeVpcs").0, 200);
    assert!(!served.log().contains("panicked"), "{}", served.log());
}

#[test]
fn one_connection_serves_many_requests_also_when_they_do_not_wait() {
    let served = Served::start("pipelined", &[]);
    let one = |close: bool| {
        let last = if close { "Connection: close\r\n" } else { "" };
        format!(
            "GET /?Action=DescribeVpcs&Version=2016-11-15 HTTP/1.1\r\nHost: here\r\n{SIGNED}{last}\r\n"
        )
    };
    let all: String = (0..20).map(|n| one(n == 19)).collect();
    let reply = String::from_utf8(served.raw("endpoint", all.as_bytes(), false)).unwrap();
    assert_eq!(reply.matches("HTTP/1.1 200 OK").count(), 20);
    assert_eq!(reply.matches("</DescribeVpcsResponse>").count(), 20);
}

#[test]
fn people_find_the_pages_and_a_list_of_them() {
    let served = Served::start("pages", &[]);
    let get = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
        parse(&String::from_utf8(served.raw("endpoint", request.as_bytes(), false)).unwrap())
    };
    served.ec2("Action=DescribeVpcs");
    assert!(
        get("/_sim/world")
            .1
            .contains("(node-1) m5.large us-east-1a running")
    );
    assert!(get("/_sim/calls").1.contains("DescribeVpcs ok"));
    assert!(get("/_sim/counts").1.contains("DescribeVpcs: 1 ok"));
    let (status, pages) = get("/_sim/other");
    assert_eq!(status, 404);
    assert!(pages.contains("/_sim/world"), "{pages}");
}
