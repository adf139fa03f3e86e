//! The doors: one file per gRPC service, the JSON gateway, the HTTP endpoints, the error table.

pub mod auth;
pub mod cluster;
pub mod context;
pub mod election;
pub mod error;
pub mod front;
pub mod gateway;
pub mod gather;
pub mod grpc;
pub mod health;
pub mod http;
pub mod kv;
pub mod lease;
pub mod lock;
pub mod maintenance;
pub mod observe;
pub mod pace;
pub mod quota;
pub mod range;
pub mod range_stream;
pub mod services;
pub mod unary;
pub mod until_stop;
pub mod watch;
