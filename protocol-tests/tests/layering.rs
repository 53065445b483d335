//! The arrows between the modules of the server: data flows one way, a dialect never leaks below
//! `wire/`, clocks and files stay out of the rules. Read from the text of `../src`, without the
//! comments and without the test modules.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One module and what it may know.
struct Layer {
    /// The name of a folder or file directly below `src`.
    name: &'static str,
    /// The modules of ours that it may name.
    may_use: &'static [&'static str],
    /// Paths that it must not name, as they are written.
    never: &'static [&'static str],
    /// Whether the names of dialects are foreign to it.
    below_wire: bool,
}

/// What rules and nouns must not touch: time is an argument, everything else is not theirs.
const IMPURE: &[&str] = &[
    "http::",
    "hyper",
    "tokio",
    "std::fs",
    "std::net",
    "SystemTime::now",
    "Instant::now",
    "StatusCode",
];

const LAYERS: &[Layer] = &[
    Layer { name: "upload", may_use: &["upload"], never: IMPURE, below_wire: true },
    Layer {
        name: "fields",
        may_use: &["fields", "upload"],
        never: &["hyper", "tokio", "std::fs", "std::net", "StatusCode"],
        below_wire: false,
    },
    Layer { name: "rules", may_use: &["rules", "upload"], never: IMPURE, below_wire: true },
    Layer {
        name: "store",
        may_use: &["store", "upload"],
        never: &["http::", "hyper", "StatusCode"],
        below_wire: true,
    },
    Layer {
        name: "engine",
        may_use: &["content", "engine", "rules", "store", "upload"],
        never: &["hyper", "StatusCode", "http::header", "http::Method", "http::Uri"],
        below_wire: true,
    },
    Layer {
        name: "wire",
        may_use: &["content", "fields", "rules", "upload", "wire"],
        never: &["tokio", "std::fs", "std::net"],
        below_wire: false,
    },
    Layer {
        name: "content",
        may_use: &["content", "rules", "upload"],
        never: &["tokio", "hyper"],
        below_wire: true,
    },
    Layer {
        name: "config",
        may_use: &["config", "store", "upload", "wire"],
        never: &["hyper", "tokio", "std::fs"],
        below_wire: false,
    },
    Layer {
        name: "server",
        may_use: &["config", "server", "service", "upload", "wire"],
        never: &["hyper", "std::fs"],
        below_wire: false,
    },
    Layer {
        name: "service",
        may_use: &["content", "engine", "rules", "service", "upload", "wire"],
        never: &["std::fs"],
        below_wire: false,
    },
];

/// Words that name a dialect.
const DIALECTS: &[&str] = &["tus", "resumable", "drf", "ietf"];

#[test]
fn modules_use_only_what_lies_below_them() {
    let mut broken = Vec::new();
    for (layer, file, text) in layered_files() {
        for used in used_modules(&text) {
            if !layer.may_use.contains(&used.as_str()) {
                let allowed = layer.may_use.join(", ");
                broken
                    .push(format!("{file}: uses crate::{used}; {} may use {allowed}", layer.name));
            }
        }
    }
    report(&broken);
}

#[test]
fn modules_keep_away_from_what_is_not_theirs() {
    let mut broken = Vec::new();
    for (layer, file, text) in layered_files() {
        for path in layer.never.iter().filter(|path| names_path(&text, path)) {
            broken.push(format!("{file}: names {path}, which {} must not know", layer.name));
        }
    }
    report(&broken);
}

#[test]
fn dialects_stay_in_wire() {
    let mut broken = Vec::new();
    for (_, file, text) in layered_files().into_iter().filter(|(layer, ..)| layer.below_wire) {
        for word in words(&text).iter().filter(|word| DIALECTS.contains(&word.as_str())) {
            broken.push(format!("{file}: says {word:?}, a dialect's name"));
        }
    }
    report(&broken);
}

#[test]
fn unsafe_is_nowhere() {
    let files = sources(&source_root()).into_iter();
    let texts = files.map(|path| (shown(&path), without_comments(&read(&path))));
    let unsafe_words = |text: &str| identifiers(text).any(|word| word == "unsafe");
    let broken: Vec<_> = texts
        .filter(|(_, text)| unsafe_words(text))
        .map(|(file, _)| format!("{file}: says unsafe"))
        .collect();
    report(&broken);
}

#[test]
fn scanner_ignores_comments_and_test_modules() {
    let text = "use crate::a; // crate::b\n/* crate::c */ let s = \"// crate::d\";\n\
                let c = '\"'; fn f<'a>() {} // crate::e\n\
                #[cfg(test)]\nmod tests { use crate::f; }\n";
    let code = without_tests(&without_comments(text));
    let used: Vec<_> = used_modules(&code).into_iter().collect();
    assert_eq!(used, ["a", "d"]);
    let grouped = used_modules("use crate::{a::{b, c}, d, e::f};");
    assert_eq!(grouped.into_iter().collect::<Vec<_>>(), ["a", "d", "e"]);
    assert!(words("HeadStatus status_tus TusHead").contains("tus"));
    assert!(!words("Status status statuses").contains("tus"));
}

fn report(broken: &[String]) {
    assert!(broken.is_empty(), "the arrows of the design are broken:\n{}", broken.join("\n"));
}

fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../src")
}

/// Every file of a layer with its code: no comments, no tests.
fn layered_files() -> Vec<(&'static Layer, String, String)> {
    let root = source_root();
    let files = sources(&root);
    assert!(!files.is_empty(), "no source files below {}", root.display());
    let test_files: BTreeSet<PathBuf> = files.iter().flat_map(|path| test_modules(path)).collect();
    let mut found = Vec::new();
    for path in files.iter().filter(|path| !test_files.contains(*path)) {
        let inside = path.strip_prefix(&root).expect("sources lie below the root");
        let first = inside.components().next().map(|part| part.as_os_str().to_string_lossy());
        let name = first.unwrap_or_default().trim_end_matches(".rs").to_owned();
        if let Some(layer) = LAYERS.iter().find(|layer| layer.name == name) {
            let text = without_tests(&without_comments(&read(path)));
            found.push((layer, shown(path), text));
        }
    }
    found
}

fn shown(path: &Path) -> String {
    let inside = path.strip_prefix(source_root()).unwrap_or(path);
    format!("src/{}", inside.display())
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The files that `path` declares by `#[cfg(test)] mod name;`.
fn test_modules(path: &Path) -> Vec<PathBuf> {
    let text = without_comments(&read(path));
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let parent = path.parent().unwrap_or(path).to_owned();
    let own = ["mod", "lib", "main"].contains(&stem.as_str());
    let directory = if own { parent } else { parent.join(&stem) };
    let declared = text.split("#[cfg(test)]").skip(1).filter_map(|rest| {
        let rest = rest.trim_start().strip_prefix("mod ")?;
        let end = rest.find([';', '{'])?;
        rest[end..].starts_with(';').then(|| rest[..end].trim().to_owned())
    });
    declared
        .flat_map(|name| {
            [directory.join(format!("{name}.rs")), directory.join(name).join("mod.rs")]
        })
        .collect()
}

/// The text up to the test module at its end.
fn without_tests(text: &str) -> String {
    let mut from = 0;
    while let Some(at) = text[from..].find("#[cfg(test)]") {
        let start = from + at;
        let rest = text[start + "#[cfg(test)]".len()..].trim_start();
        if rest.starts_with("mod ") && rest.find('{') < rest.find(';').or(Some(usize::MAX)) {
            return text[..start].to_owned();
        }
        from = start + 1;
    }
    text.to_owned()
}

/// The text without comments; string literals stay.
fn without_comments(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = match rest {
            ['/', '/', ..] => {
                at += rest.iter().position(|c| *c == '\n').unwrap_or(rest.len());
                continue;
            }
            ['/', '*', ..] => {
                at += block_comment(rest);
                continue;
            }
            ['"', ..] => string_literal(rest),
            ['r', '"' | '#', ..] => raw_literal(rest),
            ['\'', '\\', _, '\'', ..] => 4,
            ['\'', _, '\'', ..] => 3,
            _ => 1,
        };
        code.extend(&rest[..end.min(rest.len())]);
        at += end;
    }
    code
}

fn block_comment(rest: &[char]) -> usize {
    let end = rest.windows(2).skip(2).position(|pair| pair == ['*', '/']);
    end.map_or(rest.len(), |end| end + 4)
}

fn string_literal(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != '"' {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// The length of `r#"…"#` with any number of marks, or 1 if this is no raw string.
fn raw_literal(rest: &[char]) -> usize {
    let marks = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + marks) != Some(&'"') {
        return 1;
    }
    let mut close = vec!['"'];
    close.extend(std::iter::repeat_n('#', marks));
    let body = 2 + marks;
    let end = rest[body..].windows(close.len()).position(|window| window == close);
    end.map_or(rest.len(), |end| body + end + close.len())
}

/// The modules directly below the crate that a text names by `crate::`.
fn used_modules(text: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = text[at + "crate::".len()..].trim_start();
        match rest.strip_prefix('{') {
            Some(group) => used.extend(group_heads(group)),
            None => used.extend(identifiers(rest).next().map(str::to_owned)),
        }
    }
    used
}

/// The first word of each element of `a::{b, c}, d, e::f}`.
fn group_heads(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let (mut depth, mut element) = (1, String::new());
    for c in group.chars() {
        depth += match c {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        if depth == 0 || (depth == 1 && c == ',') {
            heads.extend(identifiers(&element).next().map(str::to_owned));
            element.clear();
        } else {
            element.push(c);
        }
        if depth == 0 {
            break;
        }
    }
    heads
}

/// Whether a text names a path, at the beginning of a word.
fn names_path(text: &str, path: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(path).any(|(at, _)| !text[..at].ends_with(is_word))
}

fn identifiers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// The words that identifiers are made of, in lower case: `TusHead` is `tus` and `head`.
fn words(text: &str) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for part in identifiers(text).flat_map(|name| name.split('_')) {
        let mut word = String::new();
        for c in part.chars() {
            if c.is_uppercase() && !word.ends_with(char::is_uppercase) {
                words.insert(std::mem::take(&mut word).to_lowercase());
            }
            word.push(c);
        }
        words.insert(word.to_lowercase());
    }
    words
}
