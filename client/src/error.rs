//! What can go wrong, as facts: a coarse kind by which a caller acts, the
//! server's reason with its metadata, and what to do next.
//!
//! The kind follows from the reason in `ErrorInfo`; the code of the call counts
//! only when there is none.

use std::{collections::BTreeMap, error::Error as StdError, fmt, sync::Arc, time::Duration};

use tillroll_proto::reason;
use tonic::Code;
use tonic_types::{ErrorDetails, RpcStatusExt as _, StatusExt as _};

/// What a caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request is wrong: fix it. Nothing was written.
    InvalidInput,
    /// A topic, partition or group is not there: create it or fix the name.
    NotFound,
    /// The state is another one than the request expects: look again, decide
    /// again.
    Conflict,
    /// Another process has taken over this producer: stop.
    Fenced,
    /// An offset is below the head or beyond the end: go on from the offset in
    /// the metadata.
    OutOfRange,
    /// A limit or the disk is full for now: try again later.
    Exhausted,
    /// The server cannot be reached or does not take writes: try again.
    Unavailable,
    /// The append may or may not have been written. A retry under the same stamp
    /// tells which.
    OutcomeUnknown,
    /// Stored data is damaged: the metadata says where. Never try again blindly.
    DataLoss,
    /// The server does not do this.
    Unsupported,
    /// The server does not let this client do this.
    Denied,
    /// The producer or session was closed before.
    Closed,
    /// The other side broke the protocol: report it.
    Protocol,
}

/// Why a call failed. Cheap to clone: all tickets of an append share one.
///
/// `Display` gives one line with the hint; [`Error::message`] and
/// [`Error::hint`] give the two apart.
#[derive(Clone)]
#[non_exhaustive]
pub struct Error {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    reason: Option<String>,
    metadata: BTreeMap<String, String>,
    hint: Option<String>,
    retry_after: Option<Duration>,
    retryable: bool,
    no_side_effects: bool,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// The same request can succeed later. A stamped append must keep its stamp.
    pub fn is_retryable(&self) -> bool {
        self.inner.retryable
    }

    /// It is certain that nothing was written.
    pub fn has_no_side_effects(&self) -> bool {
        self.inner.no_side_effects
    }

    /// The server's reason, such as `TOPIC_NOT_FOUND`, when the server gave one.
    pub fn reason(&self) -> Option<&str> {
        self.inner.reason.as_deref()
    }

    /// The facts of the refusal. Numbers are decimal.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.inner.metadata
    }

    /// A number of the metadata.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.inner.metadata.get(key)?.parse().ok()
    }

    /// What happened, in one line, without the hint.
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// What to do next, when something is known to help.
    pub fn hint(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }

    /// How long the server asks to wait before another try.
    pub fn retry_after(&self) -> Option<Duration> {
        self.inner.retry_after
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.inner.message)?;
        match &self.inner.hint {
            Some(hint) => write!(formatter, " (hint: {hint})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Error")
            .field("kind", &self.inner.kind)
            .field("message", &self.inner.message)
            .field("reason", &self.inner.reason)
            .field("metadata", &self.inner.metadata)
            .field("source", &self.inner.source)
            .finish_non_exhaustive()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// How errors are made. Only this crate makes them.
impl Error {
    /// An error that this side found before anything was sent.
    pub(crate) fn local(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            inner: Arc::new(Inner {
                kind,
                message: message.into(),
                reason: None,
                metadata: BTreeMap::new(),
                hint: None,
                retry_after: None,
                retryable: kind == ErrorKind::Unavailable,
                no_side_effects: true,
                source: None,
            }),
        }
    }

    /// The same with the reason that the server would give.
    pub(crate) fn refused(
        kind: ErrorKind,
        reason: &str,
        message: impl Into<String>,
        metadata: &[(&str, String)],
    ) -> Self {
        let mut inner = Self::local(kind, message).into_inner();
        inner.reason = Some(reason.to_owned());
        inner.metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        Self { inner: Arc::new(inner) }
    }

    /// The server did something that the contract does not allow.
    pub(crate) fn protocol(message: impl Into<String>) -> Self {
        let mut inner = Self::local(ErrorKind::Protocol, message).into_inner();
        inner.no_side_effects = false;
        Self { inner: Arc::new(inner) }
    }

    /// A call that failed as a whole.
    pub(crate) fn from_status(context: &str, status: &tonic::Status) -> Self {
        let transport = StdError::source(status).is_some();
        let details = status.get_error_details();
        let mut inner = classify(context, status.code(), status.message(), &details, transport);
        if transport {
            let refused = connection_refused(status);
            inner.no_side_effects = refused;
            if let Some(cause) = root_cause(status) {
                inner.message = format!("{context}: {cause}");
            }
            if refused {
                inner.hint = Some("is a broker running? start one with: tillroll dev".into());
            }
            inner.source = Some(Arc::new(status.clone()));
        }
        Self { inner: Arc::new(inner) }
    }

    /// One refused append of a stream.
    pub(crate) fn from_outcome(context: &str, status: &tonic_types::Status) -> Self {
        let details = status.get_error_details();
        let code = Code::from_i32(status.code);
        Self { inner: Arc::new(classify(context, code, &status.message, &details, false)) }
    }

    /// What answered at this address is no broker.
    pub(crate) fn of_no_broker(self, context: &str) -> Self {
        let mut inner = self.into_inner();
        let said =
            inner.message.strip_prefix(context).map_or(inner.message.as_str(), |said| said.trim_start_matches(": "));
        inner.message = format!("{context}: what listens there is no Tillroll broker: {said}");
        inner.kind = ErrorKind::Unavailable;
        inner.hint = Some("a broker listens on port 7420 unless it is told another one with --listen".into());
        (inner.retryable, inner.no_side_effects) = (false, true);
        Self { inner: Arc::new(inner) }
    }

    /// The same error where something may have been written after all.
    pub(crate) fn with_unknown_outcome(self) -> Self {
        let mut inner = self.into_inner();
        inner.no_side_effects = false;
        Self { inner: Arc::new(inner) }
    }

    /// The same error, said to be final, with what was tried before it.
    pub(crate) fn given_up(self, what: &str) -> Self {
        let mut inner = self.into_inner();
        inner.message = format!("{what}: {}", inner.message);
        inner.retryable = false;
        inner.no_side_effects = false;
        Self { inner: Arc::new(inner) }
    }

    fn into_inner(self) -> Inner {
        Arc::try_unwrap(self.inner).unwrap_or_else(|shared| (*shared).clone())
    }
}

fn classify(context: &str, code: Code, message: &str, details: &ErrorDetails, transport: bool) -> Inner {
    let reason = details.error_info().map(|facts| facts.reason.clone());
    let metadata: BTreeMap<String, String> =
        details.error_info().map(|facts| facts.metadata.clone().into_iter().collect()).unwrap_or_default();
    let kind = match reason.as_deref().and_then(kind_of_reason) {
        Some(kind) => kind,
        None if transport && code == Code::Unknown => ErrorKind::Unavailable,
        None => kind_of_code(code),
    };
    let retryable = matches!(kind, ErrorKind::Unavailable | ErrorKind::Exhausted | ErrorKind::OutcomeUnknown);
    // Every refusal with a reason says that nothing was written, but for these.
    let wrote = [reason::OUTCOME_UNKNOWN, reason::SEQUENCE_FORGOTTEN];
    let no_side_effects = match reason.as_deref() {
        Some(reason) => !wrote.contains(&reason),
        None => !retryable && kind != ErrorKind::Protocol,
    };
    let hint = reason.as_deref().and_then(|reason| hint_for(reason, &metadata));
    Inner {
        kind,
        message: if message.is_empty() {
            format!("{context}: {}", code.description())
        } else {
            format!("{context}: {message}")
        },
        reason,
        metadata,
        hint,
        retry_after: details.retry_info().and_then(|info| info.retry_delay),
        retryable,
        no_side_effects,
        source: None,
    }
}

fn kind_of_reason(name: &str) -> Option<ErrorKind> {
    Some(match name {
        reason::EXPECTED_OFFSET_MISMATCH
        | reason::SEQUENCE_GAP
        | reason::SEQUENCE_FORGOTTEN
        | reason::SEQUENCE_REUSED
        | reason::PRODUCER_UNKNOWN
        | reason::TOPIC_EXISTS
        | reason::TOPIC_RECREATED
        | reason::GROUP_EXISTS
        | reason::GROUP_HAS_MEMBERS
        | reason::GROUP_CHANGED
        | reason::CURSOR_BACKWARDS
        | reason::CURSOR_BEYOND_END => ErrorKind::Conflict,
        reason::PRODUCER_FENCED | reason::ASSIGNMENT_FENCED | reason::TAKEN_OVER => ErrorKind::Fenced,
        reason::OFFSET_BELOW_HEAD | reason::OFFSET_BEYOND_END | reason::RESPONSE_LIMIT => ErrorKind::OutOfRange,
        reason::START_REQUIRED
        | reason::RECORD_TOO_LARGE
        | reason::BATCH_TOO_LARGE
        | reason::REQUEST_TOO_LARGE
        | reason::APPEND_TOO_LARGE
        | reason::APPEND_EMPTY
        | reason::BAD_CRC
        | reason::BAD_ENCODING
        | reason::UNKNOWN_CHECK
        | reason::NAME_INVALID
        | reason::FIELD_REQUIRED
        | reason::FIELD_INVALID => ErrorKind::InvalidInput,
        reason::TOPIC_NOT_FOUND | reason::PARTITION_NOT_FOUND | reason::GROUP_NOT_FOUND => ErrorKind::NotFound,
        reason::DISK_FULL
        | reason::JOURNAL_FULL
        | reason::TOO_MANY_IN_FLIGHT
        | reason::PRODUCERS_FULL
        | reason::ANSWERS_FULL
        | reason::TOPICS_FULL
        | reason::PARTITIONS_FULL
        | reason::GROUPS_FULL => ErrorKind::Exhausted,
        reason::LOG_POISONED | reason::READ_FAILED | reason::SHUTTING_DOWN | reason::MEMBERSHIP_ENDED => {
            ErrorKind::Unavailable
        }
        reason::OUTCOME_UNKNOWN => ErrorKind::OutcomeUnknown,
        reason::DATA_DAMAGED => ErrorKind::DataLoss,
        reason::UNSUPPORTED_FEATURE => ErrorKind::Unsupported,
        _ => return None,
    })
}

fn kind_of_code(code: Code) -> ErrorKind {
    match code {
        // A message above the receive limit comes as OUT_OF_RANGE: it is never
        // worth another try, unlike a broken connection.
        Code::InvalidArgument | Code::OutOfRange => ErrorKind::InvalidInput,
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition => ErrorKind::Conflict,
        Code::ResourceExhausted => ErrorKind::Exhausted,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => ErrorKind::Unavailable,
        Code::DataLoss => ErrorKind::DataLoss,
        Code::Unimplemented => ErrorKind::Unsupported,
        Code::PermissionDenied | Code::Unauthenticated => ErrorKind::Denied,
        Code::Ok | Code::Unknown | Code::Internal => ErrorKind::Protocol,
    }
}

fn hint_for(reason: &str, metadata: &BTreeMap<String, String>) -> Option<String> {
    let fact = |key: &str| metadata.get(key).map(String::as_str).unwrap_or_default();
    Some(match reason {
        reason::TOPIC_NOT_FOUND => {
            let topic = match fact(reason::key::TOPIC) {
                "" => "NAME",
                topic => topic,
            };
            match fact(reason::key::SIMILAR) {
                "" => format!("create it with: tillroll topic create {topic}"),
                similar => format!("did you mean {similar}? or create it with: tillroll topic create {topic}"),
            }
        }
        reason::PARTITION_NOT_FOUND => match fact(reason::key::COUNT) {
            "" => return None,
            count => format!("the topic has {count} partitions, numbered from 0"),
        },
        reason::EXPECTED_OFFSET_MISMATCH if !fact(reason::key::GROUP).is_empty() => {
            "somebody else moved the cursor: read on from where it is, and expect it there".into()
        }
        reason::EXPECTED_OFFSET_MISMATCH => {
            "somebody else appended: read on, decide again, and expect the new offset".into()
        }
        reason::PRODUCER_FENCED => "another process uses this producer name: stop one of the two".into(),
        reason::PRODUCER_UNKNOWN => "build the producer again".into(),
        reason::TOPIC_RECREATED => "the topic was deleted and made anew: open it again".into(),
        reason::OFFSET_BELOW_HEAD => match fact(reason::key::HEAD) {
            "" => "older records are gone: start from the earliest".into(),
            head => format!("older records are gone: start from offset {head}"),
        },
        reason::OFFSET_BEYOND_END => match fact(reason::key::END) {
            "" => return None,
            end => format!("the partition ends at offset {end}"),
        },
        reason::DISK_FULL => "free space on the server's disk; reads go on meanwhile".into(),
        reason::LOG_POISONED | reason::OUTCOME_UNKNOWN => {
            "a disk error stopped all writes: check the disk, then restart the broker".into()
        }
        reason::READ_FAILED => "try again; when it lasts, check the server's disk".into(),
        reason::DATA_DAMAGED => "restore the file, or name a start behind the damage".into(),
        reason::PRODUCERS_FULL => {
            "delete producers that nobody needs (tillroll producer delete), or use a name that is known already; \
             nameless ones are forgotten when they were idle"
                .into()
        }
        reason::NAME_INVALID => "names are 1 to 128 of a-z 0-9 . _ - and begin with a letter or digit".into(),
        _ => return group_hint(reason, fact),
    })
}

/// The hints of consumer groups.
fn group_hint<'a>(reason: &str, fact: impl Fn(&str) -> &'a str) -> Option<String> {
    let group = match fact(reason::key::GROUP) {
        "" => "NAME",
        group => group,
    };
    Some(match reason {
        reason::GROUP_NOT_FOUND => {
            let create = format!("tillroll group create {group} --topic TOPIC --from earliest --rule spread");
            match fact(reason::key::SIMILAR) {
                "" => format!("create it with: {create}"),
                similar => format!("did you mean {similar}? or create it with: {create}"),
            }
        }
        reason::GROUP_EXISTS => {
            format!("name the settings that it has, or another group; it is shown by: tillroll group describe {group}")
        }
        reason::GROUP_HAS_MEMBERS => {
            "stop its members first, or add --with-members, which takes their partitions".into()
        }
        reason::GROUP_CHANGED => "somebody else changed the group: look at it again, and decide again".into(),
        reason::GROUPS_FULL => "delete groups that nobody needs any more, or use fewer members".into(),
        reason::START_REQUIRED => {
            format!("the topics that it reads are shown by: tillroll group describe {group}")
        }
        reason::CURSOR_BACKWARDS => {
            let topic = fact(reason::key::TOPIC);
            format!("going back is for: tillroll group set-cursor {group} --topic {topic} --to PLACE")
        }
        reason::CURSOR_BEYOND_END => match fact(reason::key::END) {
            "" => return None,
            end => format!("the partition ends at offset {end}: commit what was read"),
        },
        reason::ASSIGNMENT_FENCED => match fact(reason::key::HOLDER) {
            "" => "the partition was taken back: drop what was done since the last commit".into(),
            holder => format!("{holder} has the partition now: drop what was done since the last commit"),
        },
        reason::TAKEN_OVER => "another process uses this member id: stop one of the two".into(),
        _ => return None,
    })
}

/// Whether the connection was never made.
fn connection_refused(status: &tonic::Status) -> bool {
    let mut next = StdError::source(status);
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::ConnectionRefused
        {
            return true;
        }
        next = cause.source();
    }
    false
}

/// The innermost cause: "transport error" alone tells nobody anything.
fn root_cause(status: &tonic::Status) -> Option<String> {
    let mut cause = StdError::source(status)?;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Some(cause.to_string().to_lowercase())
}

#[cfg(test)]
mod tests;
