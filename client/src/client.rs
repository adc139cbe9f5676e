//! A client of one broker: where it is, and one connection for each kind of
//! traffic, four at most, however many producers, readers and consumers it has.
//!
//! Appends, reads, consuming and control have connections of their own: one connection is
//! driven by one task, so that much that is read would hold up everybody's appends. Streams of one kind share a
//! connection, whose window is larger than those of all its streams together (see `channel`): one that is not polled
//! holds up no other.

use std::{sync::Arc, time::Duration};

use tillroll_proto::v1::{
    self, group_service_client::GroupServiceClient, log_service_client::LogServiceClient,
    operator_service_client::OperatorServiceClient, topic_service_client::TopicServiceClient,
};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

use crate::{
    Admin, Append, AppendSession, Appended, ConsumerBuilder, Error, ErrorKind, Groups, ProducerBuilder,
    ProducerIdentity, ReaderBuilder, ServerInfo, append,
    channel::{DECODED_MESSAGE_BYTES_MAX, tune},
};

/// Where a broker listens unless it is told otherwise.
const PORT: u16 = 7420;

/// A client of one broker. Cheap to clone; clones share the connections, which
/// are made anew by themselves when they break.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    url: String,
    appends: LogServiceClient<Channel>,
    reads: LogServiceClient<Channel>,
    control: LogServiceClient<Channel>,
    topics: TopicServiceClient<Channel>,
    groups: GroupServiceClient<Channel>,
    operator: OperatorServiceClient<Channel>,
    consumes: GroupServiceClient<Channel>,
    server: ServerInfo,
}

impl Client {
    /// Connects to a broker, such as `127.0.0.1:7420` or
    /// `http://127.0.0.1:7420`, and asks who it is. Without a port it is 7420.
    ///
    /// **Errors**: `InvalidInput` for a URL that is none, `Unsupported` for
    /// `https`, `Unavailable` when nobody answers, or something that is no
    /// broker.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::builder().connect(url).await
    }

    /// Settings before connecting.
    pub fn builder() -> ClientBuilder {
        ClientBuilder { timeout: Duration::from_secs(10), name: None }
    }

    /// Where the broker is.
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// What the server said of itself when this client connected. Ask
    /// [`Admin::server_info`] for what it says now.
    pub fn server(&self) -> &ServerInfo {
        &self.inner.server
    }

    /// A producer for one topic.
    pub fn producer(&self, topic: impl Into<String>) -> ProducerBuilder {
        ProducerBuilder::new(self.clone(), topic.into())
    }

    /// A reader of one topic.
    pub fn reader(&self, topic: impl Into<String>) -> ReaderBuilder {
        ReaderBuilder::new(self.clone(), topic.into())
    }

    /// A consumer: a member of this group.
    pub fn consumer(&self, group: impl Into<String>) -> ConsumerBuilder {
        ConsumerBuilder::new(self.clone(), group.into())
    }

    /// Topics and the server.
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    /// Consumer groups.
    pub fn groups(&self) -> Groups {
        Groups::new(self.clone())
    }

    /// Sends one append and waits until it is on disk. It is sent once: whether
    /// to try again is the caller's to decide, by [`Error::is_retryable`], and
    /// is only safe against duplicates under the same stamp.
    ///
    /// **Durability**: when this returns `Ok`, every record is on disk and
    /// visible, in one step.
    pub async fn append(&self, append: Append) -> Result<Appended, Error> {
        append::send(self, append).await
    }

    /// Registers a producer, or takes its name over and fences whoever had it.
    /// Without a name the server makes one up and forgets it when it was idle
    /// for `idle_expiry`, at most 7 days. For a named one zero means never.
    pub async fn init_producer(&self, name: Option<&str>, idle_expiry: Duration) -> Result<ProducerIdentity, Error> {
        append::init_producer(self, name, idle_expiry, None).await
    }

    /// Opens a stream for prepared appends, without retries. Most programs want
    /// [`Client::producer`].
    pub async fn append_session(&self) -> Result<AppendSession, Error> {
        AppendSession::open(self).await
    }

    pub(crate) fn appends(&self) -> LogServiceClient<Channel> {
        self.inner.appends.clone()
    }

    pub(crate) fn reads(&self) -> LogServiceClient<Channel> {
        self.inner.reads.clone()
    }

    pub(crate) fn control(&self) -> LogServiceClient<Channel> {
        self.inner.control.clone()
    }

    pub(crate) fn consumes(&self) -> GroupServiceClient<Channel> {
        self.inner.consumes.clone()
    }

    pub(crate) fn topics(&self) -> TopicServiceClient<Channel> {
        self.inner.topics.clone()
    }

    pub(crate) fn operator(&self) -> OperatorServiceClient<Channel> {
        self.inner.operator.clone()
    }

    pub(crate) fn group_calls(&self) -> GroupServiceClient<Channel> {
        self.inner.groups.clone()
    }
}

/// Settings of a [`Client`].
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    timeout: Duration,
    name: Option<String>,
}

impl ClientBuilder {
    /// How long connecting may take; 10 s unless set.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What the program calls itself, for the server's logs.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Connects. See [`Client::connect`].
    pub async fn connect(self, url: &str) -> Result<Client, Error> {
        let url = normalize(url)?;
        let endpoint = self.endpoint(&url)?;
        let log =
            |channel: Channel| LogServiceClient::new(channel).max_decoding_message_size(DECODED_MESSAGE_BYTES_MAX);
        let control = endpoint.connect_lazy();
        let context = format!("connect to {url}");
        let asked = log(control.clone());
        let server = self.ask(&context, asked).await?;
        Ok(Client {
            inner: Arc::new(Inner {
                appends: log(endpoint.connect_lazy()),
                reads: log(endpoint.connect_lazy()),
                topics: TopicServiceClient::new(control.clone()).max_decoding_message_size(DECODED_MESSAGE_BYTES_MAX),
                groups: GroupServiceClient::new(control.clone()).max_decoding_message_size(DECODED_MESSAGE_BYTES_MAX),
                operator: OperatorServiceClient::new(control.clone()),
                consumes: GroupServiceClient::new(endpoint.connect_lazy())
                    .max_decoding_message_size(DECODED_MESSAGE_BYTES_MAX),
                control: log(control),
                url,
                server,
            }),
        })
    }

    async fn ask(&self, context: &str, mut control: LogServiceClient<Channel>) -> Result<ServerInfo, Error> {
        let call = control.get_server(v1::GetServerRequest {});
        let answer = tokio::time::timeout(self.timeout, call).await.map_err(|_| {
            let waited = self.timeout.as_secs_f64();
            Error::local(ErrorKind::Unavailable, format!("{context}: no answer in {waited} s"))
        })?;
        let answer = answer.map_err(|status| {
            let error = Error::from_status(context, &status);
            if is_no_broker(&status, &error) { error.of_no_broker(context) } else { error }
        })?;
        Ok(ServerInfo::from_wire(answer.into_inner()))
    }

    fn endpoint(&self, url: &str) -> Result<Endpoint, Error> {
        let wrong = |cause: tonic::transport::Error| {
            Error::local(ErrorKind::InvalidInput, format!("not a broker's URL url={url}: {cause}"))
        };
        let agent = match &self.name {
            Some(name) => format!("{name} tillroll-client/{}", env!("CARGO_PKG_VERSION")),
            None => format!("tillroll-client/{}", env!("CARGO_PKG_VERSION")),
        };
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(wrong)?;
        Ok(tune(endpoint.user_agent(agent).map_err(wrong)?))
    }
}

/// Whether something answered that speaks no HTTP/2, no gRPC, or does not know the first question that every broker
/// answers.
fn is_no_broker(status: &tonic::Status, error: &Error) -> bool {
    let speaks_otherwise = match status.code() {
        Code::Internal | Code::Unimplemented => true,
        Code::Unknown => std::error::Error::source(status).is_none(),
        _ => false,
    };
    speaks_otherwise && error.reason().is_none()
}

/// `host` or `host:port`, with or without a scheme, becomes a URL; without a port it is [`PORT`].
fn normalize(url: &str) -> Result<String, Error> {
    let authority = match url.split_once("://") {
        None => url,
        Some(("http", authority)) => authority,
        Some((scheme, _)) => {
            return Err(Error::local(ErrorKind::Unsupported, format!("only http:// is served yet scheme={scheme}")));
        }
    };
    let authority = authority.trim_end_matches('/');
    if authority.is_empty() {
        return Err(Error::local(ErrorKind::InvalidInput, "the broker's URL is empty"));
    }
    // Colons within brackets are of the host.
    let behind_host = authority.rsplit_once(']').map_or(authority, |(_, behind)| behind);
    let port = if behind_host.contains(':') { String::new() } else { format!(":{PORT}") };
    Ok(format!("http://{authority}{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_may_leave_out_its_scheme() {
        for (given, meant) in [
            ("127.0.0.1:7420", "http://127.0.0.1:7420"),
            ("http://127.0.0.1:7420", "http://127.0.0.1:7420"),
            ("http://[::1]:7420/", "http://[::1]:7420"),
            ("localhost", "http://localhost:7420"),
            ("http://broker/", "http://broker:7420"),
            ("[::1]", "http://[::1]:7420"),
            ("broker:80", "http://broker:80"),
        ] {
            assert_eq!(normalize(given).expect("valid"), meant);
        }
        assert_eq!(normalize("").expect_err("empty").kind(), ErrorKind::InvalidInput);
        let secure = normalize("https://x").expect_err("no TLS yet");
        assert_eq!(secure.kind(), ErrorKind::Unsupported);
    }

    #[tokio::test]
    async fn a_refused_connection_says_how_to_start_a_broker() {
        // A port that was free a moment ago has nobody listening.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let error = Client::connect(&format!("127.0.0.1:{port}")).await.expect_err("nobody there");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.has_no_side_effects());
        assert!(error.hint().is_some_and(|hint| hint.contains("tillroll dev")), "{error}");
        assert!(error.message().contains("refused"), "{error}");
    }
}
