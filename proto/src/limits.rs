//! What each field of a request may hold, and the walk that holds a request
//! against it before anything of it is decoded.
//!
//! An encoded message of 8 MiB may become gigabytes when it is decoded: an
//! empty entry of a list takes two bytes on the wire and hundreds in memory. So
//! a server walks the bytes by tag and length first, counts entries and
//! measures texts, and decodes only what is within [`ROWS`]. Every list, text
//! and byte string of every request has a row (a test holds them complete), and
//! `docs/errors.md` has the same rows.

use std::{collections::HashMap, fmt, marker::PhantomData, sync::LazyLock};

use prost::{Message as _, Name};
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use tonic::{
    Code, Status,
    codec::{Codec, DecodeBuf, Decoder},
};
use tonic_prost::ProstEncoder;
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    FILE_DESCRIPTOR_SET,
    reason::{self, key},
};

mod table;
mod walk;

pub use table::{ROWS, Row};

const PACKAGE: &str = ".tillroll.v1.";

/// Why a request is not decoded. Nothing of it was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A field has more than it may.
    TooLarge {
        /// The path of the field in the request.
        field: String,
        /// Why: one of [`reason`].
        reason: &'static str,
        /// What is counted: `bytes` or `entries`.
        unit: &'static str,
        /// The most that is allowed.
        limit: u64,
        /// As sent; of a list, one more than the limit.
        actual: u64,
    },
    /// The bytes are not protobuf.
    Malformed,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { field, unit, limit, actual, .. } => {
                write!(formatter, "{field} has {actual} {unit} or more, the limit is {limit}; send less at a time")
            }
            Self::Malformed => formatter.write_str("not a protobuf message"),
        }
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let message = fault.to_string();
        let Fault::TooLarge { field, reason, limit, actual, .. } = fault else { return Self::internal(message) };
        let facts = [(key::FIELD, field.clone()), (key::LIMIT, limit.to_string()), (key::ACTUAL, actual.to_string())];
        let facts: HashMap<String, String> = facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, reason::DOMAIN, facts);
        details.add_bad_request_violation(field, message.clone());
        Self::with_error_details(Code::InvalidArgument, message, details)
    }
}

/// Holds an encoded request against [`ROWS`]. **Cost**: one step a field, none into what is opaque (record sets); no
/// allocation unless it is refused.
///
/// # Errors
///
/// [`Fault`]: the first field that has too much.
pub fn measure<T: Name>(bytes: &[u8]) -> Result<(), Fault> {
    measure_message(T::NAME, bytes)
}

/// As [`measure`], of a message by its name. One that is not of this package is not measured.
///
/// # Errors
///
/// [`Fault`].
pub fn measure_message(name: &str, bytes: &[u8]) -> Result<(), Fault> {
    let Some(message) = SHAPES.by_name.get(name) else { return Ok(()) };
    walk::message(&SHAPES, &SHAPES.messages[*message], bytes)
}

/// The messages that requests are made of, with the limits of their fields.
struct Shapes {
    messages: Vec<Shape>,
    by_name: HashMap<&'static str, usize>,
}

/// One message.
#[derive(Default)]
struct Shape {
    /// By their numbers, from 1; none: not of a kind that is measured.
    fields: Vec<Option<Field>>,
}

/// A field that is measured.
struct Field {
    name: &'static str,
    row: Option<&'static Row>,
    kind: Kind,
    is_list: bool,
}

/// How a field's entries look on the wire.
#[derive(Clone, Copy)]
enum Kind {
    /// Text, bytes, or a message that is not looked into.
    Opaque,
    /// A message, by its place.
    Message(usize),
    /// A number: when it is a list, perhaps packed. The size of an entry in bytes; 0: a varint.
    Number(usize),
}

static SHAPES: LazyLock<Shapes> = LazyLock::new(|| {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("the build encoded it");
    Shapes::of(&set)
});

impl Shapes {
    fn of(set: &FileDescriptorSet) -> Self {
        let files = set.file.iter().filter(|file| file.package() == "tillroll.v1");
        let all: Vec<&DescriptorProto> = files.flat_map(|file| &file.message_type).collect();
        let by_name: HashMap<&'static str, usize> =
            all.iter().enumerate().map(|(place, message)| (leaked(message.name()), place)).collect();
        let shape = |message: &&DescriptorProto| {
            let mut shape = Shape::default();
            for field in &message.field {
                let number = usize::try_from(field.number()).expect("numbers are positive");
                shape.fields.resize_with(shape.fields.len().max(number + 1), || None);
                shape.fields[number] = measured(message.name(), field, &by_name);
            }
            shape
        };
        let messages = all.iter().map(shape).collect();
        Self { messages, by_name }
    }
}

/// The descriptors are decoded once and their names kept for the life of the process.
fn leaked(name: &str) -> &'static str {
    Box::leak(name.to_owned().into_boxed_str())
}

fn measured(message: &str, field: &FieldDescriptorProto, by_name: &HashMap<&'static str, usize>) -> Option<Field> {
    let row = ROWS.iter().find(|row| row.message == message && row.field == field.name());
    let is_list = field.label() == Label::Repeated;
    let inner = || by_name.get(field.type_name().strip_prefix(PACKAGE)?).copied();
    let kind = match field.r#type() {
        Type::Message if row.is_none_or(|row| row.bytes.is_none()) => inner().map_or(Kind::Opaque, Kind::Message),
        Type::Message | Type::String | Type::Bytes => Kind::Opaque,
        Type::Fixed64 | Type::Sfixed64 | Type::Double => Kind::Number(8),
        Type::Fixed32 | Type::Sfixed32 | Type::Float => Kind::Number(4),
        _ => Kind::Number(0),
    };
    let matters = row.is_some() || is_list || matches!(kind, Kind::Message(_));
    matters.then(|| Field { name: leaked(field.name()), row, kind, is_list })
}

/// Fields of requests that have no row and need one: `Message.field`. For a test.
#[doc(hidden)]
pub fn without_row() -> Vec<String> {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("the build encoded it");
    let files = || set.file.iter().filter(|file| file.package() == "tillroll.v1");
    let calls = files().flat_map(|file| &file.service).flat_map(|service| &service.method);
    let mut left: Vec<String> = calls.map(|call| call.input_type().to_owned()).collect();
    let (mut seen, mut missing) = (Vec::new(), Vec::new());
    while let Some(name) = left.pop() {
        if seen.contains(&name) {
            continue;
        }
        seen.push(name.clone());
        let Some(short) = name.strip_prefix(PACKAGE) else { continue };
        let found = files().flat_map(|file| &file.message_type).find(|message| message.name() == short);
        for field in found.into_iter().flat_map(|message| &message.field) {
            let row = ROWS.iter().find(|row| row.message == short && row.field == field.name());
            let is_text = matches!(field.r#type(), Type::String | Type::Bytes);
            let is_list = field.label() == Label::Repeated;
            let has_bytes = row.is_some_and(|row| row.bytes.is_some());
            if (is_list && row.is_none_or(|row| row.entries.is_none())) || (is_text && !has_bytes) {
                missing.push(format!("{short}.{}", field.name()));
            }
            if field.r#type() == Type::Message && !has_bytes {
                left.push(field.type_name().to_owned());
            }
        }
    }
    missing.sort();
    missing
}

/// The codec of a server: measures a request, then decodes it.
#[derive(Clone, Debug)]
pub struct MeasuredCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for MeasuredCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for MeasuredCodec<T, U>
where
    T: prost::Message + Send + 'static,
    U: prost::Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = MeasuredDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        MeasuredDecoder(PhantomData)
    }
}

/// See [`MeasuredCodec`].
#[derive(Clone, Debug)]
pub struct MeasuredDecoder<U>(PhantomData<U>);

impl<U: prost::Message + Name + Default> Decoder for MeasuredDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let whole = bytes::Buf::copy_to_bytes(buffer, bytes::Buf::remaining(buffer));
        measure::<U>(&whole)?;
        U::decode(whole).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
