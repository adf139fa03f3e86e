//! The part that looks and acts: it reads what there is, has the planner name one act, and carries that out.

pub mod members;
