//! How a command fails: one exit code, one `error:` line, and one `hint:` line when something is known to help.
//!
//! Exit codes are part of the interface: scripts decide by them, people by the lines.

use std::{fmt, io, process::ExitCode};

use tillroll_client::ErrorKind;
use tokio::signal::unix::SignalKind;

pub(crate) use super::terminal::say;
use super::terminal::say_marked;

/// A command to copy, for whoever finds nobody at the address.
const START_ONE: &str = "tillroll dev   starts a broker here; --server or TILLROLL_SERVER names another one";

/// What a command's exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Done. As a failure: whoever read our output has gone, which is nobody's fault.
    Ok = 0,
    /// Anything that has no code of its own.
    Failure = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// A topic, partition or group is not there.
    NotFound = 3,
    /// The server refuses.
    Refused = 4,
    /// The server cannot be reached, is full, or did not answer in time.
    Unavailable = 5,
    /// The state is another one than the request expects.
    Conflict = 6,
    /// Stored data is damaged.
    Damaged = 7,
    /// Cut short by SIGHUP: its terminal went away.
    HungUp = 129,
    /// Cut short by Ctrl-C.
    Interrupted = 130,
    /// Cut short by SIGTERM.
    Terminated = 143,
}

impl Code {
    /// What a command ends with that a signal cuts short: 128 and the number of the signal, as shells have it.
    pub(crate) fn cut_short(signal: SignalKind) -> Self {
        if signal == SignalKind::interrupt() {
            Self::Interrupted
        } else if signal == SignalKind::hangup() {
            Self::HungUp
        } else {
            Self::Terminated
        }
    }
}

/// Why a command ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    code: Code,
    /// Empty when everything is said already.
    message: String,
    hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// A failure without a code of its own.
    pub(crate) fn plain(message: impl Into<String>) -> Self {
        Self::new(Code::Failure, message)
    }

    /// The command line makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    /// Ends with this code; everything is said already.
    pub(crate) fn silent(code: Code) -> Self {
        Self::new(code, "")
    }

    /// The same with what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same in other words.
    pub(crate) fn message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// A failure about what should be there already: whoever looks at it, or wants it gone, has no use for a new one.
    pub(crate) fn of_existing(error: tillroll_client::Error) -> Self {
        let kind = match error.reason() {
            Some("TOPIC_NOT_FOUND") => "topic",
            Some("GROUP_NOT_FOUND") => "group",
            _ => return error.into(),
        };
        let close = error.metadata().get("similar").map_or_else(String::new, |name| format!("did you mean {name}? "));
        Self::from(error).hint(format!("{close}all {kind}s are listed by: tillroll {kind} list"))
    }

    /// What was tried when the system said no.
    pub(crate) fn io(attempted: impl fmt::Display, error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::silent(Code::Ok);
        }
        Self::plain(format!("{attempted}: {}", error.to_string().to_lowercase()))
    }

    /// Why an address could not be had. A port in use is whoever's it is: a conflict, which another address solves.
    pub(crate) fn listening(attempted: impl fmt::Display, error: &io::Error, (holder, option): (&str, &str)) -> Self {
        let failure = Self::io(attempted, error);
        if error.kind() != io::ErrorKind::AddrInUse {
            return failure;
        }
        let hint = format!("another program{holder} has the port: choose another with {option}");
        Self { code: Code::Conflict, ..failure.hint(hint) }
    }

    /// Writes the lines to standard error and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            say_marked("error", 31, &self.message);
            if let Some(text) = &self.hint {
                say_marked("hint", 36, text);
            }
        }
        ExitCode::from(self.code as u8)
    }

    pub(crate) fn code(&self) -> Code {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl From<tillroll_client::Error> for Failure {
    fn from(error: tillroll_client::Error) -> Self {
        let code = match error.kind() {
            ErrorKind::NotFound => Code::NotFound,
            ErrorKind::InvalidInput | ErrorKind::OutOfRange | ErrorKind::Unsupported | ErrorKind::Denied => {
                Code::Refused
            }
            ErrorKind::Unavailable | ErrorKind::Exhausted | ErrorKind::OutcomeUnknown => Code::Unavailable,
            ErrorKind::Conflict | ErrorKind::Fenced => Code::Conflict,
            ErrorKind::DataLoss => Code::Damaged,
            _ => Code::Failure,
        };
        // Nobody was there: the one case in which a connection has no side effects and no reason.
        let refused = code == Code::Unavailable && error.reason().is_none() && error.has_no_side_effects();
        let is_nobody = refused && error.hint().is_some_and(|hint| hint.contains("tillroll dev"));
        let hint = if is_nobody { Some(START_ONE) } else { error.hint() };
        let message = in_own_words(&error).unwrap_or_else(|| error.message().to_owned());
        Self { code, message, hint: hint.map(str::to_owned) }
    }
}

/// What the command can say for itself. The server speaks to programs of every language, and names the calls and fields
/// of its contract; what to type instead is in the hint.
fn in_own_words(error: &tillroll_client::Error) -> Option<String> {
    let fact = |key: &str| error.metadata().get(key).filter(|fact| !fact.is_empty());
    Some(match error.reason()? {
        "TOPIC_NOT_FOUND" => format!("topic {} not found", fact("topic")?),
        "GROUP_NOT_FOUND" => format!("group {} not found", fact("group")?),
        "GROUP_HAS_MEMBERS" => format!("group {} has members: {}", fact("group")?, fact("holder")?),
        "START_REQUIRED" => {
            format!("group {} does not read the topic that is called {} now", fact("group")?, fact("topic")?)
        }
        _ => return None,
    })
}

/// Writing the output failed.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::io("writing the output", &error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let gone = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((gone.code(), gone.to_string()), (Code::Ok, String::new()));
        let full = Failure::from(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(full.code(), Code::Failure);
        assert!(full.to_string().starts_with("writing the output: "), "{full}");
    }
}
