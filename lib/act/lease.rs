//! baa-lease: one leader at a time. A holder believes in its lease for less long than the store does, and its
//! command is dead before that.

pub mod attempt;
pub mod conductor;
pub mod deadline;
pub mod grant;
pub mod guard;
pub mod hold;
pub mod holder;
pub mod hooks;
pub mod line;
pub mod local_api;
pub mod name;
pub mod run;
pub mod setting;
#[cfg(test)]
mod simulation;
pub mod start;
