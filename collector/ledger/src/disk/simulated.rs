//! A disk in memory that can lose power, lose pages, and fail.
//!
//! It keeps apart what programs see and what is on the medium. Bytes written stay in the cache, as
//! versions of pages, until they are synced; names stay in the cache until their folder is. When
//! power goes, each page not synced may have reached the medium or not, whatever the order, and
//! of the changes to a folder a first part has. A failed sync forgets which pages were dirty, as
//! Linux does. For tests; nothing here is durable.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{File, Lock, Storage};

/// The piece of a file that reaches the medium whole or not at all.
const PAGE_BYTES: usize = 512;

/// A simulated disk; clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

/// A trouble that comes once, counted in operations of the disk that change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// From this operation on nothing works; `after_power_loss` gives what is left.
    PowerLoss { at: u64 },
    /// This operation, or the next that syncs a file, fails; later ones work.
    SyncFails { at: u64 },
    /// This operation, or the next that writes, fails after half of its bytes.
    WriteFails { at: u64 },
    /// From this operation on a sync never fails and does nothing.
    SyncLies { at: u64 },
}

#[derive(Debug, Default)]
struct State {
    operations: u64,
    trouble: Option<Trouble>,
    powerless: bool,
    next_node: u64,
    nodes: BTreeMap<u64, Node>,
    /// What programs see.
    names: BTreeMap<PathBuf, u64>,
    /// What is on the medium.
    safe_names: BTreeMap<PathBuf, u64>,
    /// Changes to names that are not on the medium, oldest first.
    changes: Vec<Change>,
    folders: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
}

/// A file, by whatever names.
#[derive(Debug, Clone, Default)]
struct Node {
    /// What programs see.
    cache: Vec<u8>,
    /// What is on the medium.
    medium: Vec<u8>,
    /// Versions of pages that may reach the medium, oldest first.
    dirty: BTreeMap<usize, Vec<Vec<u8>>>,
}

#[derive(Debug, Clone)]
enum Change {
    Made(PathBuf, u64),
    Renamed(PathBuf, PathBuf),
    Removed(PathBuf),
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    node: u64,
}

#[derive(Debug)]
struct SimulatedLock {
    disk: SimulatedDisk,
    path: PathBuf,
}

/// What an operation does to the disk, and whether it works.
enum Verdict {
    Works,
    Fails(io::Error),
    Lies,
}

// === impl SimulatedDisk ===

impl SimulatedDisk {
    /// A disk with nothing on it.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many operations have changed something, or tried.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Plans a trouble, instead of one planned before.
    pub fn plan(&self, trouble: Trouble) {
        self.lock().trouble = Some(trouble);
    }

    /// What is left when power goes now. `choose(n)` picks a number below `n` and so what reaches
    /// the medium.
    pub fn after_power_loss(&self, choose: &mut dyn FnMut(usize) -> usize) -> Self {
        let state = self.lock();
        let mut names = state.safe_names.clone();
        let kept = choose(state.changes.len() + 1);
        for change in state.changes.iter().take(kept) {
            change.apply(&mut names);
        }
        let mut nodes = BTreeMap::new();
        for node in names.values() {
            let survivor = state.nodes.get(node).map(|node| node.survivor(choose));
            nodes.insert(*node, survivor.unwrap_or_default());
        }
        let survivor = State {
            next_node: state.next_node,
            nodes,
            safe_names: names.clone(),
            names,
            folders: state.folders.clone(),
            ..State::default()
        };
        Self { state: Arc::new(Mutex::new(survivor)) }
    }

    /// What another process sees when the one that holds the locks is killed: the same files.
    pub fn after_kill(&self) -> Self {
        let state = self.lock();
        let survivor = State {
            next_node: state.next_node,
            nodes: state.nodes.clone(),
            names: state.names.clone(),
            safe_names: state.safe_names.clone(),
            changes: state.changes.clone(),
            folders: state.folders.clone(),
            ..State::default()
        };
        Self { state: Arc::new(Mutex::new(survivor)) }
    }

    /// A file's bytes as programs see them.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock();
        state.nodes.get(state.names.get(path)?).map(|node| node.cache.clone())
    }

    /// Puts these bytes into a file, on the medium too, whatever it held.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.lock();
        let node = state.next_node;
        state.next_node += 1;
        let (cache, medium) = (bytes.to_vec(), bytes.to_vec());
        state.nodes.insert(node, Node { cache, medium, dirty: BTreeMap::new() });
        state.names.insert(path.to_owned(), node);
        state.safe_names.insert(path.to_owned(), node);
    }

    /// All files, as programs see them.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.lock().names.keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for SimulatedDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        // Folders are as good as durable: losing one loses no promise, only an empty folder.
        let mut state = self.lock();
        state.folders.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.lock();
        if !state.folders.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let entries = state.names.keys().chain(&state.folders);
        let inside = entries.filter(|entry| entry.parent() == Some(path));
        let names: BTreeSet<_> = inside.filter_map(|entry| entry.file_name()).collect();
        Ok(names.into_iter().map(|name| name.to_string_lossy().into_owned()).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.lock();
        state.change()?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let node = state.make(path);
        Ok(Arc::new(SimulatedFile { disk: self.clone(), node }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let node = *self.lock().names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimulatedFile { disk: self.clone(), node }))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.change()?;
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.rename(Change::Renamed(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.change()?;
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.rename(Change::Removed(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        // One journal for all folders, as in common file systems.
        let mut state = self.lock();
        match state.sync() {
            Verdict::Works => {}
            Verdict::Lies => return Ok(()),
            Verdict::Fails(error) => return Err(error),
        }
        state.safe_names = state.names.clone();
        state.changes.clear();
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut state = self.lock();
        if !state.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimulatedLock { disk: self.clone(), path: path.to_owned() }))
    }

    fn is_private(&self, _path: &Path) -> io::Result<bool> {
        Ok(true)
    }
}

// === impl SimulatedFile ===

impl File for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.lock();
        let node = state.node(self.node)?;
        let rest = node.cache.get(position(offset)..).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..read), rest.get(..read)) {
            to.copy_from_slice(from);
        }
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        let verdict = state.write();
        let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
        let reached = if matches!(verdict, Verdict::Works) { bytes } else { half };
        state.node_mut(self.node)?.write(reached, position(offset));
        match verdict {
            Verdict::Works | Verdict::Lies => Ok(()),
            Verdict::Fails(error) => Err(error),
        }
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.disk.lock().node(self.node)?.cache.len() as u64)
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.change()?;
        state.node_mut(self.node)?.set_bytes(position(bytes));
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.set_bytes(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        let verdict = state.sync();
        let powerless = state.powerless;
        let node = state.node_mut(self.node)?;
        match verdict {
            Verdict::Works => {
                node.sync();
                Ok(())
            }
            Verdict::Lies => Ok(()),
            Verdict::Fails(error) => {
                // Linux marks the pages clean all the same: the next sync has nothing to do.
                if !powerless {
                    node.dirty.clear();
                }
                Err(error)
            }
        }
    }
}

// === impl SimulatedLock ===

impl Lock for SimulatedLock {}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        self.disk.lock().locks.remove(&self.path);
    }
}

// === impl State ===

impl State {
    fn node(&self, node: u64) -> io::Result<&Node> {
        self.nodes.get(&node).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn node_mut(&mut self, node: u64) -> io::Result<&mut Node> {
        self.nodes.get_mut(&node).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn make(&mut self, path: &Path) -> u64 {
        let node = self.next_node;
        self.next_node += 1;
        self.nodes.insert(node, Node::default());
        self.rename(Change::Made(path.to_owned(), node));
        node
    }

    fn rename(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    /// Counts an operation; it fails only for want of power.
    fn change(&mut self) -> io::Result<()> {
        self.operations += 1;
        if let Some(Trouble::PowerLoss { at }) = self.trouble
            && self.operations >= at
        {
            self.powerless = true;
            return Err(io::Error::other("the power is off"));
        }
        Ok(())
    }

    fn sync(&mut self) -> Verdict {
        if let Err(error) = self.change() {
            return Verdict::Fails(error);
        }
        match self.trouble {
            Some(Trouble::SyncFails { at }) if self.operations >= at => {
                self.trouble = None;
                Verdict::Fails(io::Error::from_raw_os_error(5))
            }
            Some(Trouble::SyncLies { at }) if self.operations >= at => Verdict::Lies,
            _ => Verdict::Works,
        }
    }

    fn write(&mut self) -> Verdict {
        if let Err(error) = self.change() {
            return Verdict::Fails(error);
        }
        match self.trouble {
            Some(Trouble::WriteFails { at }) if self.operations >= at => {
                self.trouble = None;
                Verdict::Fails(io::ErrorKind::StorageFull.into())
            }
            _ => Verdict::Works,
        }
    }
}

// === impl Change ===

impl Change {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Made(path, node) => {
                names.insert(path.clone(), *node);
            }
            Self::Renamed(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
            Self::Removed(path) => {
                names.remove(path);
            }
        }
    }
}

// === impl Node ===

impl Node {
    fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        if self.cache.len() < end {
            self.cache.resize(end, 0);
        }
        if let Some(place) = self.cache.get_mut(offset..end) {
            place.copy_from_slice(bytes);
        }
        if bytes.is_empty() {
            return;
        }
        for page in offset / PAGE_BYTES..=(end - 1) / PAGE_BYTES {
            let start = page * PAGE_BYTES;
            let stop = (start + PAGE_BYTES).min(self.cache.len());
            let version = self.cache.get(start..stop).unwrap_or_default().to_vec();
            self.dirty.entry(page).or_default().push(version);
        }
    }

    fn set_bytes(&mut self, bytes: usize) {
        self.cache.resize(bytes, 0);
        self.dirty.retain(|page, _versions| page * PAGE_BYTES < bytes);
    }

    /// Brings what is dirty to the medium; what an earlier sync forgot stays forgotten.
    fn sync(&mut self) {
        self.medium.resize(self.cache.len(), 0);
        for (page, versions) in std::mem::take(&mut self.dirty) {
            if let Some(bytes) = versions.last() {
                put_page(&mut self.medium, page, bytes);
            }
        }
    }

    /// What is on the medium after a power loss.
    fn survivor(&self, choose: &mut dyn FnMut(usize) -> usize) -> Self {
        let mut medium = self.medium.clone();
        // The length is the old one or the new one.
        if self.medium.len() != self.cache.len() && choose(2) == 1 {
            medium.resize(self.cache.len(), 0);
        }
        for (page, versions) in &self.dirty {
            let Some(version) = choose(versions.len() + 1).checked_sub(1) else { continue };
            let Some(bytes) = versions.get(version) else { continue };
            put_page(&mut medium, *page, bytes);
        }
        Self { cache: medium.clone(), medium, dirty: BTreeMap::new() }
    }
}

/// Bytes behind the end of the file are not there, whatever reached the medium.
fn put_page(medium: &mut [u8], page: usize, bytes: &[u8]) {
    let start = page * PAGE_BYTES;
    let end = (start + bytes.len()).min(medium.len());
    let reached = bytes.get(..end.saturating_sub(start)).unwrap_or_default();
    if let Some(place) = medium.get_mut(start..end) {
        place.copy_from_slice(reached);
    }
}

fn position(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}
