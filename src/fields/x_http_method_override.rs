//! `X-HTTP-Method-Override`: the method meant, for clients that cannot send it.
//!
//! # Source
//! tus 1.0 "X-HTTP-Method-Override"; T-011, D-06.
//!
//! # Grammar
//! A method in any case, once. Example: `PATCH`.

use http::{HeaderMap, HeaderName, Method};

/// The field's name.
pub const NAME: HeaderName = HeaderName::from_static("x-http-method-override");

/// The method meant: upper-cased and otherwise as given, so that an unknown one stays unknown.
/// `None` when the field is absent.
pub fn decode(headers: &HeaderMap) -> Option<Method> {
    let mut values = headers.get_all(&NAME).iter();
    let method = Method::from_bytes(&values.next()?.as_bytes().to_ascii_uppercase()).ok();
    // Two methods are as good as an unknown one.
    Some(method.filter(|_| values.next().is_none()).unwrap_or(Method::TRACE))
}

#[cfg(test)]
mod tests {
    use super::{super::tests::headers, *};

    #[test]
    fn override_is_one_method_in_any_case_d_06() {
        for (lines, expected) in [
            (&[][..], None),
            (&["PATCH"], Some(Method::PATCH)),
            (&["delete"], Some(Method::DELETE)),
            (&["Head"], Some(Method::HEAD)),
            (&["a b"], Some(Method::TRACE)),
            (&[""], Some(Method::TRACE)),
            (&["PATCH", "PATCH"], Some(Method::TRACE)),
        ] {
            let lines: Vec<_> =
                lines.iter().map(|line| ("X-HTTP-Method-Override", *line)).collect();
            assert_eq!(decode(&headers(&lines)), expected, "{lines:?}");
        }
    }
}
