//! [`Windlass`]: the hyper service. Dialect in, engine, dialect out, bounded drain. No rule, no
//! state.

mod download;
mod peer;

use std::{
    cmp::Reverse,
    convert::Infallible,
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{
    Extensions, HeaderMap, Request, Response, StatusCode, Version, header::EXPECT, request::Parts,
};
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, timeout, timeout_at},
};

use self::download::Download;
pub(crate) use self::peer::Peer;
use crate::{
    content::{Content, Rest, Unread},
    engine::{Engine, Running},
    rules::{Denial, FetchedBytes, Intent, Outcome, Refusal, Refused},
    wire::{
        Delay, Dialect, Reply, ReplyBody,
        cors::{Asked, Cors, Lists},
        framing, reply,
    },
};

/// How long an unread body is drained at most while the server is going down.
const CLOSING_DRAIN_TIME: Duration = Duration::from_millis(500);

/// How much of a body is read that was sent to where nothing is served, so that its client meets the
/// answer and not a reset.
const UNCLAIMED_DRAIN_BYTES: u64 = 16 << 20;

/// How long it is read at most.
const UNCLAIMED_DRAIN_TIME: Duration = Duration::from_secs(5);

/// What pages may do where nothing is served: whatever they want, to read that it is so.
const NOTHING: Lists = Lists {
    allow_headers: "Content-Type",
    allow_methods: "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
    expose_headers: "Retry-After",
};

/// The upload service: an [`Engine`] behind one or more dialects. A handle: clones are the same
/// service.
#[derive(Clone)]
pub struct Windlass(Arc<Inner>);

struct Inner {
    cors: Cors,
    dialects: Vec<Box<dyn Dialect>>,
    engine: Engine,
}

/// The client stopped sending in the middle of a request: there is nobody to answer. A server closes
/// the connection, or resets the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client stopped sending")]
pub struct Aborted;

impl Windlass {
    /// A service without a dialect, for any origin.
    pub fn new(engine: Engine) -> Self {
        Self(Arc::new(Inner { cors: Cors::default(), dialects: Vec::new(), engine }))
    }

    /// The same service with one more dialect. A request that several dialects match goes to the one
    /// with the longest path, and of those to the one that was mounted first.
    ///
    /// # Panics
    /// When the service has been cloned already.
    #[must_use]
    pub fn mount(mut self, dialect: impl Dialect) -> Self {
        let dialects = &mut self.inner().dialects;
        dialects.push(Box::new(dialect));
        dialects.sort_by_key(|dialect| Reverse(dialect.locations().mount.prefix().len()));
        self
    }

    /// The same service with this CORS policy.
    ///
    /// # Panics
    /// When the service has been cloned already.
    #[must_use]
    pub fn cors(mut self, cors: Cors) -> Self {
        self.inner().cors = cors;
        self
    }

    fn inner(&mut self) -> &mut Inner {
        Arc::get_mut(&mut self.0).expect("a service is set up before it is cloned")
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Answers one request.
    ///
    /// An HTTP/1.1 request without `Host` is refused like every other that breaks HTTP; those who make
    /// requests by hand, in tests, give one.
    ///
    /// Extensions of the request, such as the identity that a layer in front has found, are handed
    /// to the engine's hooks.
    ///
    /// # Errors
    /// [`Aborted`]: close the connection without an answer.
    ///
    /// # Cancel safety
    /// Safe: what changes the store runs on a task of its own and ends when the body does. What still
    /// waits for another request does not wait any longer.
    pub fn handle<B>(&self, request: Request<B>) -> Answering<Aborted>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.handle_of(Peer::default(), request)
    }

    /// The same, for the client at the other end of a connection that serves one request at a time.
    pub(crate) fn handle_of<B>(&self, peer: Peer, request: Request<B>) -> Answering<Aborted>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        self.clone().answer(head, Content::new(body), peer)
    }

    fn answer(self, mut head: Parts, content: Content, peer: Peer) -> Answering<Aborted> {
        Box::pin(async move {
            let cors = &self.0.cors;
            let asked = Asked::new(&head);
            let drain = Drain::of(head.version, &head.headers);
            let rest = content.rest();
            let fault = framing::check(&head).err();
            let Some(dialect) = self.dialect(&head) else {
                drop(content);
                let mut reply = self.nothing_here(&head, &asked, fault);
                cors.apply(&asked, &NOTHING, &mut reply);
                drain.begin(rest, UNCLAIMED_DRAIN_BYTES, self.drain_time(UNCLAIMED_DRAIN_TIME));
                return Ok(reply);
            };
            let mut exchange = dialect.open(&head);
            if let Some(fault) = fault {
                let mut reply = last(exchange.answer(Err(fault.into())), &head);
                cors.apply(&asked, dialect.cors(), &mut reply);
                return Ok(reply);
            }
            let forged = || cors.admit(&head, dialect.locations().origin()).err();
            let forged = dialect.is_forgeable(&head).then(forged).flatten();
            let limits = self.engine().limits();
            // A dialect whose parameters are in the body waits for its client like the engine does.
            let read = timeout(limits.idle_timeout, exchange.read(&head, content, limits));
            let read = read.await.map_err(|_| Aborted)?;
            let extensions = std::mem::take(&mut head.extensions);
            // The request may last. Behind the rest of its head lies the buffer of its connection.
            drop(head);
            let mut reply = match read {
                Err(reply) => *reply,
                Ok((intent, content)) => {
                    let run = |intent, content| {
                        self.run(intent, content, extensions.clone(), peer.clone())
                    };
                    let mut result = match forged {
                        None => run(intent, content).await,
                        Some(why) => {
                            Err(Refusal::Denied(Denial::forbidden(why.to_string())).into())
                        }
                    };
                    while let Some(intent) = exchange.next(&result) {
                        result = run(intent, Content::empty()).await;
                    }
                    if let Err(Refused { refusal: Refusal::Abandoned, .. }) = result {
                        return Err(Aborted);
                    }
                    exchange.answer(result)
                }
            };
            cors.apply(&asked, dialect.cors(), &mut reply);
            let (bytes, time) = dialect.drain();
            drain.begin(rest, bytes, self.drain_time(time));
            if let Some(Delay(delay)) = reply.extensions_mut().remove() {
                // A client that sends nothing more does not repeat it either.
                let _ = timeout(delay, peer.ended()).await;
            }
            Ok(reply)
        })
    }

    /// How long a body is drained that may take `time`.
    fn drain_time(&self, time: Duration) -> Duration {
        if self.engine().is_closed() { time.min(CLOSING_DRAIN_TIME) } else { time }
    }

    fn dialect(&self, head: &Parts) -> Option<&dyn Dialect> {
        self.0.dialects.iter().find(|dialect| dialect.matches(head)).map(|dialect| &**dialect)
    }

    /// The answer where no dialect is: pages may ask whether they may ask, clients must stop, and people
    /// must see where they should have gone.
    fn nothing_here(&self, head: &Parts, asked: &Asked, fault: Option<Refusal>) -> Reply {
        if let Some(fault) = fault {
            return last(reply::text(StatusCode::BAD_REQUEST, "ERR_INVALID_REQUEST", fault), head);
        }
        if asked.is_preflight() {
            return reply::empty(StatusCode::NO_CONTENT);
        }
        let served = self
            .0
            .dialects
            .iter()
            .map(|dialect| format!("; {} is at {}", dialect.name(), dialect.locations().mount));
        let message = format!("nothing is served at this path{}", served.collect::<String>());
        reply::text(StatusCode::NOT_FOUND, "ERR_NOT_FOUND", message)
    }

    /// Runs the engine so that neither a client that goes away nor a panic leaves half a step.
    fn run(
        &self,
        intent: Intent,
        content: Content,
        extensions: Extensions,
        peer: Peer,
    ) -> impl Future<Output = Result<Outcome, Refused>> + use<> {
        let engine = self.engine().clone();
        // Only writes wait for others; a question should not pay for it.
        let (mut content, mut awaited) = (content, None);
        if matches!(intent, Intent::Write(_)) {
            let (sender, dropped) = oneshot::channel();
            awaited = Some(sender);
            content = content.with_left(Box::pin(async move {
                tokio::select! {
                    _ = dropped => {}
                    () = peer.left() => {}
                }
            }));
        }
        let run = async move {
            let outcome = engine.run(intent, content, &extensions).await?;
            Ok(lent(outcome, engine.limits().idle_timeout).await)
        };
        let mut run = ToTheEnd { running: Some(Box::pin(run)), _awaited: awaited };
        std::future::poll_fn(move |cx| {
            let poll = std::panic::catch_unwind(AssertUnwindSafe(|| run.poll(cx)));
            poll.unwrap_or_else(|_| {
                // It must not be polled again.
                run.running = None;
                Poll::Ready(panicked(&"a request"))
            })
        })
    }
}

/// A request that is done to its end even if nobody waits for it any more: hyper drops its future
/// when the connection dies. It goes on as a task of its own only then, because tasks that wait for
/// each other cost more than most requests. As long as it has only waited for its turn, that is its
/// end: see [`Content::while_present`].
struct ToTheEnd {
    running: Option<Running<'static>>,
    /// Dropped with this, which tells the request that no client waits for it.
    _awaited: Option<oneshot::Sender<()>>,
}

impl ToTheEnd {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Outcome, Refused>> {
        let Some(running) = &mut self.running else {
            return Poll::Pending;
        };
        let result = ready!(running.as_mut().poll(cx));
        self.running = None;
        Poll::Ready(result)
    }
}

impl Drop for ToTheEnd {
    fn drop(&mut self) {
        // Without a runtime everything ends here.
        if let (Some(running), Ok(runtime)) = (self.running.take(), Handle::try_current()) {
            runtime.spawn(running);
        }
    }
}

/// The same outcome; the bytes that go with it are the client's only while it takes them.
async fn lent(outcome: Outcome, patience: Duration) -> Outcome {
    let Outcome::Fetched { bytes: Some(bytes), upload } = outcome else {
        return outcome;
    };
    let length = bytes.range.end.saturating_sub(bytes.range.start);
    let stream = Box::pin(Download::begin(bytes.stream, length, patience).await);
    let bytes = Some(FetchedBytes { stream, ..bytes });
    Outcome::Fetched { bytes, upload }
}

fn panicked(what: &dyn fmt::Display) -> Result<Outcome, Refused> {
    tracing::error!(%what, "a request panicked");
    Err(Refusal::Internal.into())
}

/// `reply`, the last of its connection: what follows may be part of the request with `head`.
fn last(mut reply: Reply, head: &Parts) -> Reply {
    reply::close_connection(&mut reply, head.version);
    reply
}

/// What is done with a body that was not read to its end.
struct Drain {
    expects_continue: bool,
    version: Version,
}

impl Drain {
    fn of(version: Version, headers: &HeaderMap) -> Self {
        let expect = headers.get(EXPECT).map(|value| value.as_bytes());
        let expects_continue =
            expect.is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"));
        Self { expects_continue, version }
    }

    /// Reads and discards a bounded amount beside the answer. Not over HTTP/2, where a stream is
    /// reset without harm, nor when the client still waits to be told to go on (F-42).
    fn begin(self, rest: Rest, mut left: u64, time: Duration) {
        if self.version >= Version::HTTP_2 {
            return;
        }
        let Some(Unread { mut body, started }) = rest.take() else {
            return;
        };
        if self.expects_continue && !started {
            return;
        }
        tokio::spawn(async move {
            let deadline = Instant::now() + time;
            while let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                left = left.saturating_sub(u64::try_from(bytes).unwrap_or(u64::MAX));
                if left == 0 {
                    break;
                }
            }
        });
    }
}

/// A request on its way to its answer.
pub type Answering<E> = Pin<Box<dyn Future<Output = Result<Response<ReplyBody>, E>> + Send>>;

impl<B> hyper::service::Service<Request<B>> for Windlass
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<ReplyBody>;
    type Error = Aborted;
    type Future = Answering<Aborted>;

    fn call(&self, request: Request<B>) -> Self::Future {
        self.handle(request)
    }
}

/// For axum and tower, whose services must answer: a client that stopped sending is told 503, in
/// case it is still there.
impl<B> tower_service::Service<Request<B>> for Windlass
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<ReplyBody>;
    type Error = Infallible;
    type Future = Answering<Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answer = self.handle(request);
        Box::pin(async {
            let answer = answer.await;
            Ok(answer.unwrap_or_else(|Aborted| reply::empty(StatusCode::SERVICE_UNAVAILABLE)))
        })
    }
}

impl fmt::Debug for Windlass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Windlass").field("dialects", &self.0.dialects).finish_non_exhaustive()
    }
}
