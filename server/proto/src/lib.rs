//! The messages and services of etcd's v3 API, what Keepstone replicates, and their JSON forms.
//!
//! Everything is generated from `proto/` at build time, except [`KeyValue`] and [`Event`]: those keep their encoded
//! bytes, so that what is stored is what is cached and what is sent, without being encoded a second time.
//!
//! This crate holds no behaviour: it decides nothing about a request, and does no IO.

mod event;
mod key_value;

pub use event::Event;
pub use key_value::{KeyValue, KeyValueParts, NotCanonical};

/// Every message and service as an encoded `google.protobuf.FileDescriptorSet`, without source positions.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// A revision of a key, and the change that made it.
pub mod mvccpb {
    pub use crate::{
        event::{Event, EventType},
        key_value::KeyValue,
    };
}

/// `KeyValue` and `Event` as prost and pbjson make them: they know the JSON form. Never leaves this crate.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod plain {
    include!(concat!(env!("OUT_DIR"), "/plain/mvccpb.rs"));
    include!(concat!(env!("OUT_DIR"), "/plain/mvccpb.serde.rs"));
}

macro_rules! generated {
    ($(#[$doc:meta] $package:ident)*) => {$(
        #[$doc]
        #[allow(missing_docs, unused_qualifications, clippy::all, clippy::pedantic, clippy::unwrap_used)]
        pub mod $package {
            include!(concat!(env!("OUT_DIR"), "/", stringify!($package), ".rs"));
            include!(concat!(env!("OUT_DIR"), "/", stringify!($package), ".serde.rs"));
        }
    )*};
}

generated! {
    /// The services that clients call, and the requests that are replicated.
    etcdserverpb
    /// Users and roles as they are stored.
    authpb
    /// Membership as it is replicated.
    membershippb
    /// Leases as they are stored.
    leasepb
    /// Locks.
    v3lockpb
    /// Elections.
    v3electionpb
    /// What Keepstone replicates that etcd has no request for.
    keepstonepb
}
