//! A disk in memory that can lose power, lose pages, and fail.
//!
//! It keeps apart what programs see and what is on the medium. Bytes written stay in the cache, as
//! versions of pages, until they are synced; names of files and folders stay in the cache until
//! the folder they stand in is. When power goes, each page not synced may have reached the medium
//! or not, whatever the order, and of the changes in each folder a first part has. A failed sync
//! forgets which pages were dirty, as Linux does. For tests; nothing here is durable.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::disk::{File, Lock, Storage};

mod names;
mod node;

use names::{Change, Names};
use node::Node;

/// What Linux says when a disk fails.
const EIO: i32 = 5;

/// A simulated disk; clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

/// A trouble that comes once, counted in operations of the disk that change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// From this operation on nothing works; `after_power_loss` gives what is left.
    PowerLoss { at: u64 },
    /// This operation, or the next that syncs, fails; later ones work.
    SyncFails { at: u64 },
    /// This operation, or the next that writes, fails after half of its bytes.
    WriteFails { at: u64 },
    /// This operation, or the next that makes something or sets room aside, finds none.
    NoRoom { at: u64 },
    /// From this operation on a sync never fails and does nothing.
    SyncLies { at: u64 },
}

#[derive(Debug)]
struct State {
    operations: u64,
    trouble: Option<Trouble>,
    powerless: bool,
    next_node: u64,
    nodes: BTreeMap<u64, Node>,
    names: Names,
    locks: BTreeSet<PathBuf>,
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
    /// A disk with nothing on it but the empty folder `/data`.
    pub fn new() -> Self {
        Self::of(0, BTreeMap::new(), Names::new())
    }

    fn of(next_node: u64, nodes: BTreeMap<u64, Node>, names: Names) -> Self {
        let state = State {
            operations: 0,
            trouble: None,
            powerless: false,
            next_node,
            nodes,
            names,
            locks: BTreeSet::new(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
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
        let names = state.names.survivor(choose);
        let mut nodes = BTreeMap::new();
        for (_path, node) in names.files() {
            let survivor = state.nodes.get(&node).map(|node| node.survivor(choose));
            nodes.insert(node, survivor.unwrap_or_default());
        }
        Self::of(state.next_node, nodes, names)
    }

    /// What another process sees when the one that holds the locks is killed: the same files.
    pub fn after_kill(&self) -> Self {
        self.after_kill_and_eviction(&mut |_bound| 0)
    }

    /// The same where memory was short: `choose(2)` picks for each page that a failed sync forgot
    /// whether it is as it was written (0), or as it is on the medium.
    pub fn after_kill_and_eviction(&self, choose: &mut dyn FnMut(usize) -> usize) -> Self {
        let state = self.lock();
        let nodes = state.nodes.iter().map(|(id, node)| (*id, node.evicted(choose))).collect();
        Self::of(state.next_node, nodes, state.names.clone())
    }

    /// A file's bytes as programs see them.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock();
        state.nodes.get(&state.names.file(path)?).map(|node| node.seen().to_vec())
    }

    /// Puts these bytes into a file, on the medium too, whatever it held.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.lock();
        let node = state.add(Node::safe(bytes));
        state.names.put(path, node);
    }

    /// All files, as programs see them.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.lock().names.files().map(|(path, _node)| path.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for SimulatedDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl Storage for SimulatedDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let missing = |folder: &&Path| !state.names.has_folder(folder);
        let missing: Vec<_> = path.ancestors().filter(missing).map(Path::to_owned).collect();
        for folder in missing.into_iter().rev() {
            state.set_aside()?;
            state.names.change(Change::Folder(folder));
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.lock();
        if !state.names.has_folder(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(state.names.inside(path))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.lock();
        state.set_aside()?;
        if state.names.file(path).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !path.parent().is_some_and(|folder| state.names.has_folder(folder)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let node = state.add(Node::default());
        state.names.change(Change::Made(path.to_owned(), node));
        Ok(Arc::new(SimulatedFile { disk: self.clone(), node }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let node = self.lock().names.file(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimulatedFile { disk: self.clone(), node }))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.change()?;
        state.names.file(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.change(Change::Renamed(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.change()?;
        state.names.file(path).ok_or(io::ErrorKind::NotFound)?;
        state.names.change(Change::Removed(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        match state.sync() {
            Verdict::Works => state.names.sync(path),
            Verdict::Lies => {}
            Verdict::Fails(error) => return Err(error),
        }
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
        let rest = node.seen().get(position(offset)..).unwrap_or_default();
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
        Ok(self.disk.lock().node(self.node)?.seen().len() as u64)
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.change()?;
        state.node_mut(self.node)?.set_bytes(position(bytes));
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.set_aside()?;
        state.node_mut(self.node)?.set_bytes(position(bytes));
        Ok(())
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
                if !powerless {
                    node.forget();
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

    fn add(&mut self, node: Node) -> u64 {
        let id = self.next_node;
        self.next_node += 1;
        self.nodes.insert(id, node);
        id
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

    /// An operation that takes room.
    fn set_aside(&mut self) -> io::Result<()> {
        self.change()?;
        if matches!(self.trouble, Some(Trouble::NoRoom { at }) if self.operations >= at) {
            self.trouble = None;
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn sync(&mut self) -> Verdict {
        if let Err(error) = self.change() {
            return Verdict::Fails(error);
        }
        let (now, trouble) = (self.operations, self.trouble);
        if matches!(trouble, Some(Trouble::SyncFails { at }) if now >= at) {
            self.trouble = None;
            return Verdict::Fails(io::Error::from_raw_os_error(EIO));
        }
        let lies = matches!(trouble, Some(Trouble::SyncLies { at }) if now >= at);
        if lies { Verdict::Lies } else { Verdict::Works }
    }

    fn write(&mut self) -> Verdict {
        if let Err(error) = self.change() {
            return Verdict::Fails(error);
        }
        let now = self.operations;
        if matches!(self.trouble, Some(Trouble::WriteFails { at }) if now >= at) {
            self.trouble = None;
            return Verdict::Fails(io::ErrorKind::StorageFull.into());
        }
        Verdict::Works
    }
}

fn position(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}
