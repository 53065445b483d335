//! `Upload-Expires`: until when an unfinished upload lives.
//!
//! # Source
//! tus 1.0 "Upload-Expires"; T-071, T-075.
//!
//! # Grammar
//! IMF-fixdate (RFC 9110 "Date/Time Formats"). Example: `Wed, 25 Jun 2014 16:00:00 GMT`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Invalid, single};

/// The field's name in messages.
pub const FIELD: &str = "Upload-Expires";

/// The field's name.
pub const NAME: HeaderName = HeaderName::from_static("upload-expires");

/// The last second that the format can name: the end of the year 9999, in seconds since 1970.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// When the upload expires, if the answer says so.
///
/// # Errors
/// [`Reason::Malformed`](super::Reason::Malformed).
pub fn decode(headers: &HeaderMap) -> Result<Option<SystemTime>, Invalid> {
    let date = |value: &HeaderValue| httpdate::parse_http_date(value.to_str().ok()?).ok();
    single(headers, &NAME, FIELD)?
        .map(|value| date(value).ok_or_else(|| Invalid::malformed(FIELD, "expected an HTTP date")))
        .transpose()
}

/// The field's value for `expires`, to the second before it.
pub fn encode(expires: SystemTime) -> HeaderValue {
    let since = expires.duration_since(UNIX_EPOCH).unwrap_or_default().min(LAST);
    HeaderValue::try_from(httpdate::fmt_http_date(UNIX_EPOCH + since))
        .expect("a date is printable ASCII")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn expiry_is_an_imf_fixdate_t_075() {
        for (millis, expected) in [
            (1_403_712_000_999, "Wed, 25 Jun 2014 16:00:00 GMT"),
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (1 << 60, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(encode(UNIX_EPOCH + Duration::from_millis(millis)), expected);
        }
        assert_eq!(encode(UNIX_EPOCH - Duration::from_secs(1)), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    proptest! {
        #[test]
        fn expiry_survives_its_text(seconds in 0..LAST.as_secs()) {
            let expires = UNIX_EPOCH + Duration::from_secs(seconds);
            let fields = HeaderMap::from_iter([(NAME, encode(expires))]);
            prop_assert_eq!(decode(&fields), Ok(Some(expires)));
        }
    }
}
