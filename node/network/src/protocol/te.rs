//! What a client says about trailers.

use http::HeaderMap;
use http::header::TE;

/// Whether `trailers` is among the values of `TE`: the one thing of it that a proxy may say to the next hop (RFC 9110, section
/// 10.1.4).
pub(crate) fn takes_trailers(headers: &HeaderMap) -> bool {
    let values = headers.get_all(TE).iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).any(|v| v.trim().eq_ignore_ascii_case("trailers"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn trailers_are_taken_wherever_they_stand_among_the_values() {
        for (values, want) in [
            (&[][..], false),
            (&["trailers"], true),
            (&["Trailers"], true),
            (&["deflate, trailers"], true),
            (&["trailers,deflate;q=0.5"], true),
            (&["gzip", " trailers\t"], true),
            (&["gzip"], false),
            (&[""], false),
            (&["trailers;q=1"], false),
            (&["trailersx, xtrailers"], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(TE, HeaderValue::from_static(value));
            }
            assert_eq!(takes_trailers(&headers), want, "{values:?}");
        }
    }
}
