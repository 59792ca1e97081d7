//! baa-lease: one leader at a time. A holder believes in its lease for less long than the store does, and its command is dead before that.

pub mod deadline;
pub mod guard;
pub mod hold;
pub mod holder;
pub mod line;
pub mod name;
#[cfg(test)]
mod simulation;
