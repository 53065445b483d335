//! HEAD (core protocol, "HEAD").

use crate::case::{BOTH, Case};
use crate::failure::{Rows, Verdict, ensure, ensure_eq};
use crate::message::Request;
use crate::site::Site;

pub(super) const CASES: &[Case] = &[
    Case::must(
        "head_of_an_upload_shows_offset_and_length",
        &["T-001", "T-012", "T-013", "T-015", "T-016", "I-01", "I-06"],
        "200 with Upload-Offset at 0, midway and at the end, Upload-Length and no-store",
        shows,
    )
    .under(BOTH),
    Case::should(
        "head_of_an_unknown_upload_answers_404",
        &["T-014", "F-56", "D-15", "D-60"],
        "404 without offset, length or body, and no-store",
        unknown,
    )
    .under(BOTH),
    Case::must(
        "head_answers_have_no_body",
        &["T-014", "0.4", "F-48"],
        "the answer after HEAD on the same connection is readable, whatever HEAD's status",
        bodiless,
    ),
    Case::must(
        "head_of_a_deferred_upload_shows_the_deferral",
        &["T-050", "T-012"],
        "Upload-Defer-Length: 1 and no Upload-Length while the length is unknown",
        deferred,
    )
    .needing(&["creation", "creation-defer-length"])
    .under(BOTH),
    Case::must(
        "head_changes_nothing",
        &["T-012", "I-03"],
        "a hundred HEADs, also with stray fields, leave the upload as it was",
        harmless,
    ),
];

fn shows(site: &Site) -> Verdict {
    let upload = site.create(6)?;
    for (offset, bytes) in [(0, &b""[..]), (0, b"abc"), (3, b"def")] {
        if !bytes.is_empty() {
            upload.patch(offset, bytes)?.is(204)?;
        }
        let head = upload.head()?.is(200)?.has("Upload-Length", 6)?;
        let head = head.has("Upload-Offset", offset + bytes.len() as u64)?;
        head.has("Cache-Control", "no-store")?.lacks("Upload-Defer-Length")?.has_body(b"")?;
    }
    upload.reads_back(b"abcdef")
}

fn unknown(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for id in
        ["unknown", "0", "d41d8cd98f00b204e9800998ecf8427e", "24e533e02ec3bc40c387f1a0e460e216"]
    {
        rows.row(id, || {
            let head = site.upload(&site.below(id)).head()?.is(404)?.has_body(b"")?;
            head.lacks("Upload-Offset")?
                .lacks("Upload-Length")?
                .has("Cache-Control", "no-store")?;
            Ok(())
        });
    }
    rows.verdict()
}

fn bodiless(site: &Site) -> Verdict {
    let upload = site.create(6)?;
    let unknown = Request::tus("HEAD", &site.below("unknown"));
    let heads = [
        (upload.request("HEAD"), 200),
        (unknown, 404),
        (upload.request("HEAD").set("Tus-Resumable", "9"), 412),
        (Request::tus("HEAD", site.collection()), 405),
    ];
    let mut rows = Rows::new();
    for (head, status) in heads {
        rows.row(status, || {
            let mut link = site.connect()?;
            link.ask(&head)?.is(status)?;
            let options = Request::plain("OPTIONS", site.collection());
            link.ask(&options)?.is_success()?.has("Tus-Version", "1.0.0")?;
            Ok(())
        });
    }
    rows.verdict()
}

fn deferred(site: &Site) -> Verdict {
    let upload = site.create_deferred()?;
    let head = upload.head()?.is(200)?.has("Upload-Defer-Length", "1")?;
    head.has("Upload-Offset", 0)?.lacks("Upload-Length")?;
    upload.patch(0, b"abc")?.is(204)?;
    let head = upload.head()?.is(200)?.has("Upload-Defer-Length", "1")?;
    head.has("Upload-Offset", 3)?.lacks("Upload-Length")?;
    let last = upload.patch_at(3).with("Upload-Length", 6).body(b"def");
    site.ask(&last)?.is(204)?;
    upload.head()?.is(200)?.has("Upload-Length", 6)?.lacks("Upload-Defer-Length")?;
    upload.reads_back(b"abcdef")
}

fn harmless(site: &Site) -> Verdict {
    let upload = site.create(6)?;
    upload.patch(0, b"abc")?.is(204)?;
    let before = upload.state()?;
    let mut link = site.connect()?;
    for _ in 0..100 {
        let stray =
            upload.request("HEAD").with("Upload-Offset", "6").with("Upload-Concat", "partial");
        link.ask(&stray.with("Upload-Length", "99"))?.is(200)?;
    }
    ensure_eq("the upload", upload.state()?, before)?;
    ensure(upload.patch(3, b"def")?.status == 204, "PATCH at the offset shown works")?;
    upload.reads_back(b"abcdef")
}
