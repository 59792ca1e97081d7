//! One life of a command: who belongs to it, what is on disk of it before it starts, and how all of it is
//! ended. The only room that knows what comes of a process, wherever it goes. The keeper, the group, the
//! lease, probes, managers and hooks start and end processes here and nowhere else; they hold decisions only.

mod bounded;
mod hook;
mod record;
mod tree;
mod wall;

pub use bounded::{Finished, end_helpers, helpers_belong_to, run, run_whole};
pub use hook::{hook, run_hook};
pub use record::{Leftover, Lives};
pub use tree::end_descendants;
pub use wall::{MARK, Wall, key};

#[cfg(test)]
mod tests;
