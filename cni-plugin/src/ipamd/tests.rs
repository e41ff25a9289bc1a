use std::collections::HashMap;

use proto::v1::PodAddress;
use tonic_types::ErrorDetails;

use super::*;

const SOCKET: &str = "/run/weir/ipamd.sock";

fn of(status: Status) -> CallError {
    CallError::of(Path::new(SOCKET), status, Duration::from_secs(55))
}

fn refusal(reason: &str, retryable: &str) -> Status {
    let metadata = [("next", "N"), ("remedy", "R"), ("retryable", retryable)];
    let metadata: HashMap<String, String> = metadata
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
    let details = ErrorDetails::with_error_info(reason, proto::ERROR_DOMAIN, metadata);
    Status::with_error_details(
        tonic::Code::ResourceExhausted,
        "EC2 said so, in full",
        details,
    )
}

#[test]
fn a_refusal_reaches_the_runtime_in_full_and_gave_nothing() {
    let cases = [
        ("POOL_EXHAUSTED", "false", 100),
        ("SUBNET_EXHAUSTED", "false", 101),
        ("EC2_REFUSED", "false", 102),
        ("EC2_THROTTLED", "false", 103),
        ("EC2_UNAVAILABLE", "false", 104),
        ("DEADLINE_EXCEEDED", "false", 105),
        ("STARTING", "false", 106),
        ("BOOKS_FAILED", "false", 107),
        ("SHUTTING_DOWN", "false", 108),
        ("NEVER_HEARD_OF", "false", 119),
        ("EC2_REFUSED", "", 102),
        ("EC2_THROTTLED", "true", 11),
        ("NEVER_HEARD_OF", "true", 11),
    ];
    for (reason, retryable, code) in cases {
        let error = of(refusal(reason, retryable));
        assert!(!error.may_have_given());
        let error = Error::from(error);
        assert_eq!(error.code.number(), code, "{reason} {retryable}");
        assert_eq!(error.msg, "EC2 said so, in full");
        assert_eq!(
            error.details,
            format!("reason: {reason}; next: N; remedy: R")
        );
    }
}

#[test]
fn a_status_without_our_reason_leaves_open_whether_anything_was_given() {
    let strange = ErrorDetails::with_error_info("POOL_EXHAUSTED", "elsewhere", HashMap::new());
    let cases = [
        (Status::unavailable("gone"), 11),
        (Status::cancelled("hung up"), 11),
        (Status::internal("broken"), 11),
        (Status::unimplemented("what?"), 120),
        (Status::permission_denied("who are you?"), 120),
        (
            Status::with_error_details(tonic::Code::Unknown, "odd", strange),
            11,
        ),
    ];
    for (status, code) in cases {
        let message = status.message().to_owned();
        let error = of(status);
        assert!(error.may_have_given());
        let error = Error::from(error);
        assert_eq!(error.code.number(), code, "{message}");
        assert!(
            error.msg.contains(SOCKET) && error.msg.contains(&message),
            "{}",
            error.msg
        );
    }
}

#[test]
fn a_deadline_that_passed_says_how_long_was_waited() {
    for status in [
        Status::deadline_exceeded("late"),
        Status::cancelled("Timeout expired"),
    ] {
        let error = of(status);
        assert!(error.may_have_given());
        let error = Error::from(error);
        assert_eq!(error.code.number(), 11);
        assert_eq!(
            error.msg,
            format!("ipamd did not answer at {SOCKET} within 55s")
        );
    }
}

fn response() -> AddResponse {
    let address = PodAddress {
        address: "10.0.1.17".to_owned(),
        ..PodAddress::default()
    };
    AddResponse {
        addresses: vec![address],
        mtu: 9001,
        pods_table: datapath::layout::PODS_TABLE,
    }
}

#[test]
fn an_answer_that_makes_no_sense_is_refused_with_what_it_said() {
    assert_eq!(
        Grant::of(&response()).unwrap(),
        Grant {
            addresses: vec!["10.0.1.17".parse().unwrap()],
            mtu: 9001
        }
    );
    let mut without = response();
    without.addresses.clear();
    let mut odd = response();
    odd.addresses[0].address = "2001:db8::x".to_owned();
    let cases = [
        (without, "without an address"),
        (odd, "2001:db8::x"),
        (
            AddResponse {
                mtu: 0,
                ..response()
            },
            "MTU of 0",
        ),
        (
            AddResponse {
                mtu: 70_000,
                ..response()
            },
            "MTU of 70000",
        ),
        (
            AddResponse {
                pods_table: 7,
                ..response()
            },
            "table 7",
        ),
    ];
    for (response, said) in cases {
        let error = Grant::of(&response).unwrap_err();
        assert!(error.may_have_given());
        let error = Error::from(error);
        assert_eq!(error.code, codes::CONTRACT);
        assert!(error.msg.contains(said), "{}", error.msg);
    }
}
