//! What a request says about its chunk and its file: parameters from the query, then from the
//! fields of a form, under the names of one of several profiles.
//!
//! # Source
//! J-001 to J-006, S-003, S-004.

use std::{mem, sync::Arc};

use super::{
    chunk::{Chunk, Misfit},
    profile::{Answers, Parameter, Profile},
    refuse::{self, Fault},
};
use crate::wire::naming::{File, MAX_IDENTIFIER_BYTES, below, text};

/// The largest number: above it JavaScript counts no more.
const MAX_NUMBER: u64 = (1 << 53) - 1;

/// The digits of [`MAX_NUMBER`].
const MAX_DIGITS: usize = 16;

/// What no chunk is without (J-002).
const REQUIRED: [Parameter; 4] =
    [Parameter::ChunkNumber, Parameter::ChunkSize, Parameter::TotalSize, Parameter::Identifier];

/// How much of a value its fault repeats, in characters.
const MAX_SHOWN_CHARACTERS: usize = 64;

/// What the checksum of a chunk is called, in every profile; clients send it as a parameter of the
/// application's.
const CHECKSUM: &str = "checksum";

/// Everything that a request says under a known name. Unknown names are ignored (F-29): CSRF
/// tokens and the like travel there.
#[derive(Debug)]
pub(super) struct Params {
    checksum: Slot,
    profiles: Arc<[Profile]>,
    /// For each profile what is said under its names.
    said: Vec<Slots>,
}

/// What a request says under the names of one profile.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    index: usize,
    profiles: Arc<[Profile]>,
    slots: Slots,
}

type Slots = [Slot; Parameter::ALL.len()];

/// What is said under one name. Judged only when it is needed, so that nothing depends on names of
/// other profiles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Slot {
    #[default]
    Absent,
    /// It cannot be read; why.
    Broken(&'static str),
    /// It is given twice, and not the same.
    Contradicted {
        /// The first value.
        first: String,
        /// The first other one.
        other: String,
    },
    Given(String),
}

impl Slot {
    /// Takes in one occurrence (J-003).
    fn add(&mut self, value: Result<String, &'static str>) {
        *self = match (mem::take(self), value) {
            (slot, Ok(value)) if value.is_empty() => slot,
            (Self::Absent, Ok(value)) => Self::Given(value),
            (Self::Given(given), Ok(value)) if given == value => Self::Given(given),
            (Self::Given(first), Ok(other)) => Self::Contradicted { first, other },
            (Self::Given(_), Err(reason)) => Self::Broken(reason),
            (slot @ Self::Contradicted { .. }, _) => slot,
            (Self::Absent, Err(reason)) | (Self::Broken(reason), _) => Self::Broken(reason),
        };
    }

    /// The value, if there is one and it is good.
    fn given(&self) -> Option<&str> {
        match self {
            Self::Given(text) => Some(text),
            Self::Absent | Self::Broken(_) | Self::Contradicted { .. } => None,
        }
    }
}

impl Params {
    /// Nothing said yet.
    pub(super) fn new(profiles: Arc<[Profile]>) -> Self {
        Self { checksum: Slot::Absent, said: vec![Slots::default(); profiles.len()], profiles }
    }

    /// Takes in a query. Names may be written without percent-encoding: in its tests resumable.js
    /// does not encode them (C-55).
    pub(super) fn add_query(&mut self, query: &str) {
        // A query may have as many pairs as the target has room for: what says nothing costs next
        // to nothing.
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        for (name, value) in pairs.filter(|(name, _)| !name.is_empty()) {
            let encoded = Some(name).filter(|name| name.contains('%'));
            let decoded = encoded.and_then(|name| percent_decoded(name).and_then(text).ok());
            self.add(name, decoded.as_deref(), || {
                // No client writes `+` for a plus; other tools write it for a blank.
                percent_decoded(&value.replace('+', " ")).and_then(text)
            });
        }
    }

    /// Takes in a field of a form.
    pub(super) fn add_field(&mut self, name: &str, value: &[u8]) {
        self.add(name, None, || text(value.to_vec()));
    }

    /// Takes in what is said under `name`, and under `decoded` if that is another.
    fn add(
        &mut self,
        name: &str,
        decoded: Option<&str>,
        value: impl Fn() -> Result<String, &'static str>,
    ) {
        for (profile, slots) in self.profiles.iter().zip(&mut self.said) {
            let parameter = profile.parameter(name);
            let parameter = parameter.or_else(|| profile.parameter(decoded?));
            if let Some(parameter) = parameter {
                slots[parameter.index()].add(value());
            }
        }
        let name = decoded.unwrap_or(name);
        let is_checksum = |profile: &Profile| profile.is_own(CHECKSUM, name);
        if name == CHECKSUM || self.profiles.iter().any(is_checksum) {
            // Without a blank it is no checksum of ours but a parameter of the application's.
            let value = value().unwrap_or_default();
            if value.contains(' ') {
                self.checksum.add(Ok(value));
            }
        }
    }

    /// What is said under the names of the one profile under which all of `keys` are said (J-004).
    pub(super) fn choose(&self, keys: &[Parameter]) -> Result<Chosen, Fault> {
        let is_said =
            |slots: &Slots| keys.iter().all(|parameter| slots[parameter.index()] != Slot::Absent);
        let mut matching = self.said.iter().enumerate().filter(|(_, s)| is_said(s));
        let Some((index, slots)) = matching.next() else {
            return Err(self.nothing_said(keys));
        };
        if let Some((other, _)) = matching.next() {
            let [one, other] = [index, other].map(|index| names(&self.profiles[index], keys));
            let message = format!("the request has {one}, and {other}; expected those of one");
            return Err(Fault::new(refuse::AMBIGUOUS, message));
        }
        Ok(Chosen { index, profiles: Arc::clone(&self.profiles), slots: slots.clone() })
    }

    fn nothing_said(&self, keys: &[Parameter]) -> Fault {
        let said = |slots: &Slots| slots.iter().filter(|slot| **slot != Slot::Absent).count();
        let clients = self.profiles.iter().zip(&self.said);
        let closest = clients.clone().max_by_key(|(_, slots)| said(slots));
        let missing = match closest.filter(|(_, slots)| said(slots) > 0) {
            Some((profile, slots)) => {
                let is_missing = |key: &&Parameter| slots[key.index()] == Slot::Absent;
                names(profile, &keys.iter().filter(is_missing).copied().collect::<Vec<_>>())
            }
            None => {
                let sets: Vec<_> = clients.map(|(profile, _)| names(profile, keys)).collect();
                sets.join(", or ")
            }
        };
        Fault::new(refuse::MISSING, format!("missing: {missing}"))
    }

    /// The fault of a form whose file begins before the fields that say which chunk it is (J-006).
    pub(super) fn too_late(&self) -> Fault {
        let is_silent = self.said.iter().flatten().all(|slot| *slot == Slot::Absent);
        let missing = self.nothing_said(&REQUIRED).message;
        let sends_small_files_alone =
            self.profiles.iter().any(|profile| profile.answers() == Answers::Texts);
        let advice = if is_silent && sends_small_files_alone {
            "; Dropzone sends them with every file if it is given forceChunking: true"
        } else {
            ""
        };
        let message = format!("form fields that must come before the file are {missing}{advice}");
        Fault::new(refuse::FIELDS_AFTER_FILE, message)
    }

    /// Whether everything that a chunk needs is said.
    pub(super) fn suffice(&self) -> bool {
        self.choose(&REQUIRED).is_ok()
    }

    /// The identifier as far as it is known: for the answer, whatever else is wrong.
    pub(super) fn identifier(&self) -> Option<&str> {
        let mut said = self.said.iter();
        let given = said.find_map(|slots| slots[Parameter::Identifier.index()].given());
        given.filter(|text| text.len() <= MAX_IDENTIFIER_BYTES)
    }

    /// What the chunk must hash to, as a parameter says.
    pub(super) fn checksum(&self) -> Result<Option<&str>, Fault> {
        value_of(&self.checksum, CHECKSUM)
    }
}

/// What `profile` calls all of `keys`.
fn names(profile: &Profile, keys: &[Parameter]) -> String {
    let names: Vec<_> = keys.iter().map(|key| profile.name(*key)).collect();
    match names.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => names.concat(),
    }
}

impl Chosen {
    /// The library that sends the request.
    pub(super) fn profile(&self) -> &Profile {
        &self.profiles[self.index]
    }

    /// The name of `parameter` as this client sends it.
    pub(super) fn name(&self, parameter: Parameter) -> String {
        self.profiles[self.index].name(parameter)
    }

    /// Which file the request is about.
    pub(super) fn file(&self) -> Result<File, Fault> {
        let identifier = self.required(Parameter::Identifier)?;
        if identifier.len() > MAX_IDENTIFIER_BYTES {
            let bytes = identifier.len();
            let message = format!("has {bytes} bytes, expected at most {MAX_IDENTIFIER_BYTES}");
            return Err(self.fault(refuse::IDENTIFIER_TOO_LONG, Parameter::Identifier, message));
        }
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let path = self.text(Parameter::RelativePath)?.map(|path| {
            below(path).map_err(|why| {
                let message = format!("{} {why}, expected a path below a folder", shown(path));
                self.fault(refuse::BAD_RELATIVE_PATH, Parameter::RelativePath, message)
            })
        });
        Ok(File {
            identifier: identifier.to_owned(),
            kind: owned(self.text(Parameter::Type)?),
            name: owned(self.text(Parameter::Filename)?),
            path: path.transpose()?.flatten(),
        })
    }

    /// Which chunk of it.
    pub(super) fn chunk(&self) -> Result<Chunk, Fault> {
        let number = self.chunk_number()?;
        let total = self.number(Parameter::TotalSize)?;
        let total = total.ok_or_else(|| self.missing(Parameter::TotalSize))?;
        let (size, current) = match self.positive(Parameter::ChunkSize) {
            Err(fault)
                if fault.code == refuse::BAD_NUMBER && number == 1 && self.is_whole(total) =>
            {
                (total.max(1), None)
            }
            size => (
                size?.ok_or_else(|| self.missing(Parameter::ChunkSize))?,
                self.number(Parameter::CurrentChunkSize)?,
            ),
        };
        let chunks = self.number(Parameter::TotalChunks)?;
        Ok(Chunk { number, size, current, total, chunks })
    }

    /// Whether the first chunk may be all of a file of `total` bytes. Then its size is anything:
    /// `Number.MAX_VALUE` and `Infinity` switch chunks off, and the latter makes of the size of the
    /// chunk no number (J-001).
    fn is_whole(&self, total: u64) -> bool {
        match self.text(Parameter::CurrentChunkSize) {
            Ok(None | Some("NaN")) => true,
            Ok(Some(text)) => number(text) == Some(total),
            Err(_) => false,
        }
    }

    /// What is wrong with a chunk that does not fit its file.
    pub(super) fn misfit(&self, chunk: &Chunk, sent: Option<u64>, misfit: Misfit) -> Fault {
        let Chunk { number, size, total, .. } = *chunk;
        let (floor, ceil) = Chunk::counts(size, total);
        let first = self.profile().first();
        let said = |number: u64| number.saturating_sub(1).saturating_add(first);
        let file = format!("a file of {total} bytes in chunks of {size}");
        match misfit {
            Misfit::Chunks => {
                let given = chunk.chunks.unwrap_or_default();
                let number = said(number);
                let counts =
                    if floor == ceil { ceil.to_string() } else { format!("{floor} or {ceil}") };
                self.fault(
                    refuse::BAD_TOTAL_CHUNKS,
                    Parameter::TotalChunks,
                    format!("chunk {number} of {given}, but {file} has {counts} chunks"),
                )
            }
            Misfit::Length => {
                let given = chunk.current.or(sent);
                let given = given.map_or("does not say".to_owned(), |given| format!("has {given}"));
                let allowed =
                    chunk.allowed().map_or("none".to_owned(), |allowed| allowed.to_string());
                self.fault(
                    refuse::BAD_CHUNK_SIZE,
                    Parameter::CurrentChunkSize,
                    format!(
                        "chunk {} of {file} has {allowed} bytes, this one {given}",
                        said(number)
                    ),
                )
            }
            Misfit::Number => self.fault(
                refuse::BAD_CHUNK_NUMBER,
                Parameter::ChunkNumber,
                format!("no chunk {}: {file} has chunks {first} to {}", said(number), said(ceil)),
            ),
        }
    }

    /// Checks a field that follows the payload: what it says must have been said before (J-006).
    pub(super) fn check_late(&self, name: &str, value: &[u8]) -> Result<(), Fault> {
        let Some(parameter) = self.profiles[self.index].parameter(name) else {
            return Ok(());
        };
        let mut slot = self.slots[parameter.index()].clone();
        let was_absent = slot == Slot::Absent;
        slot.add(text(value.to_vec()));
        match value_of(&slot, name)? {
            Some(_) if was_absent => {
                Err(self.fault(refuse::FIELDS_AFTER_FILE, parameter, "must come before the chunk"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The number that is `parameter`, at least one, if it is given.
    pub(super) fn positive(&self, parameter: Parameter) -> Result<Option<u64>, Fault> {
        match self.number(parameter)? {
            Some(0) => Err(self.fault(refuse::BAD_NUMBER, parameter, "is 0, expected at least 1")),
            number => Ok(number),
        }
    }

    /// The size of the file's chunks, if it is given: of a file of one chunk any text is one
    /// (J-001).
    pub(super) fn size_of_chunks(&self) -> Result<Option<u64>, Fault> {
        let is_one = self.number(Parameter::TotalChunks)? == Some(1);
        self.positive(Parameter::ChunkSize).or_else(|fault| {
            if is_one && fault.code == refuse::BAD_NUMBER {
                Ok(Some(MAX_NUMBER))
            } else {
                Err(fault)
            }
        })
    }

    /// The number that is `parameter`, if it is given (J-001).
    pub(super) fn number(&self, parameter: Parameter) -> Result<Option<u64>, Fault> {
        let Some(text) = self.text(parameter)? else {
            return Ok(None);
        };
        number(text).map(Some).ok_or_else(|| {
            let message =
                format!("is {}, expected a whole number of at most {MAX_NUMBER}", shown(text));
            self.fault(refuse::BAD_NUMBER, parameter, message)
        })
    }

    /// The number of the chunk, from 1, however the client counts.
    fn chunk_number(&self) -> Result<u64, Fault> {
        let number = match self.profile().first() {
            0 => self.number(Parameter::ChunkNumber)?.map(|number| number.saturating_add(1)),
            _ => self.positive(Parameter::ChunkNumber)?,
        };
        number.ok_or_else(|| self.missing(Parameter::ChunkNumber))
    }

    fn required(&self, parameter: Parameter) -> Result<&str, Fault> {
        let text = self.text(parameter)?;
        text.ok_or_else(|| self.missing(parameter))
    }

    fn text(&self, parameter: Parameter) -> Result<Option<&str>, Fault> {
        value_of(&self.slots[parameter.index()], &self.name(parameter))
    }

    fn missing(&self, parameter: Parameter) -> Fault {
        self.fault(refuse::MISSING, parameter, format!("missing: {}", self.name(parameter)))
    }

    fn fault(&self, code: &'static str, parameter: Parameter, message: impl Into<String>) -> Fault {
        let fault = Fault::new(code, message);
        let param = Some(self.name(parameter)).filter(|_| self.profile().says(parameter));
        Fault { param, ..fault }
    }
}

fn value_of<'s>(slot: &'s Slot, name: &str) -> Result<Option<&'s str>, Fault> {
    match slot {
        Slot::Absent => Ok(None),
        Slot::Broken(reason) => Err(Fault::about(name, refuse::BAD_ENCODING, *reason)),
        Slot::Contradicted { first, other } => {
            let message = format!("given twice, as {} and as {}", shown(first), shown(other));
            Err(Fault::about(name, refuse::CONFLICTING, message))
        }
        Slot::Given(text) => Ok(Some(text)),
    }
}

/// As much of `text` as a message takes, in quotes.
fn shown(text: &str) -> String {
    let mut characters = text.chars();
    let start: String = characters.by_ref().take(MAX_SHOWN_CHARACTERS).collect();
    let rest = if characters.next().is_some() { "..." } else { "" };
    format!("{start:?}{rest}")
}

/// The number that `text` is, in the one way to write it (J-001).
fn number(text: &str) -> Option<u64> {
    let is_plain = text.len() <= MAX_DIGITS
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'));
    let number = text.parse().ok().filter(|_| is_plain);
    number.filter(|number| *number <= MAX_NUMBER)
}

/// What percent-encoded `text` stands for.
fn percent_decoded(text: &str) -> Result<Vec<u8>, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut pieces = text.split('%');
    bytes.extend_from_slice(pieces.next().unwrap_or_default().as_bytes());
    for piece in pieces {
        let digits = piece.get(..2).filter(|digits| {
            // `from_str_radix` takes a sign.
            digits.bytes().all(|digit| digit.is_ascii_hexdigit())
        });
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or("a % without two hexadecimal digits")?);
        bytes.extend_from_slice(piece.get(2..).unwrap_or_default().as_bytes());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    const KEYS: [Parameter; 2] = [Parameter::ChunkNumber, Parameter::Identifier];

    fn profiles() -> Arc<[Profile]> {
        Arc::new([Profile::resumable(), Profile::flow(), Profile::simple()])
    }

    fn params(query: &str, fields: &[(&str, &str)]) -> Params {
        let mut params = Params::new(profiles());
        params.add_query(query);
        for (name, value) in fields {
            params.add_field(name, value.as_bytes());
        }
        params
    }

    fn chosen(query: &str, fields: &[(&str, &str)]) -> Result<Chosen, Fault> {
        params(query, fields).choose(&KEYS)
    }

    /// The code and the parameter of what is wrong with a file and its chunk.
    fn wrong(query: &str, fields: &[(&str, &str)]) -> Option<(&'static str, Option<String>)> {
        let read = |chosen: Chosen| chosen.file().and_then(|_| chosen.chunk());
        let fault = chosen(query, fields).and_then(read).err()?;
        Some((fault.code, fault.param))
    }

    const GOOD: &str = "flowChunkNumber=1&flowChunkSize=10&flowTotalSize=29&flowIdentifier=i";

    #[test]
    fn numbers_are_plain_digits_up_to_2_to_the_53_j_001() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1", Some(1)),
            ("9007199254740991", Some(MAX_NUMBER)),
            ("9007199254740992", None),
            ("9999999999999999", None),
            ("99999999999999999999", None),
            ("", None),
            ("01", None),
            ("00", None),
            ("+1", None),
            ("-1", None),
            (" 1", None),
            ("1 ", None),
            ("1.0", None),
            ("3.3333333333333335", None),
            ("1e3", None),
            ("1e+21", None),
            ("0x1", None),
            ("١", None),
            ("NaN", None),
            ("undefined", None),
        ] {
            assert_eq!(number(text), expected, "{text:?}");
        }
    }

    #[test]
    fn parameters_come_from_query_and_fields_j_002_j_003() {
        let r110 = [
            ("resumableChunkNumber", "2"),
            ("resumableChunkSize", "10"),
            ("resumableCurrentChunkSize", "19"),
            ("resumableTotalSize", "29"),
            ("resumableType", ""),
            ("resumableIdentifier", "29-b\r\nin"),
            ("resumableFilename", "b\r\nin"),
            ("resumableRelativePath", "a/b\r\nin"),
            ("resumableTotalChunks", "2"),
        ];
        let query = "resumableChunkNumber=2&resumableChunkSize=10&resumableCurrentChunkSize=19&\
            resumableTotalSize=29&resumableType=&resumableIdentifier=29-b%0Ain&\
            resumableFilename=b%0Ain&resumableRelativePath=a%2Fb%0Ain&resumableTotalChunks=2";
        let file = File {
            identifier: "29-b\nin".to_owned(),
            kind: None,
            name: Some("b\nin".to_owned()),
            path: Some("a/b\nin".to_owned()),
        };
        let chunk = Chunk { number: 2, size: 10, current: Some(19), total: 29, chunks: Some(2) };
        let noise = "&_csrf=%&_csrf=x&undefined=undefined&undefined=undefined&=&&chunkNumber=9";
        for (query, fields) in [
            (query, &[][..]),
            ("", &r110),
            (query, &r110),
            (&format!("{query}{noise}"), &r110),
            (&format!("x=y&{query}"), &[("_csrf", "\u{0}"), ("filename", "z")]),
        ] {
            let chosen = chosen(query, fields).expect("one profile");
            assert_eq!(chosen.file().as_ref(), Ok(&file), "{query} {fields:?}");
            assert_eq!(chosen.chunk(), Ok(chunk), "{query} {fields:?}");
        }
        let minimal = chosen(GOOD, &[]).expect("one profile");
        assert_eq!(minimal.chunk().map(|chunk| (chunk.current, chunk.chunks)), Ok((None, None)));
    }

    #[test]
    fn wrong_parameters_are_named_j_001_to_j_004_s_003_s_004() {
        let flow = |name: &str| Some(format!("flow{name}"));
        let (long, longest) = ("i".repeat(4097), "😀".repeat(1024));
        for (query, fields, expected) in [
            (GOOD, &[][..], None),
            (GOOD, &[("flowChunkNumber", "1")], None),
            (GOOD, &[("flowChunkNumber", "")], None),
            (GOOD, &[("flowChunkNumber", "2")], Some((refuse::CONFLICTING, flow("ChunkNumber")))),
            (GOOD, &[("flowIdentifier", "j")], Some((refuse::CONFLICTING, flow("Identifier")))),
            (
                "flowIdentifier=j",
                &[("flowIdentifier", "i"), ("flowChunkNumber", "1")],
                Some((refuse::CONFLICTING, flow("Identifier"))),
            ),
            ("", &[], Some((refuse::MISSING, None))),
            ("flowChunkNumber=1", &[], Some((refuse::MISSING, None))),
            ("flowIdentifier=i", &[], Some((refuse::MISSING, None))),
            ("flowIdentifier=&flowChunkNumber=1", &[], Some((refuse::MISSING, None))),
            ("flowIdentifier=i&chunkNumber=1", &[], Some((refuse::MISSING, None))),
            ("0=undefined&1=undefined", &[], Some((refuse::MISSING, None))),
            (GOOD, &[("chunkNumber", "1"), ("identifier", "i")], Some((refuse::AMBIGUOUS, None))),
            (GOOD, &[("identifier", "a"), ("identifier", "b")], None),
            (
                "flowIdentifier=i&flowChunkNumber=1&flowTotalSize=2",
                &[],
                Some((refuse::MISSING, flow("ChunkSize"))),
            ),
            (
                "flowIdentifier=i&flowChunkNumber=1&flowChunkSize=2",
                &[],
                Some((refuse::MISSING, flow("TotalSize"))),
            ),
            (
                "flowIdentifier=i&flowChunkNumber=0&flowChunkSize=2&flowTotalSize=2",
                &[],
                Some((refuse::BAD_NUMBER, flow("ChunkNumber"))),
            ),
            (
                "flowIdentifier=i&flowChunkNumber=2&flowChunkSize=0&flowTotalSize=2",
                &[],
                Some((refuse::BAD_NUMBER, flow("ChunkSize"))),
            ),
            (
                "flowIdentifier=i&flowChunkNumber=2&flowChunkSize=3.3&flowTotalSize=9",
                &[],
                Some((refuse::BAD_NUMBER, flow("ChunkSize"))),
            ),
            (
                GOOD,
                &[("flowCurrentChunkSize", "-1")],
                Some((refuse::BAD_NUMBER, flow("CurrentChunkSize"))),
            ),
            (GOOD, &[("flowTotalChunks", "1e3")], Some((refuse::BAD_NUMBER, flow("TotalChunks")))),
            (
                GOOD,
                &[("flowRelativePath", "a/../b")],
                Some((refuse::BAD_RELATIVE_PATH, flow("RelativePath"))),
            ),
            (GOOD, &[("flowFilename", "../../x")], None),
            (
                "flowChunkNumber=1&flowChunkSize=10&flowTotalSize=29&flowIdentifier=%",
                &[],
                Some((refuse::BAD_ENCODING, flow("Identifier"))),
            ),
            (
                "flowChunkNumber=1&flowChunkSize=10&flowTotalSize=29&flowIdentifier=%FF",
                &[],
                Some((refuse::BAD_ENCODING, flow("Identifier"))),
            ),
            ("flowChunkNumber=%31&flowChunkSize=10&flowTotalSize=29&flowIdentifier=%00", &[], None),
            (
                "flowChunkNumber=1&flowChunkSize=10&flowTotalSize=29",
                &[("flowIdentifier", &long)],
                Some((refuse::IDENTIFIER_TOO_LONG, flow("Identifier"))),
            ),
            (
                "flowChunkNumber=1&flowChunkSize=10&flowTotalSize=29",
                &[("flowIdentifier", &longest)],
                None,
            ),
        ] {
            assert_eq!(wrong(query, fields), expected, "{query} {fields:?}");
        }
        let mut params = params("flowChunkNumber=1&flowChunkSize=10&flowTotalSize=29", &[]);
        params.add_field("flowIdentifier", b"\xff");
        let fault = params.choose(&KEYS).and_then(|chosen| chosen.file());
        assert_eq!(fault.map_err(|fault| fault.code), Err(refuse::BAD_ENCODING));
    }

    #[test]
    fn names_may_be_encoded_or_not_c_55() {
        let profile = Profile::resumable().with_namespace("a b+ü%.");
        let name = profile.name(Parameter::Identifier);
        let encoded = utf8_percent_encode(&name, NON_ALPHANUMERIC).to_string();
        for name in [name.as_str(), &encoded] {
            let mut params = Params::new(Arc::new([profile.clone()]));
            params.add_query(&format!("{name}=x"));
            assert!(params.choose(&[Parameter::Identifier]).is_ok(), "{name}");
        }
    }

    #[test]
    fn fields_after_the_chunk_must_not_contradict_j_006() {
        let chosen = chosen(GOOD, &[]).expect("one profile");
        for (name, value, expected) in [
            ("flowTotalSize", "29", Ok(())),
            ("flowTotalSize", "", Ok(())),
            ("flowTotalSize", "30", Err(refuse::CONFLICTING)),
            ("flowTotalChunks", "2", Err(refuse::FIELDS_AFTER_FILE)),
            ("flowTotalChunks", "", Ok(())),
            ("flowFilename", "b", Err(refuse::FIELDS_AFTER_FILE)),
            ("resumableTotalSize", "30", Ok(())),
            ("_csrf", "token", Ok(())),
        ] {
            let checked = chosen.check_late(name, value.as_bytes());
            assert_eq!(checked.map_err(|fault| fault.code), expected, "{name}={value}");
        }
        let broken = chosen.check_late("flowIdentifier", b"\xff");
        assert!(broken.is_err());
    }

    #[test]
    fn checksums_have_a_blank() {
        for (query, fields, expected) in [
            ("checksum=sha256%20YWJj", &[][..], Ok(Some("sha256 YWJj"))),
            ("checksum=sha256+YWJj", &[("checksum", "sha256 YWJj")], Ok(Some("sha256 YWJj"))),
            ("checksum=d41d8cd98f00b204", &[], Ok(None)),
            ("ns.checksum=sha256%20YWJj", &[], Ok(None)),
            ("", &[("checksum", "a b"), ("checksum", "a c")], Err(refuse::CONFLICTING)),
        ] {
            let params = params(query, fields);
            let checksum = params.checksum().map_err(|fault| fault.code);
            assert_eq!(checksum, expected, "{query}");
        }
        // The namespace goes in front of the application's parameters, too (C-53).
        let mut params = Params::new(Arc::new([Profile::flow().with_namespace("ns.")]));
        params.add_query("ns.checksum=sha256%20YWJj");
        assert_eq!(params.checksum(), Ok(Some("sha256 YWJj")));
    }

    #[test]
    fn identifiers_are_told_back_as_far_as_known() {
        for (query, expected) in [
            ("flowIdentifier=a%2Fb", Some("a/b")),
            ("identifier=x", Some("x")),
            ("flowIdentifier=%", None),
            ("", None),
        ] {
            assert_eq!(params(query, &[]).identifier(), expected, "{query}");
        }
        let long = format!("identifier={}", "x".repeat(10_000));
        assert_eq!(params(&long, &[]).identifier(), None);
    }

    proptest! {
        #[test]
        fn numbers_survive_their_text_j_001(value in 0..=MAX_NUMBER) {
            prop_assert_eq!(number(&value.to_string()), Some(value));
        }

        /// What the clients encode is what is read, from either source, and always the same file.
        #[test]
        fn identifiers_survive_query_and_form_s_003(identifier in "[^\r\n]{1,40}") {
            let query = utf8_percent_encode(&identifier, NON_ALPHANUMERIC).to_string();
            let query = format!("{GOOD}&flowIdentifier=").replace("&flowIdentifier=i", "") + &query;
            let fields = [("flowIdentifier", identifier.as_str())];
            for fields in [&[][..], &fields] {
                let file = chosen(&query, fields).and_then(|chosen| chosen.file());
                prop_assert_eq!(file.map(|file| file.identifier), Ok(identifier.clone()));
            }
        }

        #[test]
        fn line_breaks_are_one_whatever_their_form_j_003(
            lines in proptest::collection::vec("[ab]{0,3}", 1..5),
        ) {
            let joined = |end: &str| text(lines.join(end).into_bytes());
            prop_assert_eq!(joined("\r\n"), joined("\n"));
            prop_assert_eq!(joined("\r"), joined("\n"));
        }

        #[test]
        fn no_query_makes_the_reader_panic(
            query in "(flow|resumable)?(ChunkNumber|Identifier|TotalSize)?[=&%+0-9a-fé]{0,30}",
        ) {
            let _ = wrong(&query, &[]);
        }
    }
}
