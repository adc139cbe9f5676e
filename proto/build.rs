//! Compiles the contract without `protoc` and keeps its descriptors for server
//! reflection.

use std::{env, error::Error, fs, path::PathBuf};

const FILES: [&str; 4] = [
    "tillroll/v1/record.proto",
    "tillroll/v1/log_service.proto",
    "tillroll/v1/topic_service.proto",
    "tillroll/v1/group_service.proto",
];

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
    tonic_prost_build::configure()
        .bytes(".tillroll.v1")
        .extern_path(".google.rpc", "::tonic_types::pb")
        .emit_rerun_if_changed(false)
        .compile_fds(full.file_descriptor_set())?;
    Ok(())
}
