//! [`Naming`]: what clients call their files, and whose these are, as the [`Key`] under which a
//! store finds an upload. Dialects with the same naming find each other's uploads.

use std::fmt;

use http::{HeaderName, request::Parts};

use super::{mount::Mount, safe_name};
use crate::upload::{Key, Metadata};

/// The longest identifier, in bytes (S-003).
pub(super) const MAX_IDENTIFIER_BYTES: usize = 4096;

/// Who a request is made for, so that the names one client gives its uploads are not those of
/// another. Put by the embedding application into the extensions of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner(pub String);

/// How the names that clients give become keys.
#[derive(Clone)]
pub struct Naming {
    owner_header: Option<HeaderName>,
    /// The path at which the names are given: the same ones mean other uploads elsewhere.
    scope: String,
    secret: Vec<u8>,
}

impl Naming {
    /// The naming of clients at `mount`. `secret` keeps others from computing which name an
    /// upload's id stands for; uploads are found again only with the same one.
    pub fn new(mount: &Mount, secret: impl Into<Vec<u8>>) -> Self {
        Self { owner_header: None, scope: mount.prefix().to_owned(), secret: secret.into() }
    }

    /// The same, but the header field `name` says whose upload it is, where the embedding
    /// application gives no [`Owner`]. Only behind a proxy that sets or removes it (S-002).
    #[must_use]
    pub fn with_owner_header(mut self, name: HeaderName) -> Self {
        self.set_owner_header(name);
        self
    }

    pub(super) fn set_owner_header(&mut self, name: HeaderName) {
        self.owner_header = Some(name);
    }

    /// The key under which `owner` has the upload of a file (S-001). The size of the file is not in
    /// it, so that a changed one is noticed.
    pub fn key(&self, owner: Option<&[u8]>, identifier: &str, name: &str, path: &str) -> Key {
        let names = [
            owner.unwrap_or_default(),
            self.scope.as_bytes(),
            identifier.as_bytes(),
            name.as_bytes(),
            path.as_bytes(),
        ];
        Key::new(&self.secret, &names)
    }

    /// The key of `file` for the sender of the request with `head`.
    pub(super) fn key_of(&self, head: &Parts, file: &File) -> Key {
        let name = file.name.as_deref().unwrap_or_default();
        let path = file.path.as_deref().unwrap_or_default();
        self.key(self.owner(head), &file.identifier, name, path)
    }

    /// Who sends the request with `head`, if anything says so (S-002).
    pub fn owner<'h>(&self, head: &'h Parts) -> Option<&'h [u8]> {
        owner(head, self.owner_header.as_ref())
    }
}

/// Who sends the request with `head`: the application says so, else the field `header`.
pub(super) fn owner<'h>(head: &'h Parts, header: Option<&HeaderName>) -> Option<&'h [u8]> {
    let owner = head.extensions.get::<Owner>();
    let owner = owner
        .map(|Owner(name)| name.as_bytes())
        .or_else(|| Some(head.headers.get(header?)?.as_bytes()));
    // An empty name is no owner.
    owner.filter(|owner| !owner.is_empty())
}

/// The text of an owner in records: bytes that are not UTF-8 are read as Latin-1, so that different
/// owners stay different.
pub(super) fn owner_text(owner: &[u8]) -> String {
    match str::from_utf8(owner) {
        Ok(text) => text.to_owned(),
        Err(_) => owner.iter().map(|byte| char::from(*byte)).collect(),
    }
}

/// Which file a request is about. Empty parameters are absent ones (J-002).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// What the client takes for its identity.
    pub(crate) identifier: String,
    /// Its media type.
    pub(crate) kind: Option<String>,
    /// Its name.
    pub(crate) name: Option<String>,
    /// Its path below the chosen folder.
    pub(crate) path: Option<String>,
}

impl File {
    /// The file that tus metadata describes with the keys that this dialect fills (J-054). `None`
    /// when a request of this dialect could not name it so.
    pub(crate) fn described_by(metadata: &Metadata) -> Option<Self> {
        let given = |key| {
            let value = metadata.get(key).filter(|value| !value.is_empty());
            value.map(|value| text(value.to_vec())).transpose().ok()
        };
        let identifier = given("resumableIdentifier")??;
        let fits = identifier.len() <= MAX_IDENTIFIER_BYTES;
        let path = given("relativePath")?.map(|path| below(&path)).transpose().ok()?.flatten();
        let (kind, name) = (given("filetype")?, given("filename")?);
        fits.then_some(Self { identifier, kind, name, path })
    }
}

/// `path` without leading separators; `None` if that leaves nothing.
pub(super) fn below(path: &str) -> Result<Option<String>, &'static str> {
    let path = safe_name::below(path)?;
    Ok(Some(path.to_owned()).filter(|path| !path.is_empty()))
}

/// `bytes` as text. Forms turn every line break into CRLF, queries do not: here all are LF.
pub(super) fn text(bytes: Vec<u8>) -> Result<String, &'static str> {
    let text = String::from_utf8(bytes).map_err(|_| "not UTF-8")?;
    Ok(if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n") } else { text })
}

impl fmt::Debug for Naming {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Naming").field("scope", &self.scope).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn naming(mount: &str, secret: &str) -> Naming {
        Naming::new(&mount.parse().expect("a path"), secret)
    }

    #[test]
    fn metadata_of_tus_names_the_same_file_j_054() {
        let head = Request::post("/files").body(()).expect("plain").into_parts().0;
        let naming = naming("/up", "secret");
        let key_of = |metadata: &Metadata| {
            File::described_by(metadata).map(|file| naming.key_of(&head, &file))
        };
        for (entries, expected) in [
            (
                &[
                    ("resumableIdentifier", "3-ab"),
                    ("filename", "a\r\nb"),
                    ("relativePath", "x/ab"),
                    ("filetype", "text/plain"),
                ][..],
                Some(("3-ab", "a\nb", "x/ab")),
            ),
            (&[("resumableIdentifier", "i"), ("relativePath", "/dir/a")], Some(("i", "", "dir/a"))),
            (&[("resumableIdentifier", "i"), ("relativePath", "\\")], Some(("i", "", ""))),
            (&[("resumableIdentifier", "i")], Some(("i", "", ""))),
            (&[("filename", "a")], None),
            (&[("resumableIdentifier", ""), ("filename", "a")], None),
            (&[("resumableIdentifier", "i"), ("relativePath", "../a")], None),
        ] {
            let metadata = Metadata::from_entries(entries.iter().copied()).expect("plain keys");
            let expected = expected.map(|(id, name, path)| naming.key(None, id, name, path));
            assert_eq!(key_of(&metadata), expected, "{entries:?}");
        }
        let long = "x".repeat(4097);
        let entries = [("resumableIdentifier", long.as_str())];
        let metadata = Metadata::from_entries(entries).expect("plain keys");
        assert_eq!(key_of(&metadata), None);
    }

    #[test]
    fn keys_depend_on_owner_route_and_names_s_001_f_36_f_37() {
        let key = |naming: &Naming, owner: Option<&str>, names: [&str; 3]| {
            let [id, name, path] = names;
            naming.key(owner.map(str::as_bytes), id, name, path).to_id()
        };
        let usual_naming = naming("/up", "secret");
        let usual = key(&usual_naming, Some("o"), ["i", "n", "p"]);
        assert_eq!(usual, key(&usual_naming, Some("o"), ["i", "n", "p"]));
        let other_route = naming("/b", "secret");
        let other_secret = naming("/up", "other");
        for other in [
            key(&usual_naming, None, ["i", "n", "p"]),
            key(&usual_naming, Some("p"), ["i", "n", "p"]),
            key(&usual_naming, Some("o"), ["j", "n", "p"]),
            key(&usual_naming, Some("o"), ["i", "m", "p"]),
            key(&usual_naming, Some("o"), ["i", "n", "q"]),
            key(&usual_naming, Some("o"), ["in", "", "p"]),
            key(&other_route, Some("o"), ["i", "n", "p"]),
            key(&other_secret, Some("o"), ["i", "n", "p"]),
        ] {
            assert_ne!(other, usual);
        }
        // Two names of equal length that the clients' usual identifier does not tell apart.
        assert_ne!(
            key(&usual_naming, None, ["12-txt", "你好.txt", "你好.txt"]),
            key(&usual_naming, None, ["12-txt", "再见.txt", "再见.txt"])
        );
    }

    #[test]
    fn owners_come_from_the_application_or_a_header_s_002() {
        let with_header =
            naming("/up", "secret").with_owner_header(HeaderName::from_static("x-user"));
        for (field, given, expected) in [
            (None, None, None),
            (Some("a"), None, Some("a")),
            (Some("a"), Some("b"), Some("b")),
            (Some(""), None, None),
            (Some("a"), Some(""), None),
        ] {
            let request = Request::get("/up");
            let request = field.into_iter().fold(request, |r, value| r.header("x-user", value));
            let (mut head, ()) = request.body(()).expect("plain").into_parts();
            if let Some(owner) = given {
                head.extensions.insert(Owner(owner.to_owned()));
            }
            let expected = expected.map(str::as_bytes);
            assert_eq!(with_header.owner(&head), expected, "{field:?} {given:?}");
            let file = File { identifier: "i".to_owned(), kind: None, name: None, path: None };
            let key = with_header.key(expected, "i", "", "");
            assert_eq!(with_header.key_of(&head, &file), key, "{field:?} {given:?}");
            if given.is_none() {
                let owner = naming("/up", "secret").owner(&head);
                assert_eq!(owner, None, "a header that is not configured");
            }
        }
    }

    #[test]
    fn owners_stay_apart_as_text() {
        for (owner, expected) in
            [(&b"a"[..], "a"), ("\u{e9}".as_bytes(), "\u{e9}"), (b"\xe8", "\u{e8}")]
        {
            assert_eq!(owner_text(owner), expected);
        }
    }
}
