//! The arrows between the modules of the server: data flows one way, a dialect never leaks below
//! `wire/`, clocks and files stay out of the rules. Read from the code of `../src`, without the
//! comments and without the test modules, however a path is written.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, Spacing, TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::{Attribute, Item};

/// One module and what it may know.
struct Layer {
    /// The name of a folder or file directly below `src`.
    name: &'static str,
    /// The modules of ours that it may name.
    may_use: &'static [&'static str],
    /// Paths that it must not name, or the beginnings of such.
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
    for (layer, module) in layered_modules() {
        for used in used_modules(&module.names) {
            if !layer.may_use.contains(&used) {
                let (file, allowed) = (&module.file, layer.may_use.join(", "));
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
    for (layer, module) in layered_modules() {
        let is_named = |path: &&&str| module.names.iter().any(|name| names_path(name, path));
        for path in layer.never.iter().filter(is_named) {
            let file = &module.file;
            broken.push(format!("{file}: names {path}, which {} must not know", layer.name));
        }
    }
    report(&broken);
}

#[test]
fn dialects_stay_in_wire() {
    let mut broken = Vec::new();
    for (_, module) in layered_modules().into_iter().filter(|(layer, _)| layer.below_wire) {
        let words: BTreeSet<_> = module.names.iter().flat_map(|name| words(name)).collect();
        for word in words.iter().filter(|word| DIALECTS.contains(&word.as_str())) {
            broken.push(format!("{}: says {word:?}, a dialect's name", module.file));
        }
    }
    report(&broken);
}

#[test]
fn unsafe_is_nowhere() {
    let is_unsafe = |path: &PathBuf| names_in(tokens(path), &[]).contains("unsafe");
    let broken: Vec<_> = sources(&source_root())
        .iter()
        .filter(|path| is_unsafe(path))
        .map(|path| format!("{}: says unsafe", shown(path)))
        .collect();
    report(&broken);
}

#[test]
fn paths_are_seen_however_they_are_written() {
    for (code, expected) in [
        ("use crate::{a::{b, c}, d as e, f::*};", &["crate::a::b", "crate::a::c", "crate::d"][..]),
        ("use {std::{fs, io::{self, Read}}, crate::a};", &["std::fs", "std::io::self", "crate::a"]),
        ("use super::super::a::b; use super::c;", &["crate::a::b", "crate::x::c"]),
        ("pub(in crate::a) fn f() -> self::g::G { ::std::fs::read() }", &["crate::x::y::g::G"]),
        (
            "fn f() { ::std::fs::read(<T as crate::a::B>::C::<crate::d::E>::new) }",
            &["std::fs::read", "crate::a::B", "crate::d::E"],
        ),
        ("fn f() { log!(\"{}\", crate::a::B); let x = [\"say\"]; }", &["crate::a::B", "\"say\""]),
        ("macro_rules! m { () => { $crate::a::b() } }", &["crate::a::b"]),
    ] {
        let tokens: TokenStream = code.parse().expect("tokens");
        let names = names_in(tokens, &["x".to_owned(), "y".to_owned()]);
        for path in expected {
            assert!(names.contains(*path), "{code}: {names:?}");
        }
    }
    let commented = "/// crate::a\nfn f() {} // crate::b\n/* crate::c */ //! crate::d";
    let names = names_in(commented.parse().expect("tokens"), &[]);
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["f", "fn"]);
    assert!(words("HeadStatus status_tus TusHead").contains("tus"));
    assert!(!words("Status status statuses").contains("tus"));
}

fn report(broken: &[String]) {
    assert!(broken.is_empty(), "the arrows of the design are broken:\n{}", broken.join("\n"));
}

/// A module and what it says, without its tests and without the modules in it.
struct Module {
    file: String,
    /// The names that lead to it from the root of the crate.
    path: Vec<String>,
    /// See [`names_in`].
    names: BTreeSet<String>,
}

/// The modules of the layers.
fn layered_modules() -> Vec<(&'static Layer, Module)> {
    let mut modules = Vec::new();
    collect(&source_root().join("lib.rs"), &[], &mut modules);
    let layer = |module: &Module| {
        LAYERS.iter().find(|layer| module.path.first().is_some_and(|name| name == layer.name))
    };
    let layered: Vec<_> =
        modules.into_iter().filter_map(|module| Some((layer(&module)?, module))).collect();
    for layer in LAYERS {
        let is_there = layered.iter().any(|(of, _)| of.name == layer.name);
        assert!(is_there, "there is no module {}", layer.name);
    }
    layered
}

/// Adds the module `path`, which is in `file`, and those in it.
fn collect(file: &Path, path: &[String], modules: &mut Vec<Module>) {
    let parsed = syn::parse_file(&read(file));
    let parsed = parsed.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    collect_items(file, path, &parsed.items, modules);
}

fn collect_items(file: &Path, path: &[String], items: &[Item], modules: &mut Vec<Module>) {
    let mut names = BTreeSet::new();
    for item in items {
        let Item::Mod(module) = item else {
            names.extend(names_in(item.to_token_stream(), path));
            continue;
        };
        if module.attrs.iter().any(is_test) {
            continue;
        }
        let path = [path, &[module.ident.to_string()]].concat();
        if let Some((_, items)) = &module.content {
            collect_items(file, &path, items, modules);
        } else {
            let place = path.iter().fold(source_root(), |place, name| place.join(name));
            let inner = place.join("mod.rs");
            let file = if inner.is_file() { inner } else { place.with_extension("rs") };
            collect(&file, &path, modules);
        }
    }
    modules.push(Module { file: shown(file), path: path.to_owned(), names });
}

fn is_test(attribute: &Attribute) -> bool {
    attribute.meta.to_token_stream().to_string().replace(' ', "") == "cfg(test)"
}

fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../src")
}

fn shown(path: &Path) -> String {
    let inside = path.strip_prefix(source_root()).unwrap_or(path);
    format!("src/{}", inside.display())
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn tokens(path: &Path) -> TokenStream {
    read(path).parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
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

/// The paths and the literals in the code of `module`. Each path of a group is one of its own, and
/// those that begin with `self` or `super` begin with `crate` instead.
fn names_in(tokens: TokenStream, module: &[String]) -> BTreeSet<String> {
    let mut names = Names { module, found: BTreeSet::new() };
    names.read(tokens, &[]);
    names.found
}

struct Names<'a> {
    module: &'a [String],
    found: BTreeSet<String>,
}

impl Names<'_> {
    /// Reads what is in a group after `start::`, or in any other if `start` is empty.
    fn read(&mut self, tokens: TokenStream, start: &[String]) {
        let mut path = start.to_vec();
        // Whether the next name is of the same path, and whether half of a `::` has been read.
        let (mut is_open, mut is_half) = (true, false);
        for token in tokens {
            if let TokenTree::Punct(colon) = &token
                && colon.as_char() == ':'
                && (is_half || colon.spacing() == Spacing::Joint)
            {
                is_open |= is_half;
                is_half = !is_half;
                continue;
            }
            is_half = false;
            let continues = std::mem::take(&mut is_open);
            match token {
                TokenTree::Ident(name) if continues => path.push(name.to_string()),
                TokenTree::Ident(name) => {
                    self.add(&mut path);
                    path.push(name.to_string());
                }
                TokenTree::Group(group) if continues && group.delimiter() == Delimiter::Brace => {
                    self.read(group.stream(), &std::mem::take(&mut path));
                }
                TokenTree::Group(group) => {
                    self.add(&mut path);
                    if !is_doc(&group) {
                        self.read(group.stream(), &[]);
                    }
                }
                TokenTree::Punct(star) if continues && star.as_char() == '*' => {
                    path.push("*".to_owned());
                }
                TokenTree::Punct(other) => {
                    self.add(&mut path);
                    if other.as_char() == ',' {
                        path = start.to_vec();
                        is_open = true;
                    }
                }
                TokenTree::Literal(text) => {
                    self.add(&mut path);
                    self.found.insert(text.to_string());
                }
            }
        }
        self.add(&mut path);
    }

    /// Adds `path` and makes it empty.
    fn add(&mut self, path: &mut Vec<String>) {
        let mut path = std::mem::take(path);
        let supers = path.iter().take_while(|name| *name == "super").count();
        if supers > 0 || (path.len() > 1 && path[0] == "self") {
            let above = &self.module[..self.module.len().saturating_sub(supers)];
            path = [&["crate".to_owned()], above, &path[supers.max(1)..]].concat();
        }
        if !path.is_empty() {
            self.found.insert(path.join("::"));
        }
    }
}

/// Whether this is of an attribute that a comment stands for.
fn is_doc(group: &Group) -> bool {
    group.delimiter() == Delimiter::Bracket && group.to_string().starts_with("[doc =")
}

/// The modules directly below the crate that `names` are of.
fn used_modules(names: &BTreeSet<String>) -> BTreeSet<&str> {
    let inside = names.iter().filter_map(|name| name.strip_prefix("crate::"));
    inside.filter_map(|name| name.split("::").next()).collect()
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
