//! A record as one JSON object on one line, for programs. What is absent is left out, but for the key: `null` says that
//! there is none. Keys and header values that are no text stand as `…_base64`.

use std::io::Write as _;

use tillroll_client::Received;

use crate::cmd::{
    read::shown::{Shown, base64, put_json, put_string},
    time,
};

/// Writes the object, without a line break.
pub(super) fn write(out: &mut Vec<u8>, received: &Received) {
    let record = &received.record;
    out.extend_from_slice(b"{\"topic\":");
    put_string(out, &received.topic);
    put_number(out, "partition", received.partition.into());
    put_number(out, "offset", received.offset);
    put(out, "append_time", &time::show(received.append_time_us));
    match &record.key {
        None => out.extend_from_slice(b",\"key\":null"),
        Some(key) => put_bytes(out, "key", key),
    }
    for (name, text) in [("id", &record.id), ("type", &record.type_), ("source", &record.source)] {
        if !text.is_empty() {
            put(out, name, text);
        }
    }
    if let Some(time_us) = record.event_time_us {
        put(out, "event_time", &time::show(time_us));
    }
    for (name, text) in [
        ("content_type", &record.content_type),
        ("correlation_id", &record.correlation_id),
        ("causation_id", &record.causation_id),
        ("traceparent", &record.traceparent),
    ] {
        if !text.is_empty() {
            put(out, name, text);
        }
    }
    if record.tombstone {
        out.extend_from_slice(b",\"tombstone\":true");
    }
    put_headers(out, &record.headers);
    match Shown::of(&record.value, &record.content_type) {
        Shown::Json(json) => {
            out.extend_from_slice(b",\"value\":");
            put_json(out, json.trim());
        }
        Shown::Text(text) => put(out, "value", text),
        Shown::Bytes(bytes) => put(out, "value_base64", &base64(bytes)),
    }
    out.push(b'}');
}

/// A list of names and values: their order and repeats mean something.
fn put_headers(out: &mut Vec<u8>, headers: &[(String, bytes::Bytes)]) {
    if headers.is_empty() {
        return;
    }
    out.extend_from_slice(b",\"headers\":[");
    for (index, (name, value)) in headers.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"{\"name\":" } else { b",{\"name\":" });
        put_string(out, name);
        put_bytes(out, "value", value);
        out.push(b'}');
    }
    out.push(b']');
}

fn put_bytes(out: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => put(out, name, text),
        Err(_) => put(out, &format!("{name}_base64"), &base64(bytes)),
    }
}

fn put(out: &mut Vec<u8>, name: &str, text: &str) {
    put_name(out, name);
    put_string(out, text);
}

fn put_number(out: &mut Vec<u8>, name: &str, number: u64) {
    put_name(out, name);
    write!(out, "{number}").expect("memory takes what is written");
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}
