//! The log from outside: its promises on a disk that fails and forgets, and on the real one.

mod basics;
mod beside;
mod crash;
mod damage;
mod failures;
mod format;
mod model;
