//! Goal: every list, text and byte string of every request is measured before it is decoded, and refused just above its
//! limit. Method: for each row of the table a request is encoded by hand that reaches the field, with as much as it may
//! have and with one more.

use std::collections::{HashMap, VecDeque};

use prost::{Message as _, encoding::encode_varint};
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use tillroll_proto::{
    FILE_DESCRIPTOR_SET,
    limits::{self, Fault, ROWS, Row, measure_message},
};

const PACKAGE: &str = ".tillroll.v1.";

struct Contract {
    messages: HashMap<String, DescriptorProto>,
    requests: Vec<String>,
}

fn contract() -> Contract {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("the build encoded it");
    let files: Vec<_> = set.file.iter().filter(|file| file.package() == "tillroll.v1").collect();
    let messages = files.iter().flat_map(|file| &file.message_type);
    let messages = messages.map(|message| (message.name().to_owned(), message.clone())).collect();
    let calls = files.iter().flat_map(|file| &file.service).flat_map(|service| &service.method);
    let requests = calls.filter_map(|call| call.input_type().strip_prefix(PACKAGE)).map(str::to_owned).collect();
    Contract { messages, requests }
}

impl Contract {
    /// A request, and the numbers of the fields that lead from it to a message.
    fn way_to(&self, message: &str) -> (String, Vec<u32>) {
        for request in &self.requests {
            let mut left = VecDeque::from([(request.clone(), Vec::new())]);
            while let Some((name, way)) = left.pop_front() {
                if name == message {
                    return (request.clone(), way);
                }
                // Nothing of the contract lies deeper.
                for field in self.messages[&name].field.iter().filter(|_| way.len() < 5) {
                    if let Some(inner) = inner(field) {
                        let further = way.iter().copied().chain([field.number().unsigned_abs()]).collect();
                        left.push_back((inner, further));
                    }
                }
            }
        }
        panic!("no request has a {message}");
    }

    fn field(&self, row: &Row) -> &FieldDescriptorProto {
        let found = self.messages[row.message].field.iter().find(|field| field.name() == row.field);
        found.unwrap_or_else(|| panic!("{}.{} is no field of the contract", row.message, row.field))
    }

    fn measured(&self, row: &Row, content: Vec<u8>) -> Result<(), Fault> {
        let (request, way) = self.way_to(row.message);
        let whole = way.iter().rev().fold(content, |inner, number| delimited(*number, &inner));
        measure_message(&request, &whole)
    }
}

fn inner(field: &FieldDescriptorProto) -> Option<String> {
    (field.r#type() == Type::Message).then(|| field.type_name().strip_prefix(PACKAGE).map(str::to_owned))?
}

fn delimited(number: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_varint(u64::from(number << 3 | 2), &mut bytes);
    encode_varint(content.len() as u64, &mut bytes);
    bytes.extend(content);
    bytes
}

fn refused(row: &Row, limit: u64, result: Result<(), Fault>) {
    match result {
        Err(Fault::TooLarge { field, reason, limit: told, actual, .. }) => {
            assert_eq!((reason, told, actual), (row.reason, limit, limit + 1), "{row:?}");
            assert!(field.contains(row.field), "{field} names {}", row.field);
        }
        other => panic!("{row:?}: {other:?}"),
    }
}

#[test]
fn no_list_text_or_byte_string_of_a_request_is_left_out() {
    assert_eq!(limits::without_row(), Vec::<String>::new());
}

#[test]
fn every_text_and_byte_string_is_refused_just_above_its_limit() {
    let contract = contract();
    for row in ROWS {
        let Some(limit) = row.bytes else { continue };
        let number = contract.field(row).number().unsigned_abs();
        let of = |bytes: u64| delimited(number, &vec![b'a'; usize::try_from(bytes).expect("small")]);
        assert_eq!(contract.measured(row, of(limit)), Ok(()), "{row:?}");
        refused(row, limit, contract.measured(row, of(limit + 1)));
    }
}

#[test]
fn every_list_is_refused_just_above_its_limit_packed_or_not() {
    let contract = contract();
    for row in ROWS {
        let Some(limit) = row.entries else { continue };
        let field = contract.field(row);
        assert_eq!(field.label(), Label::Repeated, "{row:?}");
        let number = field.number().unsigned_abs();
        let times = |count: u64, entry: &[u8]| entry.repeat(usize::try_from(count).expect("small"));
        let mut shapes: Vec<Box<dyn Fn(u64) -> Vec<u8>>> = Vec::new();
        if matches!(field.r#type(), Type::Message | Type::String | Type::Bytes) {
            shapes.push(Box::new(move |count| times(count, &delimited(number, &[]))));
        } else {
            let mut one = Vec::new();
            encode_varint(u64::from(number << 3), &mut one);
            one.push(7);
            shapes.push(Box::new(move |count| times(count, &one)));
            shapes.push(Box::new(move |count| delimited(number, &times(count, &[7]))));
            // Packed in pieces: each within the limit, all together not.
            shapes.push(Box::new(move |count| times(count, &delimited(number, &[7]))));
        }
        for shape in shapes {
            assert_eq!(contract.measured(row, shape(limit)), Ok(()), "{row:?}");
            refused(row, limit, contract.measured(row, shape(limit + 1)));
        }
    }
}

/// Set twice, a message would be merged when it is decoded, and its lists with it.
#[test]
fn a_message_that_is_set_twice_is_refused() {
    let config = delimited(2, &delimited(1, b"orders"));
    assert_eq!(measure_message("CreateGroupRequest", &config), Ok(()));
    let fault = measure_message("CreateGroupRequest", &config.repeat(2)).expect_err("it would be merged");
    assert!(matches!(fault, Fault::TooLarge { limit: 1, actual: 2, .. }), "{fault:?}");
}

#[test]
fn what_is_no_message_is_malformed_and_never_panics() {
    for bytes in [&[0x0a][..], &[0x0a, 0xff], &[0x0b], &[0xff; 11], &[0x0a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80]] {
        assert_eq!(measure_message("AppendRequest", bytes), Err(Fault::Malformed), "{bytes:?}");
    }
}
