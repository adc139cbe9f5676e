//! What a value is, as far as its bytes tell: JSON is written as JSON, text as text, other bytes as base64.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::cmd::terminal;

/// Bytes as they can be shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown<'a> {
    /// A JSON value.
    Json(&'a str),
    /// UTF-8.
    Text(&'a str),
    /// Neither.
    Bytes(&'a [u8]),
}

impl<'a> Shown<'a> {
    /// An object or an array is JSON. A bare `42`, `true` or `"x"` may as well be a text, and is JSON only when its
    /// media type says so.
    pub(super) fn of(value: &'a [u8], content_type: &str) -> Self {
        let Ok(text) = std::str::from_utf8(value) else { return Self::Bytes(value) };
        let composed = matches!(value.trim_ascii_start().first(), Some(b'{' | b'['));
        if (composed || is_json(content_type)) && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
            return Self::Json(text);
        }
        Self::Text(text)
    }
}

fn is_json(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default().trim();
    media.eq_ignore_ascii_case("application/json") || media.to_ascii_lowercase().ends_with("+json")
}

/// JSON on one line, of the same meaning and as a terminal can bear it. Within JSON, line breaks and tabs stand only
/// between words, where they mean nothing.
pub(super) fn put_json(out: &mut Vec<u8>, json: &str) {
    let safe = terminal::json(json);
    out.extend(safe.bytes().filter(|byte| !matches!(byte, b'\n' | b'\r' | b'\t')));
}

/// A text as a JSON string.
pub(super) fn put_string(out: &mut Vec<u8>, text: &str) {
    if terminal::line(text) == text {
        serde_json::to_writer(&mut *out, text).expect("a text can be written to memory");
    } else {
        let string = serde_json::to_string(text).expect("a text can be written to memory");
        out.extend_from_slice(terminal::json(&string).as_bytes());
    }
}

/// Bytes for a person: a text as one line that a terminal only shows, else base64 and marked as such.
pub(super) fn put_text(out: &mut Vec<u8>, bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        out.extend_from_slice(terminal::line(text).as_bytes());
    } else {
        out.extend_from_slice(b"base64:");
        out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
    }
}

/// Bytes for a program.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_must_be_json_is_json() {
        for (value, content_type, json) in [
            (r#"{"a":1}"#, "", true),
            (" [1, 2]\n", "", true),
            ("{oops", "", false),
            ("42", "", false),
            ("42", "application/json; charset=utf-8", true),
            (r#""x""#, "application/cloudevents+json", true),
        ] {
            let shown = Shown::of(value.as_bytes(), content_type);
            assert_eq!(matches!(shown, Shown::Json(_)), json, "{value} {content_type}");
        }
        assert_eq!(Shown::of(&[0xff], ""), Shown::Bytes(&[0xff]));
    }

    #[test]
    fn bytes_that_are_no_text_are_marked() {
        let text = |bytes: &[u8]| {
            let mut out = Vec::new();
            put_text(&mut out, bytes);
            String::from_utf8(out).expect("text")
        };
        assert_eq!(text("größe".as_bytes()), "größe");
        assert_eq!(text(&[0xff, 0]), "base64:/wA=");
        assert_eq!(text(b"\x1b[2J\na"), r"\x1b[2J\na");
    }

    #[test]
    fn json_stays_on_its_line() {
        let mut out = Vec::new();
        put_json(&mut out, "{\n\t\"a\": \"x\\n\x7f\u{9b}\"\r\n}");
        assert_eq!(String::from_utf8(out).as_deref(), Ok(r#"{"a": "x\n\u007f\u009b"}"#));
    }
}
