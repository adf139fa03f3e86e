//! The openraft adapter: types, log store, state machine shell, network, read index. Nothing outside this
//! module names an openraft type but `propose` and `member`.

pub mod codec;
pub mod log_store;
pub mod missed;
pub mod network;
pub mod read_index;
pub mod runtime;
pub mod snapshot;
pub mod state_machine;
pub mod synced;
mod tally;
pub mod types;
