//! What a server that was started after a crash must say and have on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::client::{About, CHUNKS, TUS, chunk_query, same};
use super::ledger::{Entry, Fate, Kind, Length};
use crate::failure::{Failure, Verdict, ensure, ensure_eq};
use crate::http1::ask;
use crate::message::{Request, Response};

/// How long the server may take to clean up and to lay final uploads down.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the server lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process.
    Kill,
    /// The process and all that the file system had not written.
    Power,
}

/// A server that was started after a crash.
#[derive(Clone, Copy, Debug)]
pub struct Survivor<'a> {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its data directory.
    pub data: &'a Path,
    /// What the crash took.
    pub crash: Crash,
}

/// What is found of one upload.
struct Found {
    entry: Entry,
    /// The names that may lie in the directory for it, and whether each must.
    names: BTreeMap<String, bool>,
}

impl Survivor<'_> {
    /// Holds the server against what was certain when the crash began (`then`) and what may have
    /// happened until it was over (`now`). Gives the uploads as they are.
    ///
    /// # Errors
    /// The first promise that is broken.
    pub fn check(&self, then: &[Entry], now: &[Entry]) -> Result<Vec<Entry>, Failure> {
        let before: BTreeMap<u64, &Entry> = then.iter().map(|e| (e.number, e)).collect();
        let mut now: Vec<Entry> = now.to_vec();
        self.adopt(&mut now)?;
        let mut found = Vec::new();
        for entry in now {
            let unborn = Entry::new(entry.number, entry.content.to_vec(), entry.kind, entry.length);
            let then = before.get(&entry.number).copied().unwrap_or(&unborn);
            let path = entry.path.clone().unwrap_or_default();
            let about = |f: Failure| f.within(format!("{path}, record {:?}", self.record(&path)));
            found.push(self.upload(then, entry).map_err(about)?);
        }
        self.directory(&found)?;
        Ok(found.into_iter().map(|found| found.entry).collect())
    }

    /// The record of an upload, for messages.
    fn record(&self, path: &str) -> String {
        let id = path.rsplit('/').next().unwrap_or_default();
        let text = std::fs::read(self.data.join(format!("{id}.record"))).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    fn ask(&self, request: &Request) -> Result<Response, Failure> {
        ask(self.address, request)
    }

    /// Finds the uploads whose first answer nobody has read: each must be one that was asked for,
    /// and made once.
    fn adopt(&self, entries: &mut [Entry]) -> Verdict {
        let known =
            |entries: &[Entry], path: &str| entries.iter().any(|e| e.path.as_deref() == Some(path));
        for id in self.ids()? {
            let path = format!("{TUS}/{id}");
            if known(entries, &path) {
                continue;
            }
            let answer = self.ask(&Request::tus("HEAD", &path))?;
            if answer.status == 404 {
                // Never came to be; the directory is judged later.
                continue;
            }
            let record = self.record(&path);
            let answer = answer.is_one_of(&[200, 204])?;
            let metadata = answer.field("Upload-Metadata").unwrap_or_default();
            let same =
                |entry: &&mut Entry| metadata.split(',').any(|pair| pair == entry.metadata());
            let entry = entries.iter_mut().find(same);
            let Some(entry) = entry else {
                return Err(Failure::new(format!("{id} was never asked for: {metadata}")));
            };
            let about = format!("{id} is a second {:?}, record {record:?}", About(entry));
            ensure(entry.path.is_none(), about)?;
            (entry.path, entry.fate) = (Some(path), Fate::Living);
        }
        Ok(())
    }

    /// One upload.
    fn upload(&self, then: &Entry, mut now: Entry) -> Result<Found, Failure> {
        let Some(path) = now.path.clone() else {
            // Its first request was not answered and has left nothing.
            now.fate = Fate::Gone;
            let names = BTreeMap::new();
            return Ok(Found { entry: now, names });
        };
        let id = path.rsplit('/').next().unwrap_or_default().to_owned();
        let answer = self.ask(&Request::tus("HEAD", &path))?;
        let must_live = then.path.is_some() && now.fate == Fate::Living;
        let must_be_gone = then.fate == Fate::Gone;
        let about = format!("HEAD answers {} for {:?}", answer.status, About(&now));
        match answer.status {
            404 | 410 => {
                ensure(!must_live, about)?;
                let get = self.ask(&Request::plain("GET", &path))?;
                get.is_one_of(&[404, 410])?;
                now.fate = Fate::Gone;
                // A tombstone stays of what may have clients that are still sending, but no bytes.
                let tombstone = matches!(now.kind, Kind::Chunks(_));
                let names = tombstone.then(|| (format!("{id}.record"), false));
                let names = names.into_iter().collect();
                return Ok(Found { entry: now, names });
            }
            200 | 204 => ensure(!must_be_gone, about)?,
            _ => return Err(Failure::new(about)),
        }
        now.fate = Fate::Living;
        let offset = answer.number("Upload-Offset").unwrap_or(u64::MAX);
        match now.kind {
            Kind::Chunks(_) => self.chunks(then, &mut now, offset)?,
            Kind::Whole | Kind::Partial | Kind::Final => {
                let about =
                    format!("HEAD shows {offset} of {:?} after {:?}", About(&now), About(then));
                ensure(now.allows(then, offset), about)?;
                now.told = offset;
                self.length(then, &mut now, &answer)?;
            }
        }
        now.settle();
        now.unsure = false;
        let names = self.content(&now, &path, &id)?;
        Ok(Found { entry: now, names })
    }

    /// What is known of the length.
    fn length(&self, then: &Entry, now: &mut Entry, head: &Response) -> Verdict {
        let length = head.number("Upload-Length");
        if let Some(length) = length {
            same("the length", now, length, now.size())?;
        }
        let is_right = match (then.length, now.length) {
            (Length::Known, _) => length.is_some(),
            (_, Length::Deferred) => length.is_none(),
            (Length::Deferred | Length::Declaring, Length::Declaring | Length::Known) => true,
        };
        ensure(is_right, format!("length {length:?} for {:?}", About(now)))?;
        now.length = if length.is_some() { Length::Known } else { Length::Deferred };
        Ok(())
    }

    /// What is there of an upload in chunks: those that were confirmed, and of the others none that
    /// was cut short.
    fn chunks(&self, then: &Entry, now: &mut Entry, offset: u64) -> Verdict {
        let stored = std::mem::take(&mut now.stored);
        let mut prefix = 0;
        for chunk in 1..=now.chunks() {
            // A name stands for a complete upload for a while only (S-010).
            let is_there = offset == now.size() || self.has_chunk(now, chunk)?;
            let range = now.chunk(chunk);
            let about = |what| format!("chunk {chunk} of {:?} {what}", About(now));
            if then.stored.contains(&chunk) {
                ensure(is_there, about("is missing"))?;
            } else if !stored.contains(&chunk) && !now.allows_chunk(then, &range) {
                ensure(!is_there, about("was never there as a whole"))?;
            }
            if is_there {
                now.stored.push(chunk);
                if prefix == range.start {
                    prefix = range.end;
                }
            }
        }
        same("the offset", now, offset, prefix)
    }

    fn has_chunk(&self, entry: &Entry, chunk: u64) -> Result<bool, Failure> {
        let target = format!("{CHUNKS}?{}", chunk_query(entry, chunk));
        let answer = self.ask(&Request::plain("GET", &target))?;
        Ok(answer.is_one_of(&[200, 204])?.status == 200)
    }

    /// The bytes under what is shown, over the wire and on disk. Gives the names that belong there.
    fn content(
        &self,
        entry: &Entry,
        path: &str,
        id: &str,
    ) -> Result<BTreeMap<String, bool>, Failure> {
        let published = entry.is_complete() && entry.kind != Kind::Partial;
        let get = self.ask(&Request::plain("GET", path))?;
        let about = |f: Failure| f.within(format!("{:?}", About(entry)));
        if published {
            get.is(200).and_then(|r| r.has_body(&entry.content)).map_err(about)?;
        } else {
            get.is(404).map_err(about)?;
        }
        let data = if published { id.to_owned() } else { format!("{id}.part") };
        if entry.kind != Kind::Final {
            let file = std::fs::read(self.data.join(&data)).unwrap_or_default();
            let ranges: Vec<_> = match entry.kind {
                Kind::Chunks(_) => entry.stored.iter().map(|n| entry.chunk(*n)).collect(),
                Kind::Whole | Kind::Partial | Kind::Final => {
                    std::iter::once(0..entry.told).collect()
                }
            };
            for range in ranges {
                let on_disk = file.get(range.start as usize..range.end as usize);
                let right = on_disk == Some(entry.bytes(&range));
                ensure(right, format!("{range:?} in {data}, {:?}", About(entry)))?;
            }
        }
        // The loss of power may take a data file that holds nothing.
        let holds = published || entry.told > 0 || !entry.stored.is_empty();
        let needed = holds || self.crash == Crash::Kill;
        Ok(BTreeMap::from([(format!("{id}.record"), true), (data, needed)]))
    }

    /// Waits until the directory holds what belongs to the uploads and nothing else, and whole
    /// files under the names of those that are complete.
    fn directory(&self, found: &[Found]) -> Verdict {
        let names = || found.iter().flat_map(|found| &found.names);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let there = self.names()?;
            let surplus: Vec<&String> =
                there.iter().filter(|name| !names().any(|(other, _)| other == *name)).collect();
            let missing: Vec<&String> = names()
                .filter(|(name, needed)| **needed && !there.contains(*name))
                .map(|(name, _)| name)
                .collect();
            if surplus.is_empty() && missing.is_empty() {
                break;
            }
            if Instant::now() >= deadline {
                let is_concerned = |entry: &&Entry| {
                    let id = entry.path.as_deref().and_then(|path| path.rsplit('/').next());
                    let names = surplus.iter().chain(&missing);
                    id.is_some_and(|id| names.clone().any(|name| name.starts_with(id)))
                };
                let entries = found.iter().map(|found| &found.entry).filter(is_concerned);
                let of: Vec<_> = entries.map(About).collect();
                let about = format!("left behind: {surplus:?}; missing: {missing:?}; of {of:?}");
                return Err(Failure::new(about));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        for Found { entry, .. } in found {
            let whole = entry.fate == Fate::Living && entry.is_complete();
            if let (true, Some(path)) = (whole && entry.kind != Kind::Partial, &entry.path) {
                let id = path.rsplit('/').next().unwrap_or_default();
                let right = std::fs::read(self.data.join(id))? == *entry.content;
                ensure(right, format!("the plain file of {:?}", About(entry)))?;
            }
        }
        Ok(())
    }

    /// What lies in the data directory, without what belongs to the store and the file system.
    fn names(&self) -> Result<BTreeSet<String>, Failure> {
        let mut names = BTreeSet::new();
        for entry in std::fs::read_dir(self.data)? {
            names.insert(entry?.file_name().to_string_lossy().into_owned());
        }
        let own = [".lock", ".secret", "lost+found"];
        names.retain(|name| !own.contains(&name.as_str()));
        // What a client calls an upload is a link to its record; one that leads nowhere is surplus.
        names.retain(|name| !(name.ends_with(".name") && self.data.join(name).exists()));
        Ok(names)
    }

    /// The ids of which something lies in the data directory.
    fn ids(&self) -> Result<BTreeSet<String>, Failure> {
        let names = self.names()?;
        let ids = names.iter().map(|name| name.split('.').next().unwrap_or_default());
        Ok(ids.map(str::to_owned).collect())
    }
}

/// Holds the plain files in a data directory, as a crash has left them and nobody has tidied up
/// yet, against the uploads: each is whole from its first moment.
///
/// # Errors
/// The first that is not.
pub fn published(data: &Path, entries: &[Entry]) -> Verdict {
    for entry in entries {
        let Some(path) = &entry.path else { continue };
        let id = path.rsplit('/').next().unwrap_or_default();
        if let Ok(file) = std::fs::read(data.join(id)) {
            let about = format!("{} bytes are published of {:?}", file.len(), About(entry));
            ensure(file == *entry.content, about)?;
        }
    }
    Ok(())
}

/// What the server has announced as complete, and what it has published.
#[derive(Clone, Debug, Default)]
pub struct Announcements {
    /// The files published so far: a second publication would be another file.
    files: BTreeMap<String, u64>,
}

impl Announcements {
    /// Holds the log of all lives of a server against the uploads as they are: each was announced
    /// at most once, and only when it was complete for good. Gives the number of announcements.
    ///
    /// # Errors
    /// The first promise that is broken.
    pub fn check(&mut self, log: &[u8], data: &Path, found: &[Entry]) -> Result<usize, Failure> {
        let announced = announced(log);
        for (path, times) in &announced {
            ensure_eq(&format!("announcements of {path}"), *times, 1)?;
        }
        for entry in found.iter().filter(|entry| entry.fate == Fate::Living) {
            let path = entry.path.as_deref().unwrap_or_default();
            let about = format!("{:?} was announced", About(entry));
            ensure(entry.is_complete() || !announced.contains_key(path), about)?;
            if entry.is_complete() && entry.kind != Kind::Partial {
                let id = path.rsplit('/').next().unwrap_or_default();
                let file = std::fs::metadata(data.join(id))?.ino();
                let first = *self.files.entry(path.to_owned()).or_insert(file);
                same("the file", entry, file, first)?;
            }
        }
        Ok(announced.len())
    }
}

/// How often each upload was announced in a log, by path.
pub fn announced(log: &[u8]) -> BTreeMap<String, usize> {
    let mut announced = BTreeMap::new();
    for line in String::from_utf8_lossy(log).lines() {
        let id = line.split(": complete id=").nth(1);
        if let Some(id) = id.and_then(|rest| rest.split(' ').next()) {
            *announced.entry(format!("{TUS}/{id}")).or_insert(0) += 1;
        }
    }
    announced
}
