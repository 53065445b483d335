//! Known faults of dependencies: a snapshot of what the RustSec advisory database says of the
//! packages in the lock files, so that they can be looked at without the network.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use semver::{Version, VersionReq};
use serde_json::{Value, json};

use crate::failure::{Failure, ensure};

/// The lock files, from the root of the repository.
const LOCKS: [&str; 2] = ["Cargo.lock", "protocol-tests/fuzz/libfuzzer/Cargo.lock"];

/// How to make the snapshot anew.
pub const RENEWAL: &str = "git clone --depth 1 https://github.com/rustsec/advisory-db PATH && \
                           cargo run -p protocol-tests --bin advisories -- PATH";

/// A package in a lock file.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Locked {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Version,
}

/// An advisory.
#[derive(Debug)]
pub struct Advisory {
    /// `RUSTSEC-…`.
    pub id: String,
    /// `vulnerability`, or what is only said for information: `unmaintained`, `unsound`, `notice`.
    pub kind: String,
    /// The package that it is about.
    pub package: String,
    /// Versions in which the fault is mended.
    pub patched: Vec<VersionReq>,
    /// Versions that never had it.
    pub unaffected: Vec<VersionReq>,
}

/// The advisories about a set of packages, as of one commit of the database. Withdrawn ones are
/// left out.
#[derive(Debug)]
pub struct Snapshot {
    /// The advisories.
    pub advisories: Vec<Advisory>,
    /// The commit of the database.
    pub commit: String,
    /// The day of that commit, for people.
    pub date: String,
    /// The packages that were looked for: of others nothing is known.
    pub packages: BTreeSet<String>,
    /// The time of that commit.
    pub time: SystemTime,
}

impl Advisory {
    /// Whether the fault is in `package`: in every version that no requirement says it is not in.
    pub fn is_about(&self, package: &Locked) -> bool {
        let mut sound = self.patched.iter().chain(&self.unaffected);
        self.package == package.name && !sound.any(|sound| sound.matches(&package.version))
    }

    /// The advisory that a file of the database holds; `None` when it is withdrawn.
    pub fn parse(file: &str) -> Result<Option<Self>, Failure> {
        let head = file.split_once("```toml\n").and_then(|(_, rest)| rest.split_once("\n```"));
        let (head, _) = head.ok_or_else(|| Failure::new("an advisory without a head"))?;
        let one = |key| texts(head, key).into_iter().next();
        let needed = |key| one(key).ok_or_else(|| Failure::new(format!("no {key} in {head}")));
        if one("withdrawn").is_some() {
            return Ok(None);
        }
        Ok(Some(Self {
            id: needed("id")?,
            kind: one("informational").unwrap_or_else(|| "vulnerability".to_owned()),
            package: needed("package")?,
            patched: requirements(&texts(head, "patched"))?,
            unaffected: requirements(&texts(head, "unaffected"))?,
        }))
    }

    fn to_json(&self) -> Value {
        let texts =
            |list: &[VersionReq]| list.iter().map(VersionReq::to_string).collect::<Vec<_>>();
        json!({
            "id": self.id,
            "kind": self.kind,
            "package": self.package,
            "patched": texts(&self.patched),
            "unaffected": texts(&self.unaffected),
        })
    }

    fn of_json(value: &Value) -> Result<Self, Failure> {
        Ok(Self {
            id: text_of(&value["id"])?,
            kind: text_of(&value["kind"])?,
            package: text_of(&value["package"])?,
            patched: requirements(&texts_of(&value["patched"])?)?,
            unaffected: requirements(&texts_of(&value["unaffected"])?)?,
        })
    }
}

impl Snapshot {
    /// The snapshot in the repository.
    pub fn read() -> Result<Self, Failure> {
        let value: Value =
            serde_json::from_str(&fs::read_to_string(path())?).map_err(Failure::new)?;
        let advisories = value["advisories"].as_array().into_iter().flatten();
        let seconds = value["time"].as_u64();
        let seconds = seconds.ok_or_else(|| Failure::new("no time in the snapshot"))?;
        Ok(Self {
            advisories: advisories.map(Advisory::of_json).collect::<Result<_, _>>()?,
            commit: text_of(&value["commit"])?,
            date: text_of(&value["date"])?,
            packages: texts_of(&value["packages"])?.into_iter().collect(),
            time: UNIX_EPOCH + Duration::from_secs(seconds),
        })
    }

    /// What a clone of the database, bare or not, says of the packages in the lock files.
    pub fn of_clone(clone: &Path) -> Result<Self, Failure> {
        let packages: BTreeSet<String> = locked()?.into_iter().map(|locked| locked.name).collect();
        let mut advisories = Vec::new();
        for path in git(clone, &["ls-tree", "-r", "--name-only", "HEAD", "crates/"])?.lines() {
            let package = path.split('/').nth(1).unwrap_or_default();
            if packages.contains(package) && path.ends_with(".md") {
                let file = git(clone, &["show", &format!("HEAD:{path}")])?;
                advisories.extend(Advisory::parse(&file).map_err(|f| f.within(path))?);
            }
        }
        let said = git(clone, &["log", "-1", "--format=%H %cs %ct"])?;
        let [commit, date, time] = said.split_whitespace().collect::<Vec<_>>()[..] else {
            return Err(Failure::new(format!("git log says {said:?}")));
        };
        Ok(Self {
            advisories,
            commit: commit.to_owned(),
            date: date.to_owned(),
            packages,
            time: UNIX_EPOCH + Duration::from_secs(time.parse().map_err(Failure::new)?),
        })
    }

    /// Puts it into the repository, an advisory a line.
    pub fn write(&self) -> Result<(), Failure> {
        let time = self.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let advisories = self.advisories.iter();
        let advisories: Vec<_> = advisories.map(|one| one.to_json().to_string()).collect();
        let text = format!(
            "{{\n\"made_by\": {},\n\"commit\": {},\n\"date\": {},\n\"time\": {},\n\"packages\": {},\n\
             \"advisories\": [\n{}\n]\n}}\n",
            json!(RENEWAL),
            json!(self.commit),
            json!(self.date),
            time.as_secs(),
            json!(self.packages),
            advisories.join(",\n"),
        );
        Ok(fs::write(path(), text)?)
    }

    /// The advisories about this package in this version.
    pub fn about<'a>(&'a self, package: &'a Locked) -> impl Iterator<Item = &'a Advisory> + 'a {
        let advisories = self.advisories.iter();
        advisories.filter(|advisory| advisory.is_about(package))
    }
}

/// The packages of both lock files that are not ours.
pub fn locked() -> Result<BTreeSet<Locked>, Failure> {
    let mut packages = BTreeSet::new();
    for lock in LOCKS {
        let text = fs::read_to_string(root().join(lock))?;
        packages.extend(packages_of(&text).map_err(|f| f.within(lock))?);
    }
    ensure(packages.len() > 100, "the lock files list next to nothing")?;
    Ok(packages)
}

/// The packages of a lock file that come from somewhere.
pub fn packages_of(lock: &str) -> Result<Vec<Locked>, Failure> {
    let mut packages = Vec::new();
    for package in lock.split("[[package]]\n").skip(1) {
        let one = |key| texts(package, key).into_iter().next();
        if let (Some(name), Some(version), Some(_)) = (one("name"), one("version"), one("source")) {
            let version = version.parse().map_err(Failure::new)?;
            packages.push(Locked { name, version });
        }
    }
    Ok(packages)
}

/// The texts that a line `key = "…"`, or a list that begins with such a line, holds in TOML.
pub fn texts(toml: &str, key: &str) -> Vec<String> {
    let mut rest = toml.split_inclusive('\n');
    let values = rest.by_ref().find_map(|line| {
        let value = line.strip_prefix(key)?.trim_start().strip_prefix('=')?;
        Some(value.trim_start())
    });
    let Some(first) = values else {
        return Vec::new();
    };
    let mut value = first.to_owned();
    while value.starts_with('[') && !value.contains(']') {
        let Some(line) = rest.next() else { break };
        value.push_str(line);
    }
    let texts = value.split('"').skip(1).step_by(2);
    texts.map(str::to_owned).collect()
}

fn requirements(texts: &[String]) -> Result<Vec<VersionReq>, Failure> {
    let parsed = texts.iter().map(|text| text.parse().map_err(Failure::new));
    parsed.collect()
}

fn text_of(value: &Value) -> Result<String, Failure> {
    let text = value.as_str().map(str::to_owned);
    text.ok_or_else(|| Failure::new(format!("{value} where a text is due")))
}

fn texts_of(value: &Value) -> Result<Vec<String>, Failure> {
    let list = value.as_array();
    let list = list.ok_or_else(|| Failure::new(format!("{value} where a list is due")))?;
    list.iter().map(text_of).collect()
}

fn git(clone: &Path, arguments: &[&str]) -> Result<String, Failure> {
    let mut command = Command::new("git");
    let output = command.arg("-C").arg(clone).args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure(output.status.success(), format!("git {arguments:?}: {said}"))?;
    String::from_utf8(output.stdout).map_err(Failure::new)
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn path() -> PathBuf {
    root().join("protocol-tests/advisories.json")
}
