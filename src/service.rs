//! [`Windlass`]: the hyper service. Dialect in, engine, dialect out, bounded drain. No rule, no
//! state.

mod download;
mod peer;

use std::{
    convert::Infallible,
    fmt,
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
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
    content::{BodyRemainder, Content, UnreadBody},
    engine::{Engine, Running},
    rules::{Denial, FetchedBytes, Intent, Outcome, Refusal, Refused},
    wire::{
        Dialect, Reply, ReplyBody,
        cors::{Cors, CorsFields, CorsRequest},
        framing, reply,
    },
};

/// How long an unread body is drained at most while the server is going down.
const CLOSING_DRAIN_TIME: Duration = Duration::from_millis(500);

/// How much of a body is read that was sent to where nothing is served, so that its client meets
/// the answer and not a reset.
const UNCLAIMED_DRAIN_BYTES: u64 = 16 << 20;

/// How long it is read at most.
const UNCLAIMED_DRAIN_TIME: Duration = Duration::from_secs(5);

/// What pages may do where nothing is served: whatever they want, to read that it is so.
const NOTHING: CorsFields = CorsFields {
    allow_headers: "Content-Type",
    allow_methods: "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
    expose_headers: "Retry-After",
};

/// The upload service: an [`Engine`] behind one or more dialects. A handle: clones are the same
/// service.
///
/// # Inside a router
///
/// Dialects are mounted at whole paths, so give the service to what leaves paths as they are, such
/// as axum's `route_service`, for the path and for all below it, or `fallback_service`. Behind
/// `nest_service`, and in a router that was nested, the service sees paths without their beginning:
/// mount at the rest, and name the beginning with
/// [`Locations::with_outer`](crate::wire::location::Locations::with_outer), or the URLs of uploads
/// lack it.
///
/// ```
/// # use std::sync::Arc;
/// # use axum::{Router, body::Body, extract::Request};
/// # use tower_service::Service as _;
/// # use windlass::{Engine, Windlass, store::memory::MemoryStore};
/// # use windlass::wire::{location::Locations, tus::Tus};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let engine = Engine::builder(Arc::new(MemoryStore::default())).build();
/// let windlass = Windlass::new(engine.clone())
///     .mount(Tus::new(Locations::new("/media/files".parse()?)));
/// let routed = Router::new()
///     .route_service("/media/files", windlass.clone())
///     .route_service("/media/files/{*id}", windlass);
///
/// let locations = Locations::new("/".parse()?).with_outer("/media/files".parse()?);
/// let windlass = Windlass::new(engine).mount(Tus::new(locations));
/// let nested = Router::new().nest_service("/media/files", windlass);
/// # for mut router in [routed, nested] {
/// #     let request = Request::post("/media/files").header("Host", "h");
/// #     let request = request.header("Tus-Resumable", "1.0.0").header("Upload-Length", "1");
/// #     let answer = router.call(request.body(Body::empty())?).await?;
/// #     assert!(answer.headers()["Location"].to_str()?.starts_with("/media/files/"));
/// # }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Windlass(Arc<Inner>);

struct Inner {
    cors: Cors,
    dialects: Vec<Box<dyn Dialect>>,
    engine: Engine,
}

/// The client stopped sending in the middle of a request: no client waits for an answer. A server
/// closes the connection, or resets the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client stopped sending")]
pub struct Aborted;

impl Windlass {
    /// A service without a dialect, for any origin.
    pub fn new(engine: Engine) -> Self {
        Self(Arc::new(Inner { cors: Cors::default(), dialects: Vec::new(), engine }))
    }

    /// The same service with one more dialect. Of several that match a request the one with the
    /// longest path answers it, and of several at one path the first mounted.
    ///
    /// # Panics
    /// When the service has been cloned already.
    #[must_use]
    pub fn mount(mut self, dialect: impl Dialect) -> Self {
        let dialects = &mut self.inner().dialects;
        let length = |dialect: &dyn Dialect| dialect.locations().mount.prefix().len();
        let place = dialects.partition_point(|other| length(&**other) >= length(&dialect));
        dialects.insert(place, Box::new(dialect));
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
    /// An HTTP/1.1 request without `Host` is refused like every other that breaks HTTP; those who
    /// make requests by hand, in tests, give one.
    ///
    /// Extensions of the request, such as the identity that a layer in front has found, are handed
    /// to the engine's hooks.
    ///
    /// # Errors
    /// [`Aborted`]: close the connection without an answer.
    ///
    /// # Cancel safety
    /// Safe: a write, a join and a removal go on as a task of their own, and end when the body
    /// does. What still waits for another request does not wait any longer. What only reads is
    /// dropped.
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
            let (cors, version) = (&self.0.cors, head.version);
            let asked = CorsRequest::new(&head);
            let drain = Drain::of(version, &head.headers);
            let rest = content.rest();
            let fault = framing::check(&head).err();
            let Some(dialect) = self.dialect(&head) else {
                drop(content);
                let mut reply = self.nothing_here(&asked, fault);
                cors.apply(&asked, &NOTHING, reply.response.headers_mut());
                drain.begin(rest, UNCLAIMED_DRAIN_BYTES, self.drain_time(UNCLAIMED_DRAIN_TIME));
                return Ok(reply.into_response(version));
            };
            let mut exchange = dialect.open(&head);
            if let Some(fault) = fault {
                let mut reply = last(exchange.answer(Err(fault.into())));
                cors.apply(&asked, dialect.cors(), reply.response.headers_mut());
                return Ok(reply.into_response(version));
            }
            let forged = || cors.admit(&head, dialect.locations().origin()).err();
            let forged = dialect.is_forgeable(&head).then(forged).flatten();
            let limits = self.engine().limits();
            // A dialect whose parameters are in the body waits for its client like the engine does.
            let read = timeout(limits.idle_timeout, exchange.read(&head, content, limits));
            let read = read.await.map_err(|_| Aborted)?;
            let extensions = Arc::new(std::mem::take(&mut head.extensions));
            // The request may last. Behind the rest of its head lies the buffer of its connection.
            drop(head);
            let mut reply = match read {
                Err(reply) => *reply,
                Ok((intent, content)) => {
                    let mut result = match forged {
                        None => self.run(intent, content, &extensions, &peer).await,
                        Some(why) => {
                            Err(Refusal::Denied(Denial::forbidden(why.to_string())).into())
                        }
                    };
                    while let Some(intent) = exchange.next(&result) {
                        result = self.run(intent, Content::empty(), &extensions, &peer).await;
                    }
                    if let Err(Refused { refusal: Refusal::Abandoned, .. }) = result {
                        return Err(Aborted);
                    }
                    exchange.answer(result)
                }
            };
            cors.apply(&asked, dialect.cors(), reply.response.headers_mut());
            let (bytes, time) = dialect.drain();
            drain.begin(rest, bytes, self.drain_time(time));
            if !reply.delay.is_zero() {
                // A client that sends nothing more does not repeat it either.
                let _ = timeout(reply.delay, peer.ended()).await;
            }
            Ok(reply.into_response(version))
        })
    }

    /// How long a body is drained that may take `time`.
    fn drain_time(&self, time: Duration) -> Duration {
        if self.engine().is_closed() { time.min(CLOSING_DRAIN_TIME) } else { time }
    }

    fn dialect(&self, head: &Parts) -> Option<&dyn Dialect> {
        self.0.dialects.iter().find(|dialect| dialect.matches(head)).map(|dialect| &**dialect)
    }

    /// The answer where no dialect is: pages may ask whether they may ask, clients must stop, and
    /// people must see where they should have gone.
    fn nothing_here(&self, asked: &CorsRequest, fault: Option<Refusal>) -> Reply {
        if let Some(fault) = fault {
            return last(reply::text(StatusCode::BAD_REQUEST, "ERR_INVALID_REQUEST", fault));
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

    /// Runs the engine. Neither a client that goes away nor a panic leaves half a step: what
    /// changes uploads is done to its end. What only reads ends with its client, and costs no more
    /// than that; that a test counts as use is one commit, whole or not at all.
    async fn run(
        &self,
        intent: Intent,
        content: Content,
        extensions: &Arc<Extensions>,
        peer: &Peer,
    ) -> Result<Outcome, Refused> {
        match intent {
            Intent::Discover
            | Intent::Fetch { .. }
            | Intent::List { .. }
            | Intent::Status { .. }
            | Intent::Test(_) => {
                let patience = self.engine().limits().idle_timeout;
                let running = self.engine().run(intent, content, extensions);
                caught(async { Ok(lent(running.await?, patience).await) }).await
            }
            Intent::Finish(_) | Intent::Join(_) | Intent::Terminate { .. } | Intent::Write(_) => {
                let (awaited, dropped) = oneshot::channel();
                let peer = peer.clone();
                let content = content.with_left(Box::pin(async move {
                    tokio::select! {
                        _ = dropped => {}
                        () = peer.left() => {}
                    }
                }));
                let (engine, extensions) = (self.engine().clone(), Arc::clone(extensions));
                let running = async move { engine.run(intent, content, &extensions).await };
                ToTheEnd { running: Some(Box::pin(caught(running))), _awaited: awaited }.await
            }
        }
    }
}

/// What `running` yields, or a refusal if it panics. It is not polled again then.
async fn caught(
    running: impl Future<Output = Result<Outcome, Refused>>,
) -> Result<Outcome, Refused> {
    let mut running = pin!(running);
    poll_fn(|cx| {
        let poll = std::panic::catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx)));
        poll.unwrap_or_else(|_| {
            tracing::error!("a request panicked");
            Poll::Ready(Err(Refusal::Internal.into()))
        })
    })
    .await
}

/// A request that runs to its end even if its client has left: hyper drops its future
/// when the connection dies. It goes on as a task of its own only then, because tasks that wait for
/// each other cost more than most requests. As long as it has only waited for its turn, that is its
/// end: see [`Content::while_present`].
struct ToTheEnd {
    running: Option<Running<'static>>,
    /// Dropped with this, which tells the request that no client waits for it.
    _awaited: oneshot::Sender<()>,
}

impl Future for ToTheEnd {
    type Output = Result<Outcome, Refused>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
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

/// `reply`, the last of its connection: what follows may be part of its request.
fn last(reply: Reply) -> Reply {
    Reply { close: true, ..reply }
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
    fn begin(self, rest: BodyRemainder, mut left: u64, time: Duration) {
        if self.version >= Version::HTTP_2 {
            return;
        }
        let Some(UnreadBody { mut body, started }) = rest.take() else {
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

/// For axum and tower, whose services must answer: a client that stopped sending gets 503, in
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
            Ok(answer
                .unwrap_or_else(|Aborted| reply::empty(StatusCode::SERVICE_UNAVAILABLE).response))
        })
    }
}

impl fmt::Debug for Windlass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Windlass").field("dialects", &self.0.dialects).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::memory::MemoryStore,
        wire::{location::Locations, tus::Tus},
    };

    #[test]
    fn the_longest_path_answers_in_whatever_order_it_is_mounted() {
        for paths in [["/", "/a", "/a/b"], ["/a/b", "/a", "/"], ["/a", "/a/b", "/"]] {
            let engine = Engine::builder(Arc::new(MemoryStore::default())).build();
            let service = paths.into_iter().fold(Windlass::new(engine), |service, path| {
                service.mount(Tus::new(Locations::new(path.parse().expect("a path"))))
            });
            for (target, expected) in
                [("/a/b/c", "/a/b"), ("/a/b", "/a/b"), ("/a/c", "/a"), ("/ab", "/"), ("/", "/")]
            {
                let (head, ()) = Request::get(target).body(()).expect("plain").into_parts();
                let found = service.dialect(&head).map(|d| d.locations().mount.to_string());
                assert_eq!(found.as_deref(), Some(expected), "{target} among {paths:?}");
            }
        }
    }

    #[tokio::test]
    async fn uploads_in_a_router_are_found_where_their_location_says() {
        use axum::{Router, body::Body};
        use tower_service::Service as _;

        let windlass = |mount: &str, outer: Option<&str>| {
            let engine = Engine::builder(Arc::new(MemoryStore::default())).build();
            let outer = outer.map(|outer| outer.parse().expect("a path"));
            let locations = Locations { outer, ..Locations::new(mount.parse().expect("a path")) };
            Windlass::new(engine).mount(Tus::new(locations))
        };
        let routed = |path: &str, service: Windlass| {
            let below = format!("{path}/{{*id}}");
            Router::new().route_service(path, service.clone()).route_service(&below, service)
        };
        for (name, mut router) in [
            ("route_service", routed("/a/b", windlass("/a/b", None))),
            ("fallback_service", Router::new().fallback_service(windlass("/a/b", None))),
            ("nest_service", Router::new().nest_service("/a/b", windlass("/", Some("/a/b")))),
            ("half", Router::new().nest_service("/a", windlass("/b", Some("/a")))),
            ("nest", Router::new().nest("/a", routed("/b", windlass("/b", Some("/a"))))),
        ] {
            let request =
                Request::post("/a/b").header("host", "h").header("tus-resumable", "1.0.0");
            let request = request.header("upload-length", "1").body(Body::empty()).expect("plain");
            let answer = router.call(request).await.expect("answered");
            assert_eq!(answer.status(), StatusCode::CREATED, "{name}");
            let location = answer.headers()["location"].to_str().expect("text");
            assert!(location.starts_with("/a/b/"), "{name}: {location}");
            let request = Request::head(location).header("host", "h");
            let request = request.header("tus-resumable", "1.0.0").body(Body::empty());
            let answer = router.call(request.expect("plain")).await.expect("answered");
            assert_eq!(answer.status(), StatusCode::OK, "{name}: {location}");
        }
    }
}
