//! An outcome becomes an answer: always 200, and the state of the upload as JSON (P-030, P-031).

use std::time::SystemTime;

use http::StatusCode;
use serde::Serialize;

use super::{DrfExchange, refuse};
use crate::{
    rules::{Outcome, Refusal},
    upload::{Phase, Upload},
    wire::{Reply, reply},
};

/// The state of an upload, in the order of the original (P-031).
#[derive(Debug, Serialize)]
struct State<'u> {
    id: &'u str,
    url: String,
    /// Where the file can be downloaded once it is complete.
    file: Option<String>,
    filename: &'u str,
    offset: u64,
    created_at: String,
    /// 1: incomplete; 2: complete.
    status: u8,
    completed_at: Option<String>,
    user: Option<&'u str>,
    /// Until when it lives unless another chunk comes; `null` = it does not expire (P-126).
    expires: Option<String>,
    /// The same, under the name that some front ends read (P-032).
    expires_at: Option<String>,
}

/// Words what the request of `exchange` yielded.
pub(super) fn answer(exchange: &DrfExchange, outcome: Outcome) -> Reply {
    match outcome {
        Outcome::Listed(uploads) => {
            let states: Vec<_> = uploads.iter().map(|upload| state(exchange, upload)).collect();
            reply::json(StatusCode::OK, &states)
        }
        Outcome::Status { upload } => reply::json(StatusCode::OK, &state(exchange, &upload)),
        Outcome::Terminated => reply::empty(StatusCode::NO_CONTENT),
        Outcome::Written { finished, upload, .. } => {
            let mut reply = reply::json(StatusCode::OK, &state(exchange, &upload));
            reply::add_finished(&mut reply, &finished);
            reply
        }
        // No request of this dialect asks for these.
        Outcome::Discovered(_) | Outcome::Fetched { .. } => {
            refuse::refuse(exchange, &Refusal::Internal.into())
        }
    }
}

fn state<'u>(exchange: &DrfExchange, upload: &'u Upload) -> State<'u> {
    let config = &exchange.config;
    let prefix = config.locations.mount.prefix();
    let file = config.tus.as_ref().map(|tus| {
        let (base_url, prefix) = (&exchange.tus_base_url, tus.mount.prefix());
        format!("{base_url}{prefix}/{}", upload.id)
    });
    let completed_at = match upload.phase {
        Phase::Complete { at } => Some(time(at)),
        Phase::Open | Phase::Void { .. } => None,
    };
    let expires = upload.expires.map(time);
    State {
        id: upload.id.as_str(),
        url: format!("{}{prefix}/{}/", exchange.base_url, upload.id),
        file,
        filename: upload.metadata.get_str("filename").unwrap_or_default(),
        offset: upload.offset(),
        created_at: time(upload.created),
        status: if completed_at.is_some() { 2 } else { 1 },
        completed_at,
        user: upload.owner.as_deref(),
        expires: expires.clone(),
        expires_at: expires,
    }
}

/// A time in UTC with six fractional digits (P-034).
fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_micros(at).to_string()
}
