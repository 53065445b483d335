//! Location behind proxies.

use crate::case::{Case, Setup};
use crate::failure::{Failure, Rows, Verdict, ensure, ensure_eq};
use crate::site::Site;

pub(super) const CASES: &[Case] = &[
    Case::ours(
        "forwarded_fields_are_ignored_unless_trusted",
        &["D-40", "D-41", "F-43"],
        "without the option no client can influence Location",
        ignored,
    ),
    Case::ours(
        "forwarded_fields_that_are_trusted_make_the_location",
        &["D-41", "F-44", "D-40"],
        "Forwarded before X-Forwarded-*, first element, quotes, default ports, prefix",
        trusted,
    )
    .under(&[Setup::TrustForwarded]),
    Case::ours(
        "forwarded_fields_that_are_bad_are_ignored",
        &["D-41", "F-44", "T-045"],
        "a bad scheme, host or prefix is no error and reaches no Location",
        bad,
    )
    .under(&[Setup::TrustForwarded]),
    Case::ours(
        "forwarded_nothing_leaves_the_location_to_the_client",
        &["D-40", "F-43"],
        "a proxy that forwards nothing is right with a path",
        nothing,
    )
    .under(&[Setup::TrustForwarded]),
    Case::ours(
        "public_url_makes_the_location_absolute",
        &["D-40"],
        "the configured URL wins over Host and every forwarded field, and works in concatenations",
        public_url,
    )
    .under(&[Setup::PublicUrl]),
];

type Fields = &'static [(&'static str, &'static str)];

fn location(site: &Site, fields: Fields) -> Result<String, Failure> {
    let create = site.post().with("Upload-Length", 3).body(b"");
    let create = fields.iter().fold(create, |r, (name, value)| r.with(name, value));
    let answer = site.ask(&create)?.is(201)?.carries("Location")?;
    let upload = site.created(&answer)?;
    let location = answer.field("Location").unwrap_or_default();
    Ok(location.replace(upload.id(), "ID"))
}

fn ignored(site: &Site) -> Verdict {
    let fields: [Fields; 4] = [
        &[
            ("Host", "evil.example"),
            ("X-Forwarded-Host", "evil.example"),
            ("X-Forwarded-Proto", "https"),
        ],
        &[("Forwarded", "host=evil.example;proto=https")],
        &[("X-Forwarded-Prefix", "/evil")],
        &[("X-Forwarded-Port", "1"), ("X-Forwarded-Path", "/evil"), ("X-Original-URL", "/evil")],
    ];
    let mut rows = Rows::new();
    for fields in fields {
        rows.row(format!("{fields:?}"), || {
            ensure_eq("Location", location(site, fields)?, site.below("ID"))
        });
    }
    rows.verdict()
}

fn trusted(site: &Site) -> Verdict {
    let table: &[(Fields, &str)] = &[
        (
            &[("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "up.example")],
            "https://up.example",
        ),
        (
            &[("X-Forwarded-Proto", "https,http"), ("X-Forwarded-Host", "up.example")],
            "https://up.example",
        ),
        (
            &[("X-Forwarded-Proto", "HTTPS"), ("X-Forwarded-Host", "up.example")],
            "https://up.example",
        ),
        (
            &[("X-Forwarded-Proto", "http"), ("X-Forwarded-Host", "a.example, b.example")],
            "http://a.example",
        ),
        (
            &[("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "up.example:8443")],
            "https://up.example:8443",
        ),
        (
            &[("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "up.example:443")],
            "https://up.example",
        ),
        (
            &[("X-Forwarded-Proto", "http"), ("X-Forwarded-Host", "up.example:80")],
            "http://up.example",
        ),
        (
            &[("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "up.example:80")],
            "https://up.example:80",
        ),
        (
            &[("Host", "up.example"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Port", "8443")],
            "https://up.example:8443",
        ),
        (
            &[
                ("X-Forwarded-Proto", "https"),
                ("X-Forwarded-Host", "up.example"),
                ("X-Forwarded-Port", "443"),
            ],
            "https://up.example",
        ),
        (
            &[
                ("X-Forwarded-Proto", "https"),
                ("X-Forwarded-Host", "up.example:8443"),
                ("X-Forwarded-Port", "80"),
            ],
            "https://up.example:8443",
        ),
        (
            &[
                ("X-Forwarded-Proto", "https"),
                ("X-Forwarded-Host", "up.example"),
                ("X-Forwarded-Port", "port"),
            ],
            "https://up.example",
        ),
        (&[("Forwarded", "proto=https;host=up.example")], "https://up.example"),
        (
            &[("Forwarded", "for=1.2.3.4;Proto=https;Host=\"up.example:8443\"")],
            "https://up.example:8443",
        ),
        (
            &[("Forwarded", "host=first.example;proto=https, host=second.example;proto=http")],
            "https://first.example",
        ),
        (
            &[
                ("Forwarded", "host=right.example;proto=https"),
                ("X-Forwarded-Host", "wrong.example"),
                ("X-Forwarded-Proto", "http"),
            ],
            "https://right.example",
        ),
        (
            &[
                ("X-Forwarded-Proto", "https"),
                ("X-Forwarded-Host", "up.example"),
                ("X-Forwarded-Prefix", "/api"),
            ],
            "https://up.example/api",
        ),
        (
            &[
                ("X-Forwarded-Proto", "https"),
                ("X-Forwarded-Host", "up.example"),
                ("X-Forwarded-Prefix", "/api/v1/"),
            ],
            "https://up.example/api/v1",
        ),
    ];
    let mut rows = Rows::new();
    for (fields, expected) in table {
        rows.row(format!("{fields:?}"), || {
            let expected = format!("{expected}{}", site.below("ID"));
            ensure_eq("Location", location(site, fields)?, expected)
        });
    }
    rows.row("a proto alone yields https", || {
        let found =
            location(site, &[("Host", "here.example"), ("X-Forwarded-Proto", "https,http")])?;
        let path = site.below("ID");
        ensure(found == path || found == format!("https://here.example{path}"), found)
    });
    rows.verdict()
}

fn bad(site: &Site) -> Verdict {
    let fields: [Fields; 14] = [
        &[("X-Forwarded-Proto", "javascript"), ("X-Forwarded-Host", "evil.example/")],
        &[("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "evil.example/path")],
        &[("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "user@evil.example")],
        &[("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "evil example")],
        &[("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "<evil>")],
        &[("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "evil.example?x")],
        &[("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "evil.example#x")],
        &[("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "evil.example:port")],
        &[("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "")],
        &[("Forwarded", "host=\"evil.example/\\\"\";proto=https")],
        &[("Forwarded", ";;;=,,\"")],
        &[("X-Forwarded-Prefix", "//evil.example")],
        &[("X-Forwarded-Prefix", "evil")],
        &[("X-Forwarded-Prefix", "/evil\\path?x")],
    ];
    let mut rows = Rows::new();
    for fields in fields {
        rows.row(format!("{fields:?}"), || {
            let found = location(site, fields)?;
            ensure(!found.contains("evil") && !found.contains("javascript"), found)
        });
    }
    rows.verdict()
}

fn nothing(site: &Site) -> Verdict {
    ensure_eq("Location", location(site, &[])?, site.below("ID"))?;
    ensure_eq("Location", location(site, &[("Host", "evil.example")])?, site.below("ID"))
}

fn public_url(site: &Site) -> Verdict {
    let expected = format!("https://uploads.example{}", site.below("ID"));
    let fields: [Fields; 3] = [
        &[],
        &[("Host", "evil.example")],
        &[("X-Forwarded-Proto", "http"), ("X-Forwarded-Host", "evil.example")],
    ];
    for fields in fields {
        ensure_eq("Location", location(site, fields)?, expected.clone())?;
    }
    let part = site.post().octets().with("Upload-Length", 3).with("Upload-Concat", "partial");
    let answer = site.ask(&part.body(b"abc"))?.is(201)?;
    let url = answer.field("Location").unwrap_or_default();
    let concat = format!("final;{url} {url}");
    site.create_by(&site.post().with("Upload-Concat", concat).body(b""))?.reads_back(b"abcabc")
}
