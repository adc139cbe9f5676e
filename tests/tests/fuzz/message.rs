//! Random messages that look like those of the contract: fields of the right numbers and types, values at the edges of
//! what is allowed, and now and then bytes that are no message at all.

use std::collections::BTreeMap;

use prost::Message as _;
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet, field_descriptor_proto::Type};
use tillroll_tests::dice::Dice;

/// Names and texts: those of things that are there, and those that are wrong in some way.
const TEXTS: [&str; 12] =
    ["", "orders", "mailer", "loader", "member-1", "a", "UPPER", "a/b", "-a", "a\u{0}b", "größe", "orders-2"];
/// Numbers at edges.
const NUMBERS: [u64; 14] = [0, 1, 2, 3, 7, 99, 127, 128, 1_024, 65_536, 1 << 31, u32::MAX as u64, 1 << 63, u64::MAX];
/// Messages within messages, at most.
const DEPTH_MAX: u32 = 6;

/// A method of the contract.
pub(crate) struct Method {
    pub(crate) path: String,
    pub(crate) input: String,
    pub(crate) takes_many: bool,
    pub(crate) gives_many: bool,
}

/// The messages of the contract.
pub(crate) struct Contract {
    messages: BTreeMap<String, DescriptorProto>,
    pub(crate) methods: Vec<Method>,
}

impl Contract {
    pub(crate) fn new() -> Self {
        let set = FileDescriptorSet::decode(tillroll_proto::FILE_DESCRIPTOR_SET).expect("the build encoded it");
        let (mut messages, mut methods) = (BTreeMap::new(), Vec::new());
        for file in &set.file {
            let package = file.package();
            for message in &file.message_type {
                messages.insert(format!(".{package}.{}", message.name()), message.clone());
            }
            for service in file.service.iter().filter(|_| package == "tillroll.v1") {
                methods.extend(service.method.iter().map(|method| Method {
                    path: format!("/{package}.{}/{}", service.name(), method.name()),
                    input: method.input_type().to_owned(),
                    takes_many: method.client_streaming(),
                    gives_many: method.server_streaming(),
                }));
            }
        }
        Self { messages, methods }
    }

    /// A message of this type, spoiled one time in four.
    pub(crate) fn message(&self, dice: &mut Dice, name: &str) -> Vec<u8> {
        let mut bytes = self.whole(dice, name, 0);
        if dice.one_in(4) {
            spoil(dice, &mut bytes);
        }
        bytes
    }

    fn whole(&self, dice: &mut Dice, name: &str, depth: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let Some(message) = self.messages.get(name) else { return bytes };
        // Some have much in them, some little: too much at a time is refused for its first fault.
        let one_in = dice.between(1, 5);
        for field in &message.field {
            for _ in 0..how_often(dice, field, one_in) {
                self.field(dice, field, depth, &mut bytes);
            }
        }
        bytes
    }

    fn field(&self, dice: &mut Dice, field: &FieldDescriptorProto, depth: u32, bytes: &mut Vec<u8>) {
        let tag = |wire: u64| (u64::from(field.number().unsigned_abs()) << 3) | wire;
        let framed = |bytes: &mut Vec<u8>, content: &[u8]| {
            varint(bytes, tag(2));
            varint(bytes, content.len() as u64);
            bytes.extend_from_slice(content);
        };
        match field.r#type() {
            Type::String => framed(bytes, &text(dice, field.name())),
            Type::Bytes => {
                let length = [0, 1, 100, 1_024, 1_025][pick(dice, 5)];
                framed(bytes, &vec![pick(dice, 256) as u8; length]);
            }
            Type::Message if depth < DEPTH_MAX => {
                let content = self.whole(dice, field.type_name(), depth + 1);
                framed(bytes, &content);
            }
            Type::Message | Type::Group => {}
            Type::Double | Type::Fixed64 | Type::Sfixed64 => {
                varint(bytes, tag(1));
                bytes.extend(number(dice).to_le_bytes());
            }
            Type::Float | Type::Fixed32 | Type::Sfixed32 => {
                varint(bytes, tag(5));
                bytes.extend((number(dice) as u32).to_le_bytes());
            }
            _ => {
                varint(bytes, tag(0));
                varint(bytes, number(dice));
            }
        }
    }
}

fn how_often(dice: &mut Dice, field: &FieldDescriptorProto, one_in: u64) -> u64 {
    let is_list = field.label() == prost_types::field_descriptor_proto::Label::Repeated;
    let is_name = ["name", "topic", "group", "batches", "topics", "config"].contains(&field.name());
    let is_there = dice.one_in(one_in) || (is_name && !dice.one_in(6));
    match (is_list, dice.below(60)) {
        (true, 0) => 300,
        (true, roll) if is_there => 1 + roll % 3,
        _ => u64::from(is_there && !is_list),
    }
}

fn pick(dice: &mut Dice, count: usize) -> usize {
    usize::try_from(dice.below(count as u64)).expect("small")
}

fn number(dice: &mut Dice) -> u64 {
    match dice.below(6) {
        0 => dice.below(u64::MAX),
        1 => NUMBERS[pick(dice, NUMBERS.len())],
        _ => dice.below(3),
    }
}

fn text(dice: &mut Dice, field: &str) -> Vec<u8> {
    if !dice.one_in(4) {
        match field {
            "topic" | "topics" => return b"orders".to_vec(),
            "group" => return b"mailer".to_vec(),
            "name" => return TEXTS[1 + pick(dice, 2)].as_bytes().to_vec(),
            _ => {}
        }
    }
    match dice.below(12) {
        0 => vec![b'a'; [128, 129, 1_025][pick(dice, 3)]],
        1 => vec![0xff, 0xfe],
        2..5 => b"orders".to_vec(),
        _ => TEXTS[pick(dice, TEXTS.len())].as_bytes().to_vec(),
    }
}

fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Changes bytes so that they may be no message any more.
pub(crate) fn spoil(dice: &mut Dice, bytes: &mut Vec<u8>) {
    for _ in 0..dice.between(1, 4) {
        let at = pick(dice, bytes.len() + 1);
        match dice.below(5) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, pick(dice, 256) as u8),
            2 if at < bytes.len() => bytes[at] ^= 1 << pick(dice, 8),
            3 => {
                let end = at + pick(dice, bytes.len() - at + 1);
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            // A length that nothing follows.
            _ => bytes.extend([0xfa, 0x01, 0xff, 0xff, 0xff, 0x7f]),
        }
    }
}
