//! A file's bytes: those that programs see, and those on the medium, page by page.

use std::{collections::BTreeMap, mem};

/// The piece of a file that reaches the medium whole or not at all.
const PAGE_BYTES: usize = 512;

/// Versions of pages, oldest first.
type Pages = BTreeMap<usize, Vec<Vec<u8>>>;

/// A file, by whatever names.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    /// What programs see.
    cache: Vec<u8>,
    /// What is on the medium.
    medium: Vec<u8>,
    /// What may reach the medium, and does with the next sync.
    dirty: Pages,
    /// What a failed sync forgot: it may have reached the medium, no later sync brings it there,
    /// and whether programs still see it is open.
    forgotten: Pages,
}

// === impl Node ===

impl Node {
    /// A file that holds these bytes, all of them safe.
    pub(super) fn safe(bytes: &[u8]) -> Self {
        let (cache, medium) = (bytes.to_vec(), bytes.to_vec());
        Self { cache, medium, ..Self::default() }
    }

    /// The bytes that programs see.
    pub(super) fn seen(&self) -> &[u8] {
        &self.cache
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: usize) {
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
            let version = page_of(&self.cache, page).to_vec();
            self.dirty.entry(page).or_default().push(version);
        }
    }

    pub(super) fn set_bytes(&mut self, bytes: usize) {
        self.cache.resize(bytes, 0);
        self.dirty.retain(|page, _versions| page * PAGE_BYTES < bytes);
        self.forgotten.retain(|page, _versions| page * PAGE_BYTES < bytes);
    }

    /// Brings what is dirty to the medium; what an earlier sync forgot stays forgotten.
    pub(super) fn sync(&mut self) {
        self.medium.resize(self.cache.len(), 0);
        for (page, versions) in mem::take(&mut self.dirty) {
            if let Some(bytes) = versions.last() {
                put_page(&mut self.medium, page, bytes);
            }
            self.forgotten.remove(&page);
        }
    }

    /// A sync that fails. Linux marks the pages clean all the same: the next sync has nothing to
    /// do for them.
    pub(super) fn forget(&mut self) {
        for (page, versions) in mem::take(&mut self.dirty) {
            self.forgotten.entry(page).or_default().extend(versions);
        }
    }

    /// What programs see once memory was short: a page that a failed sync forgot may be read anew
    /// from the medium.
    pub(super) fn evicted(&self, choose: &mut dyn FnMut(usize) -> usize) -> Self {
        let mut node = self.clone();
        for page in self.forgotten.keys().filter(|page| !self.dirty.contains_key(page)) {
            if choose(2) == 1 {
                let mut bytes = page_of(&self.medium, *page).to_vec();
                bytes.resize(page_of(&self.cache, *page).len(), 0);
                put_page(&mut node.cache, *page, &bytes);
                node.forgotten.remove(page);
            }
        }
        node
    }

    /// What is on the medium after a power loss.
    pub(super) fn survivor(&self, choose: &mut dyn FnMut(usize) -> usize) -> Self {
        let mut medium = self.medium.clone();
        // The length is the old one or the new one.
        if self.medium.len() != self.cache.len() && choose(2) == 1 {
            medium.resize(self.cache.len(), 0);
        }
        for pages in [&self.forgotten, &self.dirty] {
            for (page, versions) in pages {
                let Some(version) = choose(versions.len() + 1).checked_sub(1) else { continue };
                let Some(bytes) = versions.get(version) else { continue };
                put_page(&mut medium, *page, bytes);
            }
        }
        Self::safe(&medium)
    }
}

fn page_of(bytes: &[u8], page: usize) -> &[u8] {
    let start = page * PAGE_BYTES;
    let end = (start + PAGE_BYTES).min(bytes.len());
    bytes.get(start..end).unwrap_or_default()
}

/// Bytes behind the end of the file are not there, whatever reached the medium.
fn put_page(bytes: &mut [u8], page: usize, version: &[u8]) {
    let start = page * PAGE_BYTES;
    let end = (start + version.len()).min(bytes.len());
    let reached = version.get(..end.saturating_sub(start)).unwrap_or_default();
    if let Some(place) = bytes.get_mut(start..end) {
        place.copy_from_slice(reached);
    }
}
