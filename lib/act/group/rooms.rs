//! Which room of the record each life of an entry has.

use crate::life::{Leftover, Lives, Wall};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// The record of the lives of a group, and its free rooms.
pub(super) struct LifeRooms {
    /// `None` where it could not be made: a disk that is full. Lives are found by their cgroups and marks
    /// then.
    lives: Option<Lives>,
    free: BTreeSet<usize>,
    count: usize,
}

impl LifeRooms {
    /// The record at `path` for `count` entries of the group called `key`; and why there is none, if so.
    pub(super) fn open(path: &Path, key: &str, count: usize) -> (LifeRooms, Option<io::Error>) {
        let (lives, error) = match Lives::open(path, key, count) {
            Ok(lives) => (Some(lives), None),
            Err(cause) => (None, Some(cause)),
        };
        (LifeRooms { lives, free: (0..count).collect(), count }, error)
    }

    /// What the last run has noted and left.
    pub(super) fn leftovers(&self) -> Vec<Leftover> {
        self.lives.as_ref().map(Lives::leftovers).unwrap_or_default()
    }

    /// Nothing of it is left.
    pub(super) fn wipe(&self) {
        self.lives.iter().for_each(|lives| drop(lives.wipe()));
    }

    /// A room that is free.
    pub(super) fn take(&mut self) -> usize {
        if let Some(room) = self.free.pop_first() {
            return room;
        }
        self.count += 1;
        if let Some(lives) = &self.lives {
            // Where the disk is full now, the note itself will say so.
            let _ = lives.reserve(self.count);
        }
        self.count - 1
    }

    /// The life in it is over, and so is the entry.
    pub(super) fn give_back(&mut self, room: usize) {
        self.free.insert(room);
    }

    /// As `Lives::note`.
    pub(super) fn note(&self, room: usize, wall: &Wall) -> io::Result<()> {
        self.lives.as_ref().map_or(Ok(()), |lives| lives.note(room, wall))
    }

    /// As `Lives::over`.
    pub(super) fn over(&self, room: usize) {
        self.lives.iter().for_each(|lives| drop(lives.over(room)));
    }

    /// Makes the record anew, with the lives that there are.
    pub(super) fn again<'a>(
        &mut self,
        path: &Path,
        key: &str,
        all: impl Iterator<Item = (usize, &'a Wall)>,
    ) -> io::Result<()> {
        let lives = Lives::open(path, key, self.count)?;
        lives.wipe()?;
        for (room, wall) in all {
            lives.note(room, wall)?;
        }
        self.lives = Some(lives);
        Ok(())
    }
}
