//! One statement about EC2, and how to find out whether a target keeps it.

use std::fmt::{Debug, Display};
use std::pin::Pin;

use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};

use crate::ec2::Ec2;

/// A statement about EC2. Its check makes what it needs through the API, so that it runs on any target.
pub(crate) struct Check {
    /// Its name, by which differences are listed.
    pub(crate) row: &'static str,
    /// What EC2 does.
    pub(crate) says: &'static str,
    /// Who says so: `D` AWS's documentation, `M` the API model, `S` answers of EC2 that others captured, `I` one that is
    /// quoted in an issue, `C` the source of a client that depends on it, `R` from memory: no source found.
    pub(crate) source: &'static str,
    /// Finds out.
    pub(crate) run: for<'a> fn(&'a Ec2) -> Pin<Box<dyn Future<Output = Outcome> + 'a>>,
}

/// One check: `check!(row, says, source, |ec2| { ... })`, with a body that may await.
macro_rules! check {
    ($row:expr, $says:expr, $source:expr, |$ec2:ident| $body:block) => {
        $crate::check::Check {
            row: $row,
            says: $says,
            source: $source,
            run: |$ec2| {
                Box::pin(async move {
                    $body
                    Ok(())
                })
            },
        }
    };
}
pub(crate) use check;

/// What a target does instead.
#[derive(Debug)]
pub(crate) struct Difference(pub(crate) String);

pub(crate) type Outcome<T = ()> = Result<T, Difference>;

impl Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: ProvideErrorMetadata + Debug> From<SdkError<E, HttpResponse>> for Difference {
    fn from(error: SdkError<E, HttpResponse>) -> Difference {
        Difference(format!("refused: {}", Refusal::of(&error)))
    }
}

impl From<anyhow::Error> for Difference {
    fn from(error: anyhow::Error) -> Difference {
        Difference(format!("{error:#}"))
    }
}

impl From<std::io::Error> for Difference {
    fn from(error: std::io::Error) -> Difference {
        Difference(error.to_string())
    }
}

/// How a target refused a call.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// 0 when there was no answer.
    pub(crate) status: u16,
    /// Empty when the answer was not an error of EC2.
    pub(crate) code: String,
    pub(crate) text: String,
}

impl Refusal {
    pub(crate) fn of<E: ProvideErrorMetadata + Debug>(
        error: &SdkError<E, HttpResponse>,
    ) -> Refusal {
        match error {
            SdkError::ServiceError(answer) => Refusal {
                status: answer.raw().status().as_u16(),
                code: answer.err().code().unwrap_or_default().to_owned(),
                text: answer.err().message().unwrap_or_default().to_owned(),
            },
            SdkError::ResponseError(answer) => Refusal {
                status: answer.raw().status().as_u16(),
                code: String::new(),
                text: "an answer that is not EC2's".to_owned(),
            },
            other => Refusal {
                status: 0,
                code: String::new(),
                text: format!("{other:?}"),
            },
        }
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Refusal { status, code, text } = self;
        match code.as_str() {
            "" => write!(f, "HTTP {status} without an error of EC2 {text}"),
            code => write!(f, "{code} [{status}]: {text}"),
        }
    }
}

/// What a call that must be refused came to.
pub(crate) trait MustFail<T>: Sized {
    /// How it was refused.
    fn refusal(self) -> Outcome<Refusal>;

    /// It must be refused with one of these codes and the HTTP status that goes with it.
    fn refused(self, codes: &[&str]) -> Outcome {
        let refusal = self.refusal()?;
        let known = codes.contains(&refusal.code.as_str());
        if known && refusal.status == status_of(&refusal.code) {
            return Ok(());
        }
        Err(Difference(format!(
            "{refusal}, where EC2 says {} [{}]",
            codes.join(" or "),
            codes.first().map_or(400, |code| status_of(code))
        )))
    }

    /// It must be refused with this code and this text.
    fn refused_with(self, code: &str, text: &str) -> Outcome {
        let refusal = self.refusal()?;
        if refusal.code == code && refusal.text == text && refusal.status == status_of(code) {
            return Ok(());
        }
        Err(Difference(format!(
            "{refusal}, where EC2 says {code} [{}]: {text}",
            status_of(code)
        )))
    }
}

impl<T, E: ProvideErrorMetadata + Debug> MustFail<T> for Result<T, SdkError<E, HttpResponse>> {
    fn refusal(self) -> Outcome<Refusal> {
        match self {
            Ok(_) => Err(Difference("accepted".to_owned())),
            Err(error) => Ok(Refusal::of(&error)),
        }
    }
}

/// The HTTP status that goes with an error code.
pub(crate) fn status_of(code: &str) -> u16 {
    match code {
        "AuthFailure" => 401,
        "MissingAuthenticationToken" | "UnauthorizedOperation" => 403,
        "DryRunOperation" => 412,
        "InternalError" => 500,
        "RequestLimitExceeded" | "Unavailable" | "ServiceUnavailable" => 503,
        _ => 400,
    }
}

/// Two things must be the same.
#[expect(
    clippy::needless_pass_by_value,
    reason = "most are made for this, and read better without an ampersand"
)]
pub(crate) fn same<A: Debug + PartialEq<B>, B: Debug>(
    what: &str,
    found: A,
    expected: B,
) -> Outcome {
    if found == expected {
        return Ok(());
    }
    Err(Difference(format!(
        "{what}: {found:?}, on EC2 {expected:?}"
    )))
}

/// This must be so.
pub(crate) fn holds(so: bool, otherwise: impl Display) -> Outcome {
    if so {
        return Ok(());
    }
    Err(Difference(otherwise.to_string()))
}

/// What an answer must have.
pub(crate) trait Need<T> {
    fn need(self, what: &str) -> Outcome<T>;
}

impl<T> Need<T> for Option<T> {
    fn need(self, what: &str) -> Outcome<T> {
        self.ok_or_else(|| Difference(format!("the answer has no {what}")))
    }
}
