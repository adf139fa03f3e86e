//! Builds the messages, services and JSON forms from `proto/`, without protoc.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use prost::Message as _;
use prost_types::FileDescriptorSet;

/// The one file that names every other one by its imports, and the services that nothing imports.
const ROOTS: [&str; 7] = [
    "etcdserverpb/raft_internal.proto",
    "etcdserverpb/watch.proto",
    "etcdserverpb/cluster.proto",
    "leasepb/lease.proto",
    "v3lockpb/lock.proto",
    "v3electionpb/election.proto",
    "keepstonepb/peer.proto",
];

/// Packages whose Rust types are generated as they are. `mvccpb` is hand-written.
const PACKAGES: [&str; 7] =
    [".etcdserverpb", ".authpb", ".membershippb", ".leasepb", ".v3lockpb", ".v3electionpb", ".keepstonepb"];

/// The hand-written types, and what to call them from generated code.
const BY_HAND: [(&str, &str); 2] = [(".mvccpb.KeyValue", "crate::KeyValue"), (".mvccpb.Event", "crate::Event")];

/// What is changed in the text of generated code: prost's idea of `peerURLs` and `clientURLs`, and `Eq`, which prost leaves
/// out where it meets a hand-written type (no message here has a float).
const REPLACED: [(&str, &str); 4] = [
    ("peer_ur_ls", "peer_urls"),
    ("client_ur_ls", "client_urls"),
    ("derive(Clone, PartialEq, ::prost::Message)", "derive(Clone, PartialEq, Eq, ::prost::Message)"),
    ("derive(Clone, PartialEq, ::prost::Oneof)", "derive(Clone, PartialEq, Eq, ::prost::Oneof)"),
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=proto");

    let out = PathBuf::from(env::var("OUT_DIR")?);
    let plain = out.join("plain");
    fs::create_dir_all(&plain)?;

    let files = protox::compile(ROOTS, ["proto"])?;
    fs::write(out.join("descriptors.bin"), without_source(&files).encode_to_vec())?;

    generate(&files, &out)?;
    generate_plain(&files, &plain)?;
    for package in PACKAGES {
        let package = package.trim_start_matches('.');
        replace(&out.join(format!("{package}.rs")))?;
        replace(&out.join(format!("{package}.serde.rs")))?;
    }
    Ok(())
}

/// Messages, clients, servers and JSON of everything but `mvccpb`.
fn generate(files: &FileDescriptorSet, out: &Path) -> Result<(), Box<dyn Error>> {
    let mut rust = tonic_prost_build::configure().out_dir(out).bytes(".").emit_rerun_if_changed(false);
    let mut json = json_as_etcd_prints_it(files, out);
    for (proto, path) in BY_HAND {
        rust = rust.extern_path(proto, path);
        json.extern_path(proto, path);
    }
    rust.compile_fds(files.clone())?;
    json.build(&PACKAGES)?;
    Ok(())
}

/// The generated twins of the hand-written types, for their JSON form.
fn generate_plain(files: &FileDescriptorSet, out: &Path) -> Result<(), Box<dyn Error>> {
    let mut only = files.clone();
    only.file.retain(|file| file.package() == "mvccpb");
    tonic_prost_build::configure().out_dir(out).bytes(".").emit_rerun_if_changed(false).compile_fds(only)?;
    json_as_etcd_prints_it(files, out).build(&[".mvccpb"])?;
    Ok(())
}

/// etcd's gateway: names as in the proto file, 64-bit integers as strings, defaults left out, unknown names let pass.
fn json_as_etcd_prints_it(files: &FileDescriptorSet, out: &Path) -> pbjson_build::Builder {
    let mut json = pbjson_build::Builder::new();
    json.out_dir(out).preserve_proto_field_names().ignore_unknown_fields().ignore_unknown_enum_variants();
    for file in &files.file {
        json.register_file_descriptor(file.clone());
    }
    json
}

fn without_source(files: &FileDescriptorSet) -> FileDescriptorSet {
    let mut files = files.clone();
    for file in &mut files.file {
        file.source_code_info = None;
    }
    files
}

fn replace(path: &Path) -> Result<(), Box<dyn Error>> {
    let mut text = fs::read_to_string(path)?;
    for (from, to) in REPLACED {
        text = text.replace(from, to);
    }
    fs::write(path, text)?;
    Ok(())
}
