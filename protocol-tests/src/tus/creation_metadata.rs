//! Upload-Metadata: what is taken, what is refused, and its echo on HEAD.

use crate::case::{BOTH, Case};
use crate::content::{base64, metadata};
use crate::failure::{Rows, Verdict, ensure_eq};
use crate::message::{Request, Response};
use crate::site::Site;

pub(super) const CASES: &[Case] = &[
    Case::must(
        "metadata_is_echoed_byte_for_byte",
        &["T-042", "T-044", "T-054", "D-29", "D-27", "F-28", "F-29", "F-31", "F-55"],
        "HEAD shows Upload-Metadata exactly as sent: order, padding, blanks, empty values",
        echoed,
    ),
    Case::must(
        "metadata_is_echoed_after_every_step",
        &["T-054", "T-053"],
        "from creation to completion the echo stays; without metadata there is none",
        stays,
    )
    .under(BOTH),
    Case::ours(
        "metadata_that_is_empty_means_none",
        &["D-26", "F-55"],
        "an empty Upload-Metadata, as tuspy always sends it, is as good as none",
        empty,
    )
    .under(BOTH),
    Case::must(
        "metadata_that_breaks_the_grammar_is_refused",
        &["T-042", "T-043", "D-27", "D-28", "I-04", "F-55"],
        "400 for doubled keys, bad base64, too many blanks, non-ASCII and control bytes",
        refused,
    ),
    Case::ours(
        "metadata_above_16_kib_is_refused",
        &["D-28", "I-04"],
        "exactly 16 KiB works, a byte more answers 431",
        too_large,
    )
    .under(BOTH),
    Case::ours(
        "metadata_keys_without_values_mean_empty_values",
        &["T-044", "F-28"],
        "a key alone, a key with a blank and a trimmed blank at the end do not disturb others",
        values,
    ),
];

/// Values that are taken and echoed; the HTTP parser trims blanks at either end before that.
const TAKEN: &[&str] = &[
    "a YQ==",
    "a YQ==,b Yg==",
    "b Yg==,a YQ==",
    "a YQ",
    "a",
    "a,b Yg==",
    "a ,b Yg==",
    "b Yg==,a",
    "is_confidential,filename d29ybGRfZG9taW5hdGlvbl9wbGFuLnBkZg==",
    "a YQ==, b Yg==",
    "a YQ== ,b Yg==",
    "a YQ== , b Yg==",
    "a YQ==,,b Yg==",
    ",a YQ==",
    "a YQ==,",
    "A YQ==,a YQ==",
    "x-!#$%&'*+.^`|~(){}[]<>@:;/?=\" YQ==",
    "filename 44OV44Kh44Kk44OrLnR4dA==",
    "filename 8J+YgC5wbmc=",
    "binary AP/+gA==",
    "filename+x YS9i",
];

fn create(value: &str) -> impl Fn(&Site) -> Request {
    move |site| site.post().with("Upload-Length", 0).with("Upload-Metadata", value).body(b"")
}

fn echoed(site: &Site) -> Verdict {
    let mut rows = Rows::new();
    for value in TAKEN {
        rows.row(format!("{value:?}"), || {
            let upload = site.create_by(&create(value)(site))?;
            upload.head()?.is(200)?.has("Upload-Metadata", value).map(drop)
        });
    }
    rows.verdict()
}

fn stays(site: &Site) -> Verdict {
    let value = metadata(&[("filename", "a.bin"), ("empty", ""), ("emoji", "\u{1F600}")]);
    let create = site.post().with("Upload-Length", 6).with("Upload-Metadata", &value).body(b"");
    let upload = site.create_by(&create)?;
    upload.head()?.is(200)?.has("Upload-Metadata", &value)?;
    upload.patch(0, b"abc")?.is(204)?;
    upload.head()?.is(200)?.has("Upload-Metadata", &value)?;
    upload.patch(3, b"def")?.is(204)?;
    upload.head()?.is(200)?.has("Upload-Metadata", &value)?;
    upload.reads_back(b"abcdef")?;
    site.create(3)?.head()?.is(200)?.lacks("Upload-Metadata")?;
    Ok(())
}

fn empty(site: &Site) -> Verdict {
    let upload = site.create_by(&create("")(site))?;
    upload.head()?.is(200)?.lacks("Upload-Metadata")?;
    Ok(())
}

fn refused(site: &Site) -> Verdict {
    let table: &[(&str, &[u8])] = &[
        ("doubled key", b"a YQ==,a Yg=="),
        ("doubled key without values", b"a,a"),
        ("doubled key, far apart", b"a YQ==,b Yg==,c Yw==,a"),
        ("no base64", b"a !!!"),
        ("three letters short", b"a Y"),
        ("padding in the middle", b"a YQ==YQ=="),
        ("too much padding", b"a YQ==="),
        ("URL-safe alphabet", b"a _-8="),
        ("two blanks", b"a  YQ=="),
        ("two values", b"a YQ== Yg=="),
        ("key with a blank", b"my key YQ=="),
        ("tab for a blank", b"a\tYQ=="),
        ("tab in a value", b"a Y\tQ=="),
        ("non-ASCII key", "\u{e9} YQ==".as_bytes()),
        ("non-ASCII value", "a \u{e9}".as_bytes()),
        ("bytes above 127", b"a\xff YQ=="),
        ("good then bad", b"a YQ==,b !"),
    ];
    let mut rows = Rows::new();
    for (name, value) in table {
        rows.row(name, || {
            let request = site.post().with("Upload-Length", 3).with_raw("Upload-Metadata", value);
            site.ask(&request.body(b""))?.is(400)?.lacks("Location").map(drop)
        });
    }
    rows.row("control byte", || {
        // Such a byte is no HTTP at all: the layer below tus may answer without our fields.
        let request = site.post().with("Upload-Length", 3).with("Upload-Metadata", "a YQ\u{1}==");
        let mut link = site.connect()?;
        link.send_head(&request.body(b""))?;
        let answer: Response = link.raw.read_answer(&site.post())?;
        ensure_eq("the status", answer.status, 400)
    });
    rows.verdict()
}

fn too_large(site: &Site) -> Verdict {
    const LIMIT: usize = 16 * 1024;
    // A key of two letters, a blank, and as many letters as make whole base64 groups.
    let sized = |length: usize| {
        format!("k{} {}", "k".repeat((length - 2) % 4), "A".repeat((length - 2) / 4 * 4))
    };
    for (length, status) in [(LIMIT, 201), (LIMIT + 1, 431), (2 * LIMIT, 431), (40_000, 431)] {
        let value = sized(length);
        ensure_eq("the length of the metadata", value.len(), length)?;
        let answer = site.ask(&create(&value)(site))?.is(status)?;
        if status == 201 {
            let upload = site.created(&answer)?;
            upload.head()?.is(200)?.has("Upload-Metadata", &value)?;
        } else {
            answer.lacks("Location")?;
        }
    }
    Ok(())
}

fn values(site: &Site) -> Verdict {
    let name = base64("report.txt");
    let table = [
        format!("filename {name}"),
        format!("a,filename {name}"),
        format!("a ,filename {name}"),
        format!("filename {name},a"),
        format!("filename {name},a "),
        format!(",filename {name},,"),
    ];
    let mut rows = Rows::new();
    for value in table {
        rows.row(format!("{value:?}"), || {
            let upload = site.create_by(&create(&value)(site))?;
            let answer = upload.get()?.is(200)?;
            let disposition = answer.field("Content-Disposition").unwrap_or_default();
            let named = disposition.contains("filename=\"report.txt\"")
                || disposition.contains("filename=report.txt");
            crate::failure::ensure(named, format!("Content-Disposition: {disposition}"))
        });
    }
    rows.verdict()
}
