//! Names and paths that clients give their files. They are never a path of this server; these
//! rules are for programs that create one (S-004).

/// The longest name, in bytes: what the usual file systems take.
const MAX_NAME_BYTES: usize = 255;

/// The longest extension that survives the cut of a name, in bytes.
const MAX_EXTENSION_BYTES: usize = 32;

/// What a file is called whose name has nothing left.
const FALLBACK: &str = "file";

/// What separates the components of a path, on one system or another.
const SEPARATORS: [char; 2] = ['/', '\\'];

/// Names that are devices on Windows, whatever their extension.
const DEVICES: [&str; 22] = [
    "aux", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8", "com9", "con", "lpt1",
    "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9", "nul", "prn",
];

/// The name under which a file that a client calls `name` could be saved anywhere.
pub(super) fn safe_name(name: &str) -> String {
    let last = name.rsplit(SEPARATORS).next().unwrap_or_default();
    let plain: String = last.chars().filter(|c| is_plain(*c)).collect();
    let trimmed = plain.trim_matches(['.', ' ']);
    if trimmed.is_empty() {
        return FALLBACK.to_owned();
    }
    let stem = trimmed.split('.').next().unwrap_or_default().trim_end();
    let is_device = DEVICES.iter().any(|device| device.eq_ignore_ascii_case(stem));
    let prefix = if is_device { "_" } else { "" };
    shortened(&format!("{prefix}{trimmed}"))
}

/// `path` without leading separators: libraries send `/dir/a` for a dropped folder, and a file may
/// be called `\lead.txt`.
///
/// # Errors
/// What makes it leave the folder it is given for.
pub(super) fn below(path: &str) -> Result<&str, &'static str> {
    let path = path.trim_start_matches(SEPARATORS);
    let has_drive = matches!(path.as_bytes(), [letter, b':', b'/' | b'\\', ..]
        if letter.is_ascii_alphabetic());
    if has_drive {
        Err("begins with a drive")
    } else if path.split(SEPARATORS).any(|component| component == "..") {
        Err("has the component ..")
    } else {
        Ok(path)
    }
}

/// Neither a control character nor one that turns the reading order.
fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}')
}

/// `name` cut to what file systems take, with its extension.
fn shortened(name: &str) -> String {
    if name.len() <= MAX_NAME_BYTES {
        return name.to_owned();
    }
    let extension = name
        .rfind('.')
        .and_then(|dot| name.get(dot..))
        .filter(|extension| extension.len() <= MAX_EXTENSION_BYTES)
        .unwrap_or_default();
    let room = MAX_NAME_BYTES - extension.len();
    let mut end = room;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let stem = name.get(..end).unwrap_or_default();
    format!("{}{extension}", stem.trim_end_matches(['.', ' ']))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_can_be_saved_anywhere_s_004() {
        let long = format!("{}.tar.gz", "ä".repeat(200));
        let cut = format!("{}.gz", "ä".repeat(126));
        for (name, expected) in [
            ("a.txt", "a.txt"),
            ("你好.txt", "你好.txt"),
            ("../../etc/passwd", "passwd"),
            ("C:\\temp\\a.txt", "a.txt"),
            ("a\0b\r\n.txt", "ab.txt"),
            ("\u{202e}txt.exe", "txt.exe"),
            (" .hidden. ", "hidden"),
            ("con", "_con"),
            ("Nul.tar.gz", "_Nul.tar.gz"),
            ("LPT1 .txt", "_LPT1 .txt"),
            ("console", "console"),
            ("", "file"),
            ("..", "file"),
            ("a/", "file"),
            ("\u{7}", "file"),
            (&long, &cut),
        ] {
            assert_eq!(safe_name(name), expected, "{name:?}");
        }
    }

    #[test]
    fn paths_stay_below_their_folder_s_004() {
        let (climbs, drive) = (Err("has the component .."), Err("begins with a drive"));
        for (path, expected) in [
            ("a/b.txt", Ok("a/b.txt")),
            ("a..b/..c/d..", Ok("a..b/..c/d..")),
            ("A: a title.txt", Ok("A: a title.txt")),
            ("", Ok("")),
            ("./a", Ok("./a")),
            ("/dir/a", Ok("dir/a")),
            ("\\lead.txt", Ok("lead.txt")),
            ("/\\/a\\b", Ok("a\\b")),
            ("//", Ok("")),
            ("..", climbs),
            ("../a", climbs),
            ("a/../b", climbs),
            ("a\\..\\b", climbs),
            ("a/..", climbs),
            ("/../a", climbs),
            ("\\..", climbs),
            ("C:\\a", drive),
            ("c:/a", drive),
            ("/c:/a", drive),
        ] {
            assert_eq!(below(path), expected, "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn safe_names_are_safe_and_stay_as_they_are_s_004(name in any::<String>()) {
            let safe = safe_name(&name);
            prop_assert!((1..=MAX_NAME_BYTES).contains(&safe.len()));
            prop_assert!(!safe.contains(['/', '\\', '\0']) && safe.chars().all(is_plain));
            prop_assert!(!safe.starts_with(['.', ' ']) && !safe.ends_with(['.', ' ']));
            prop_assert_eq!(safe_name(&safe), safe);
        }
    }
}
