//! Compiles the contract without `protoc` and keeps its descriptors for server
//! reflection.

use std::{env, error::Error, fs, path::PathBuf};

use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet, field_descriptor_proto::Type};
use tonic_prost_build::{Builder, Config};

const FILES: [&str; 5] = [
    "tillroll/v1/record.proto",
    "tillroll/v1/log_service.proto",
    "tillroll/v1/topic_service.proto",
    "tillroll/v1/group_service.proto",
    "tillroll/v1/operator_service.proto",
];

/// Fields that a server takes as the bytes that came: what is in them is
/// measured before it is decoded, and record sets are never decoded at all.
const RAW_FIELDS: [(&str, &str); 2] = [("AppendBatch", "records"), ("AppendStreamRequest", "append")];

/// The messages that have such a field, or one that has.
const RAW_MESSAGES: [&str; 3] = ["AppendBatch", "AppendRequest", "AppendStreamRequest"];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    println!("cargo:rerun-if-changed=google/rpc/status.proto");
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is set by cargo")?);

    // The blob for reflection has the imports, and no comments: they would
    // triple its size and no client asks for them.
    let mut bare = protox::Compiler::new(["."])?;
    bare.include_imports(true).include_source_info(false);
    bare.open_files(FILES)?;
    fs::write(out.join("descriptors.binpb"), bare.encode_file_descriptor_set())?;

    // The generated code has them.
    let mut full = protox::Compiler::new(["."])?;
    full.include_imports(true).include_source_info(true);
    full.open_files(FILES)?;
    let set = full.file_descriptor_set();
    settings().compile_fds_with_config(set.clone(), config())?;

    let raw = out.join("raw");
    fs::create_dir_all(&raw)?;
    let codec = "crate::limits::MeasuredCodec";
    let mut server = settings().out_dir(&raw).build_client(false).codec_path(codec);
    for name in messages_of(&set).iter().filter(|name| !RAW_MESSAGES.contains(&name.as_str())) {
        server = server.extern_path(format!(".tillroll.v1.{name}"), format!("crate::v1::{name}"));
    }
    server.compile_fds_with_config(with_raw_fields(set), config())?;
    Ok(())
}

fn settings() -> Builder {
    tonic_prost_build::configure().extern_path(".google.rpc", "::tonic_types::pb").emit_rerun_if_changed(false)
}

/// A message knows its name, by which its limits are found.
fn config() -> Config {
    let mut config = Config::new();
    config.bytes([".tillroll.v1"]).enable_type_names();
    config
}

/// Names of all messages and enums of the package.
fn messages_of(set: &FileDescriptorSet) -> Vec<String> {
    let names = |file: &FileDescriptorProto| {
        let messages = file.message_type.iter().map(|message| message.name().to_owned());
        messages.chain(file.enum_type.iter().map(|one| one.name().to_owned())).collect::<Vec<_>>()
    };
    set.file.iter().filter(|file| file.package() == "tillroll.v1").flat_map(names).collect()
}

/// The same descriptors with the raw fields as bytes: on the wire they look
/// the same.
fn with_raw_fields(mut set: FileDescriptorSet) -> FileDescriptorSet {
    let messages = set.file.iter_mut().flat_map(|file| &mut file.message_type);
    messages.for_each(make_raw);
    set
}

fn make_raw(message: &mut DescriptorProto) {
    let name = message.name().to_owned();
    for field in &mut message.field {
        if RAW_FIELDS.contains(&(name.as_str(), field.name())) {
            field.set_type(Type::Bytes);
            field.type_name = None;
        }
    }
}
