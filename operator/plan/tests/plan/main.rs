//! Decisions, each in a table of one: the name says which failure it keeps from happening. Many of these happened to
//! other operators.

mod bootstrap;
mod conditions;
mod fixture;
mod from_backup;
mod maintenance;
mod orders;
mod others;
mod repair;
mod roll;
mod scale;
