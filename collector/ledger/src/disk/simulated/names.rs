//! Names of files and folders: those that programs see, and those on the medium.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// The folder that is there, and safe, from the beginning.
const FIRST_FOLDER: &str = "/data";

/// All names of a disk.
#[derive(Debug, Clone)]
pub(super) struct Names {
    seen: Tree,
    safe: Tree,
    /// Changes that are not on the medium, oldest first.
    changes: Vec<Change>,
}

#[derive(Debug, Clone, Default)]
struct Tree {
    files: BTreeMap<PathBuf, u64>,
    folders: BTreeSet<PathBuf>,
}

/// What happens to a name; it is in its folder that it must be synced.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Folder(PathBuf),
    Made(PathBuf, u64),
    Renamed(PathBuf, PathBuf),
    Removed(PathBuf),
}

// === impl Names ===

impl Names {
    pub(super) fn new() -> Self {
        let folders = Path::new(FIRST_FOLDER).ancestors().map(Path::to_owned).collect();
        let safe = Tree { files: BTreeMap::new(), folders };
        Self { seen: safe.clone(), safe, changes: Vec::new() }
    }

    pub(super) fn file(&self, path: &Path) -> Option<u64> {
        self.seen.files.get(path).copied()
    }

    pub(super) fn has_folder(&self, path: &Path) -> bool {
        self.seen.folders.contains(path)
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (&PathBuf, u64)> {
        self.seen.files.iter().map(|(path, node)| (path, *node))
    }

    /// The names in a folder, sorted.
    pub(super) fn inside(&self, folder: &Path) -> Vec<String> {
        let entries = self.seen.files.keys().chain(&self.seen.folders);
        let inside = entries.filter(|entry| entry.parent() == Some(folder));
        let names: BTreeSet<_> = inside.filter_map(|entry| entry.file_name()).collect();
        names.into_iter().map(|name| name.to_string_lossy().into_owned()).collect()
    }

    pub(super) fn change(&mut self, change: Change) {
        self.seen.apply(&change);
        self.changes.push(change);
    }

    /// Puts a file there, on the medium too, with the folders above it.
    pub(super) fn put(&mut self, path: &Path, node: u64) {
        for tree in [&mut self.seen, &mut self.safe] {
            tree.files.insert(path.to_owned(), node);
            tree.folders.extend(path.ancestors().skip(1).map(Path::to_owned));
        }
    }

    /// Brings the changes in this folder to the medium; those in others stay as they are.
    pub(super) fn sync(&mut self, folder: &Path) {
        for change in &self.changes {
            if change.folder() == Some(folder) {
                self.safe.apply(change);
            }
        }
        self.changes.retain(|change| change.folder() != Some(folder));
    }

    /// What is on the medium after a power loss: of the changes in each folder a first part, and
    /// nothing of a folder that is lost itself.
    pub(super) fn survivor(&self, choose: &mut dyn FnMut(usize) -> usize) -> Self {
        let mut tree = self.safe.clone();
        let folders: BTreeSet<_> = self.changes.iter().map(Change::folder).collect();
        for folder in folders {
            let inside: Vec<_> =
                self.changes.iter().filter(|change| change.folder() == folder).collect();
            let kept = choose(inside.len() + 1);
            inside.into_iter().take(kept).for_each(|change| tree.apply(change));
        }
        tree.drop_what_hangs_in_the_air();
        Self { seen: tree.clone(), safe: tree, changes: Vec::new() }
    }
}

// === impl Tree ===

impl Tree {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Folder(path) => {
                self.folders.insert(path.clone());
            }
            Change::Made(path, node) => {
                self.files.insert(path.clone(), *node);
            }
            Change::Renamed(from, to) => {
                if let Some(node) = self.files.remove(from) {
                    self.files.insert(to.clone(), node);
                }
            }
            Change::Removed(path) => {
                self.files.remove(path);
            }
        }
    }

    fn drop_what_hangs_in_the_air(&mut self) {
        let folders = self.folders.clone();
        let stands = |path: &Path| path.ancestors().skip(1).all(|above| folders.contains(above));
        self.folders.retain(|path| stands(path));
        self.files.retain(|path, _node| stands(path));
    }
}

// === impl Change ===

impl Change {
    fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(path)
            | Self::Made(path, _)
            | Self::Renamed(path, _)
            | Self::Removed(path) => path.parent(),
        }
    }
}
