//! [`Mount`]: the path under which a dialect is served, and what its paths name.

use std::{fmt, str::FromStr};

use crate::upload::UploadId;

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
    pub fn claims(&self, path: &str) -> bool {
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

    /// What follows the prefix in `path`: nothing, or a slash and more.
    fn below<'p>(&self, path: &'p str) -> Option<&'p str> {
        let below = path.strip_prefix(self.prefix())?;
        let is_border = below.starts_with('/') || (below.is_empty() && !self.0.is_empty());
        is_border.then_some(below)
    }
}

/// Whether `path` is made of segments `/name` that mean the same in every URL.
pub(crate) fn is_plain_path(path: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    let is_segment =
        |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(is_plain);
    path.strip_prefix('/').is_some_and(|path| path.split('/').all(is_segment))
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
            assert!(resource.is_none() || mount.claims(path), "{path} under {mount}");
        }
        assert!("/files".parse::<Mount>().is_ok_and(|mount| mount.claims("/files/a/b")));
    }
}
