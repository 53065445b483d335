//! What a case talks to: one dialect at one URL, over one transport.

use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::case::Setup;
use crate::contract::Contract;
use crate::failure::{Failure, ensure};
use crate::http1::{Connection, body, head};
use crate::http2::Session;
use crate::message::{Request, Response};
use crate::server::Windlass;
use crate::upload::Upload;
use crate::watch::Watch;

/// The HTTP version of the plain exchanges of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// HTTP/1.1, a connection per exchange.
    Http1,
    /// HTTP/2 in clear text with prior knowledge.
    Http2,
}

/// Where a collection lives.
#[derive(Clone, Debug)]
pub struct Base {
    /// The socket address.
    pub address: SocketAddr,
    /// The value for `Host`.
    pub host: String,
    /// The collection's path: `/files`, or `/`.
    pub path: String,
}

impl Base {
    /// Parses `http://host[:port][/path]`.
    pub fn parse(url: &str) -> Result<Self, Failure> {
        let rest = url.strip_prefix("http://");
        let rest = rest.ok_or_else(|| Failure::new(format!("{url}: only http:// works")))?;
        let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let with_port = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
        let address = with_port.to_socket_addrs()?.next();
        let address = address.ok_or_else(|| Failure::new(format!("{host}: no address")))?;
        let path = if path == "/" { path } else { path.trim_end_matches('/') };
        Ok(Self { address, host: host.to_owned(), path: path.to_owned() })
    }
}

/// A dialect under test.
#[derive(Debug)]
pub struct Site {
    /// Where it lives.
    pub base: Base,
    /// What its answers are held against.
    pub contract: &'static Contract,
    /// How plain exchanges reach it.
    pub transport: Transport,
    /// How the server was configured.
    pub setup: Setup,
    /// The server binary, if cases may start their own.
    pub binary: Option<PathBuf>,
    case: &'static str,
    watch: Arc<Watch>,
    /// The highest offset that any answer showed, by path (I-01).
    floors: Mutex<HashMap<String, u64>>,
}

/// A server of the case's own, which it may stop and start.
#[derive(Debug)]
pub struct Own {
    /// The process.
    pub process: Windlass,
    /// The collection it serves.
    pub site: Site,
}

/// One HTTP/1.1 connection whose answers are watched like all others.
#[derive(Debug)]
pub struct Link<'a> {
    site: &'a Site,
    /// The connection itself, for everything that is not an exchange.
    pub raw: Connection,
    /// What had been shown when the last head was sent (I-01).
    floor: Option<u64>,
}

impl Site {
    /// A collection for one case.
    pub fn new(
        contract: &'static Contract,
        base: Base,
        setup: Setup,
        case: &'static str,
        watch: Arc<Watch>,
    ) -> Self {
        let transport = if setup == Setup::Http2 { Transport::Http2 } else { Transport::Http1 };
        let floors = Mutex::default();
        Self { base, contract, transport, setup, binary: None, case, watch, floors }
    }

    /// The same with a binary at hand.
    pub fn with_binary(mut self, binary: Option<PathBuf>) -> Self {
        self.binary = binary;
        self
    }

    /// Starts a server for this case alone.
    pub fn launch(&self, flags: &[&str]) -> Result<Own, Failure> {
        let binary = self.binary.as_ref().ok_or_else(|| Failure::new("no server binary"))?;
        self.own(Windlass::start(binary, flags)?)
    }

    /// Starts a server for this case alone whose files cannot grow past `blocks` KiB.
    pub fn launch_with_full_disk(&self, blocks: u64) -> Result<Own, Failure> {
        let binary = self.binary.as_ref().ok_or_else(|| Failure::new("no server binary"))?;
        self.own(Windlass::start_with_full_disk(binary, blocks)?)
    }

    fn own(&self, process: Windlass) -> Result<Own, Failure> {
        let base = Base::parse(process.url_of(self.contract.name)?)?;
        let site = Self::new(self.contract, base, self.setup, self.case, Arc::clone(&self.watch));
        Ok(Own { process, site: site.with_binary(self.binary.clone()) })
    }

    /// Another dialect of the same server, at this path.
    pub fn beside(&self, contract: &'static Contract, path: &str) -> Self {
        let base = Base { path: path.to_owned(), ..self.base.clone() };
        let watch = Arc::clone(&self.watch);
        Self::new(contract, base, self.setup, self.case, watch).with_binary(self.binary.clone())
    }

    /// The path of the collection.
    pub fn collection(&self) -> &str {
        &self.base.path
    }

    /// The path of something below the collection.
    pub fn below(&self, name: &str) -> String {
        format!("{}/{name}", self.base.path.trim_end_matches('/'))
    }

    /// One exchange on a connection of its own.
    pub fn ask(&self, request: &Request) -> Result<Response, Failure> {
        match self.transport {
            Transport::Http1 => self.connect()?.ask(request),
            Transport::Http2 => {
                let floor = self.floor(request);
                let response = self.session()?.ask(request, &self.base.host)?;
                self.note(request, &response, floor);
                Ok(response)
            }
        }
    }

    /// An HTTP/1.1 connection.
    pub fn connect(&self) -> Result<Link<'_>, Failure> {
        Ok(Link { site: self, raw: Connection::open(self.base.address)?, floor: None })
    }

    /// An HTTP/2 connection; its answers go to [`Site::note`] by hand where they matter.
    pub fn session(&self) -> Result<Session, Failure> {
        Session::open(self.base.address)
    }

    /// OPTIONS on the collection.
    pub fn options(&self) -> Result<Response, Failure> {
        self.ask(&Request::plain("OPTIONS", self.collection()))
    }

    /// Whether the server announces an extension.
    pub fn offers(&self, extension: &str) -> Result<bool, Failure> {
        Ok(self.options()?.list("Tus-Extension").iter().any(|name| name == extension))
    }

    /// A POST on the collection with a version and no other field.
    pub fn post(&self) -> Request {
        Request::tus("POST", self.collection())
    }

    /// Creates an upload of this length.
    pub fn create(&self, length: u64) -> Result<Upload<'_>, Failure> {
        self.create_by(&self.post().with("Upload-Length", length).body(b""))
    }

    /// Creates an upload whose length is declared later.
    pub fn create_deferred(&self) -> Result<Upload<'_>, Failure> {
        self.create_by(&self.post().with("Upload-Defer-Length", "1").body(b""))
    }

    /// Creates an upload by this request and follows its `Location`.
    pub fn create_by(&self, request: &Request) -> Result<Upload<'_>, Failure> {
        let response = self.ask(request)?.is(201)?;
        self.created(&response)
    }

    /// A complete upload with this content, made by POST and PATCH.
    pub fn create_complete(&self, content: &[u8]) -> Result<Upload<'_>, Failure> {
        let upload = self.create(content.len() as u64)?;
        if !content.is_empty() {
            upload.patch(0, content)?.is(204)?;
        }
        Ok(upload)
    }

    /// The upload that a 201 names.
    pub fn created(&self, response: &Response) -> Result<Upload<'_>, Failure> {
        let location = response.field("Location").unwrap_or_default();
        let path = path_of(location);
        let message = format!("{} names no usable Location: {location:?}", response.about);
        ensure(path.starts_with('/'), message)?;
        let upload = self.upload(path);
        self.raise_floor(&upload.path, response.number("Upload-Offset").unwrap_or(0));
        Ok(upload)
    }

    /// The upload at a path that is known already.
    pub fn upload(&self, path: &str) -> Upload<'_> {
        Upload { site: self, path: path.to_owned() }
    }

    /// The highest offset shown so far for what the request names; take it before sending.
    pub fn floor(&self, request: &Request) -> Option<u64> {
        let floors = self.floors.lock().unwrap_or_else(PoisonError::into_inner);
        floors.get(plain_path(&request.target)).copied()
    }

    /// Checks what every answer must keep, and remembers the offset it shows.
    pub fn note(&self, request: &Request, response: &Response, floor: Option<u64>) {
        self.watch.check(self.contract.checks, self.case, self.setup, request, response, floor);
        let path = plain_path(&request.target);
        let gone = [404, 410].contains(&response.status)
            || (request.effective_method() == "DELETE" && response.status == 204);
        if gone {
            self.floors.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
        } else if let Some(offset) = response.number("Upload-Offset")
            && request.effective_method() != "POST"
        {
            self.raise_floor(path, offset);
        }
    }

    fn raise_floor(&self, path: &str, offset: u64) {
        let mut floors = self.floors.lock().unwrap_or_else(PoisonError::into_inner);
        let floor = floors.entry(plain_path(path).to_owned()).or_insert(offset);
        *floor = offset.max(*floor);
    }
}

impl Own {
    /// Kills the server without warning and starts it again on the same data directory.
    pub fn crash_and_restart(&mut self) -> Result<(), Failure> {
        self.process.kill()?;
        self.restart()
    }

    /// Starts the ended server again; offsets shown before still count (I-09).
    pub fn restart(&mut self) -> Result<(), Failure> {
        self.process.restart()?;
        self.site.base = Base::parse(self.process.url_of(self.site.contract.name)?)?;
        Ok(())
    }
}

impl Link<'_> {
    /// Sends a request whole and reads its answer.
    pub fn ask(&mut self, request: &Request) -> Result<Response, Failure> {
        self.floor = self.site.floor(request);
        self.raw.send_request(request, &self.site.base.host)?;
        self.answer_to(request)
    }

    /// The same for a client that gives up when its sending fails, as most libraries do: it
    /// never reads an answer that a reset has overtaken.
    pub fn ask_unbroken(&mut self, request: &Request) -> Result<Response, Failure> {
        self.send_head(request)?;
        let sent = self.raw.send(&body(&request.body));
        sent.map_err(|failure| failure.within(format!("{} in mid-send", request.about())))?;
        self.answer_to(request)
    }

    /// Sends the head of a request and nothing of its body.
    pub fn send_head(&mut self, request: &Request) -> Result<(), Failure> {
        self.floor = self.site.floor(request);
        self.raw.send(&head(request, &self.site.base.host))
    }

    /// Reads the answer to `request`, which was sent by hand.
    pub fn answer_to(&mut self, request: &Request) -> Result<Response, Failure> {
        let response = self.raw.read_answer(request)?;
        self.site.note(request, &response, self.floor.take());
        Ok(response)
    }
}

/// The path of a URL or of a reference that is a path already.
pub fn path_of(location: &str) -> &str {
    let Some((_, rest)) = location.split_once("://") else {
        return location;
    };
    rest.find('/').map_or("/", |at| &rest[at..])
}

fn plain_path(target: &str) -> &str {
    target.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/')
}
