//! [`Mount`]: the path under which a dialect is served, and what its paths name.

use std::{fmt, str::FromStr};

use percent_encoding::percent_decode_str;

use crate::{fields::is_plain_path, upload::UploadId};

/// The path of a collection of uploads; each upload is one segment below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount(String);

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// All uploads.
    Collection,
    /// One upload, which may or may not exist.
    Upload(UploadId),
}

/// The text is not a path under which uploads can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a path is / or like /a/b, of A-Z, a-z, 0-9, - . _ and ~")]
pub struct InvalidMount;

impl Mount {
    /// The path without a slash at its end: empty for `/`.
    pub fn prefix(&self) -> &str {
        &self.0
    }

    /// Whether `path` lies under this one.
    pub fn matches(&self, path: &str) -> bool {
        self.below(path).is_some()
    }

    /// What `path` names, a slash at its end or not (D-54). `None` if that cannot be an upload.
    pub fn resource(&self, path: &str) -> Option<Resource> {
        let below = self.below(path)?;
        let Some(segment) = below.strip_prefix('/').filter(|segment| !segment.is_empty()) else {
            return Some(Resource::Collection);
        };
        let id = segment.strip_suffix('/').unwrap_or(segment);
        id.parse().ok().map(Resource::Upload)
    }

    /// The upload that `url` names: whatever the host, the path must end in that of an upload, or
    /// be nothing but its id. Several URLs with a wrong separator, or with none, must not pass for
    /// one of them (D-34). `outer` is the path that a proxy is known to take off its URLs; empty if
    /// there is none.
    pub fn upload_at(&self, url: &str, outer: &str) -> Option<UploadId> {
        let encoded = local_part(url)?;
        let local = percent_decode_str(encoded).decode_utf8().ok()?;
        let separates = |c: char| c.is_whitespace() || c.is_control() || c == '|';
        if local.contains(separates) || local.contains("://") {
            return None;
        }
        let path = encoded.split(['?', '#']).next().unwrap_or_default();
        let path = percent_decode_str(path).decode_utf8().ok()?;
        let path = path.strip_suffix('/').unwrap_or(&path);
        let Some((parent, id)) = path.rsplit_once('/') else {
            return path.parse().ok();
        };
        let prefix = self.prefix();
        let is_ours = if prefix.is_empty() {
            // Here any segment could be an upload: what a proxy takes off must be known.
            parent.is_empty() || parent == outer
        } else {
            let is_twice = local.matches(&format!("{prefix}/")).nth(1).is_some();
            let is_plain = !parent.contains([',', ';']) && !is_twice;
            let is_relative = prefix.strip_prefix('/') == Some(parent);
            is_plain && (is_relative || (parent.starts_with('/') && parent.ends_with(prefix)))
        };
        if is_ours { id.parse().ok() } else { None }
    }

    /// What follows the prefix in `path`: nothing, or a slash and more.
    fn below<'p>(&self, path: &'p str) -> Option<&'p str> {
        let below = path.strip_prefix(self.prefix())?;
        let is_border = below.starts_with('/') || (below.is_empty() && !self.0.is_empty());
        is_border.then_some(below)
    }
}

/// What follows the authority in an absolute or relative URL. `None` for a URL of no web server.
fn local_part(url: &str) -> Option<&str> {
    let is_web = |scheme: &str| ["http", "https"].iter().any(|s| scheme.eq_ignore_ascii_case(s));
    let rest = match url.split_once("://") {
        Some((scheme, rest)) if is_web(scheme) => rest,
        Some(_) => return None,
        None => match url.strip_prefix("//") {
            Some(rest) => rest,
            None => return Some(url),
        },
    };
    rest.find('/').map(|path| &rest[path..])
}

impl FromStr for Mount {
    type Err = InvalidMount;

    fn from_str(text: &str) -> Result<Self, InvalidMount> {
        if text == "/" {
            return Ok(Self(String::new()));
        }
        let path = text.strip_suffix('/').unwrap_or(text);
        if is_plain_path(path) { Ok(Self(path.to_owned())) } else { Err(InvalidMount) }
    }
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "/" } else { &self.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_plain_paths() {
        for (text, expected) in [
            ("/", Some("/")),
            ("/files", Some("/files")),
            ("/files/", Some("/files")),
            ("/a/b.c", Some("/a/b.c")),
            ("", None),
            ("files", None),
            ("//", None),
            ("/a//b", None),
            ("/a/../b", None),
            ("/a%20b", None),
            ("/a b", None),
            ("/a?b", None),
        ] {
            let mount = text.parse::<Mount>().ok().map(|mount| mount.to_string());
            assert_eq!(mount.as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn paths_name_the_collection_or_an_upload_d_54() {
        for (mount, path, expected) in [
            ("/files", "/files", Some("")),
            ("/files", "/files/", Some("")),
            ("/files", "/files/a", Some("a")),
            ("/files", "/files/a/", Some("a")),
            ("/files", "/files/a//", None),
            ("/files", "/files//", None),
            ("/files", "/files//a", None),
            ("/files", "/files/a/b", None),
            ("/files", "/files/a%62", None),
            ("/files", "/files/..", None),
            ("/files", "/filesa", None),
            ("/files", "/", None),
            ("/files", "*", None),
            ("/", "/", Some("")),
            ("/", "/a", Some("a")),
            ("/", "/a/", Some("a")),
            ("/", "/a/b", None),
            ("/", "*", None),
            ("/", "", None),
        ] {
            let mount: Mount = mount.parse().expect("a path");
            let resource = mount.resource(path).map(|resource| match resource {
                Resource::Collection => String::new(),
                Resource::Upload(id) => id.to_string(),
            });
            assert_eq!(resource.as_deref(), expected, "{path} under {mount}");
            assert!(resource.is_none() || mount.matches(path), "{path} under {mount}");
        }
        assert!("/files".parse::<Mount>().is_ok_and(|mount| mount.matches("/files/a/b")));
    }

    #[test]
    fn urls_are_matched_by_the_end_of_their_path_d_34_f_38() {
        for (base, url, expected) in [
            ("/files", "/files/a", Some("a")),
            ("/files", "/files/a/", Some("a")),
            ("/files", "/files/a?x=/y#z", Some("a")),
            ("/files", "a", Some("a")),
            ("/files", "files/a", Some("a")),
            ("/files", "https://h:1/files/a", Some("a")),
            ("/files", "https://h/proxy/files/a", Some("a")),
            ("/files", "//h/files/a", Some("a")),
            ("/files", "http://u@[::1]:80/files/a", Some("a")),
            ("/files", "/files/%61", Some("a")),
            ("/files", "/files%2Fa", Some("a")),
            ("/files", "/xfiles/a", None),
            ("/files", "/a", None),
            ("/files", "/files/x/a", None),
            ("/files", "/files//a", None),
            ("/files", "/files/", None),
            ("/files", "https://h", None),
            ("/files", "../a", None),
            ("/files", "..%2Fa", None),
            ("/files", "/files/..", None),
            ("/files", "/files/../a", None),
            ("/files", "/files/a%00", None),
            ("/files", "/files/%ff", None),
            ("/files", "/etc/passwd", None),
            ("/files", "HTTPS://files/files/a", Some("a")),
            ("/files", "https://files/proxy/files/a", Some("a")),
            ("/files", "https://p/files/files/a", Some("a")),
            ("/files", "/outer/files/a", Some("a")),
            ("/files", "/files/a,/files/b", None),
            ("/files", "/files/a\t/files/b", None),
            ("/files", "/files/a%20/files/b", None),
            ("/files", "/files/a%09/files/b", None),
            ("/files", "/files/a%0A/files/b", None),
            ("/files", "/files/a+/files/b", None),
            ("/files", "/files/a|/files/b", None),
            ("/files", "/files/a%7C/files/b", None),
            ("/files", "/files/a&/files/b", None),
            ("/files", "/files/a;/files/b", None),
            ("/files", "/files/a/files/b", None),
            ("/files", "/files/a//files/b", None),
            ("/files", "/files/a?/files/b", None),
            ("/files", "/files/a#/files/b", None),
            ("/files", "/files%2Fa/files%2Fb", None),
            ("/files", "http://h/files/ahttp://h/files/b", None),
            ("/files", "http://h/files/a+http://h/files/b", None),
            ("/files", "http://h/files/a|http://h/files/b", None),
            ("/files", "http://h/files/a?http://h/files/b", None),
            ("/files", "http://h/files/a%20http://h/files/b", None),
            ("/files", "http://h/files/a%20http%3A%2F%2Fh/files/b", None),
            ("/files", "http://h/a\thttp://h/files/b", None),
            ("/files", "//h/files/a//h/files/b", None),
            ("/files", "files/afiles/b", None),
            ("/files", "files/a+files/b", None),
            ("/files", "files/a/files/b", None),
            ("/files", "files/a|files/b", None),
            ("/files", "a+b", None),
            ("/files", "a|b", None),
            ("/files", "a%20b", None),
            ("/files", "a\tb", None),
            ("/files", "a/files/b", None),
            ("/files", "ahttps://h/files/b", None),
            ("/files", "a+https://h/files/b", None),
            ("/files", "a|https://h/files/b", None),
            ("/files", "ftp://h/files/a", None),
            ("/up/files", "/up/files/a", Some("a")),
            ("/up/files", "/files/a", None),
            ("/up/files", "up/files/a", Some("a")),
            ("/", "/a", Some("a")),
            ("/", "https://h/a", Some("a")),
            ("/", "a", Some("a")),
            ("/", "https://a", None),
            ("/", "/a,/b", None),
            ("/", "/a/b", None),
            ("/", "/a+/b", None),
            ("/", "/a%20/b", None),
            ("/", "/a|/b", None),
            ("/", "a/b", None),
            ("/", "https://h/a/b", None),
            ("/", "https://h/ahttps://h/b", None),
            ("/", "https://h/outer/a", Some("a")),
            ("/", "/outer/a", Some("a")),
            ("/", "/outer/a/outer/b", None),
        ] {
            let mount: Mount = base.parse().expect("a path");
            let upload = mount.upload_at(url, "/outer");
            assert_eq!(upload.as_ref().map(UploadId::as_str), expected, "{url} under {base}");
        }
    }
}
