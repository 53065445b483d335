//! OPTIONS: what a server says of itself (core protocol, "OPTIONS").

use crate::case::{BOTH, Case, MAX_SIZE_BYTES, Setup};
use crate::failure::{Rows, Verdict, ensure, ensure_eq};
use crate::message::Request;
use crate::site::Site;

pub(super) const CASES: &[Case] = &[
    Case::must(
        "options_on_collection_and_upload_answer_204_with_capabilities",
        &["T-001", "T-027", "T-028", "T-003", "D-04", "0.4"],
        "OPTIONS on the collection and on any upload answers 204 with version and capabilities",
        everywhere,
    )
    .under(BOTH),
    Case::must(
        "options_with_any_version_answer_alike",
        &["T-029", "D-05"],
        "Tus-Resumable on OPTIONS is ignored",
        any_version,
    ),
    Case::must(
        "options_extension_list_has_no_spaces_and_no_repetition",
        &["T-007", "T-060"],
        "Tus-Extension is a comma list; creation-with-upload never without creation",
        extension_syntax,
    )
    .needing(&[]),
    Case::ours(
        "options_extension_list_names_what_is_configured",
        &[
            "T-007", "T-030", "T-040", "T-051", "T-060", "T-070", "T-080", "T-088", "T-090",
            "T-100", "T-105",
        ],
        "expiration and concatenation-unfinished are announced only if configured, the rest always",
        extension_list,
    )
    .under(&[Setup::Plain, Setup::Expiry, Setup::PendingFinals]),
    Case::must(
        "options_checksum_algorithms_are_the_four",
        &["T-080", "T-085", "T-086", "T-028"],
        "Tus-Checksum-Algorithm: sha1,sha256,sha512,md5",
        algorithms,
    )
    .needing(&["checksum"]),
    Case::should(
        "options_max_size_shows_the_limit",
        &["T-008", "T-028"],
        "Tus-Max-Size is there if a limit is configured",
        limited,
    )
    .under(&[Setup::MaxSize]),
    Case::should(
        "options_max_size_is_absent_without_a_limit",
        &["T-008", "T-030"],
        "Tus-Max-Size is absent if no limit is configured",
        unlimited,
    ),
    Case::must(
        "core_methods_are_implemented",
        &["T-001"],
        "HEAD, PATCH and OPTIONS work on an upload",
        core_methods,
    )
    .under(BOTH),
    Case::ours(
        "method_not_allowed_answers_405_with_allow",
        &["D-55", "D-01", "0.2"],
        "another method answers 405 and names those allowed, before any other check",
        not_allowed,
    )
    .under(BOTH),
];

fn everywhere(site: &Site) -> Verdict {
    let upload = site.create(3)?;
    let (collection, unknown) = (site.collection(), site.below("unknown"));
    let targets = [collection.to_owned(), format!("{collection}/"), upload.path.clone(), unknown];
    let mut rows = Rows::new();
    for target in &targets {
        rows.row(target, || {
            let answer = site.ask(&Request::plain("OPTIONS", target))?.is(204)?;
            answer.has("Tus-Version", "1.0.0")?.carries("Tus-Extension")?;
            Ok(())
        });
    }
    rows.verdict()?;
    upload.stands_at(0)
}

fn any_version(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for version in ["1.0.0", "0.2.2", "2.0.0", "foo", ""] {
        rows.row(format!("{version:?}"), || {
            let request = Request::plain("OPTIONS", site.collection());
            let answer = site.ask(&request.with("Tus-Resumable", version))?.is_success()?;
            answer.has("Tus-Version", "1.0.0")?;
            Ok(())
        });
    }
    rows.verdict()
}

fn extension_syntax(site: &Site) -> Verdict {
    let options = site.options()?;
    let value = options.field("Tus-Extension").unwrap_or("creation");
    ensure(!value.is_empty() && !value.contains(' '), format!("Tus-Extension: {value:?}"))?;
    let mut names: Vec<_> = value.split(',').collect();
    let with_upload = names.contains(&"creation-with-upload");
    ensure(!with_upload || names.contains(&"creation"), "creation-with-upload without creation")?;
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    ensure_eq("the number of distinct extensions", names.len(), count)
}

fn extension_list(site: &Site) -> Verdict {
    let mut expected = vec![
        "checksum",
        "checksum-trailer",
        "concatenation",
        "creation",
        "creation-defer-length",
        "creation-with-upload",
        "termination",
    ];
    if site.setup == Setup::Expiry {
        expected.push("expiration");
    }
    if site.setup == Setup::PendingFinals {
        expected.push("concatenation-unfinished");
    }
    expected.sort_unstable();
    let mut found = site.options()?.list("Tus-Extension");
    found.sort();
    ensure_eq("Tus-Extension", found.join(","), expected.join(","))
}

fn algorithms(site: &Site) -> Verdict {
    let options = site.options()?;
    let value = options.field("Tus-Checksum-Algorithm").unwrap_or_default();
    ensure_eq("Tus-Checksum-Algorithm", value, "sha1,sha256,sha512,md5")
}

fn limited(site: &Site) -> Verdict {
    let max = site.options()?.carries("Tus-Max-Size")?.number("Tus-Max-Size");
    if site.binary.is_some() {
        return ensure_eq("Tus-Max-Size", max, Some(MAX_SIZE_BYTES));
    }
    ensure(max.is_some(), "Tus-Max-Size is no number")
}

fn unlimited(site: &Site) -> Verdict {
    site.options()?.lacks("Tus-Max-Size")?;
    Ok(())
}

fn core_methods(site: &Site) -> Verdict {
    let upload = site.create(3)?;
    upload.head()?.is_success()?;
    upload.patch(0, b"abc")?.is_success()?;
    site.ask(&upload.request("OPTIONS"))?.is_success()?;
    upload.reads_back(b"abc")
}

fn not_allowed(site: &Site) -> Verdict {
    let upload = site.create(3)?;
    let collection = site.collection();
    let on_collection: Vec<&str> = vec!["OPTIONS", "POST"];
    let on_upload: Vec<&str> = vec!["DELETE", "GET", "HEAD", "OPTIONS", "PATCH"];
    let table: &[(&[&str], &str, &[&str])] = &[
        (&["GET", "HEAD", "PATCH", "DELETE", "PUT", "LOCK", "FOO"], collection, &on_collection),
        (&["POST", "PUT", "LOCK", "TRACE", "FOO", "patch"], &upload.path, &on_upload),
    ];
    let mut rows = Rows::new();
    for (methods, target, expected) in table {
        for method in *methods {
            rows.row(format!("{method} {target}"), || {
                // Without a version: 405 comes before 412.
                let answer = site.ask(&Request::plain(method, target))?.is(405)?;
                let mut allowed = answer.list("Allow");
                allowed.sort();
                ensure_eq("Allow", allowed.join(","), expected.join(","))
            });
        }
    }
    rows.verdict()?;
    upload.stands_at(0)
}
