//! The checker's own test: a history that is right passes, and each way of being wrong is found.

mod calls;
mod watches;
mod world;
