//! Long records in blocks of the pool, where no scratch is to be had.
//!
//! A record is a chain of blocks; its place is the chain's number. Chains are dropped with their
//! buckets.

#![allow(unsafe_code)]

use std::sync::Mutex;

use corekit_base::sync::lock;

use crate::error::{Error, Result};
use crate::store::Store;

/// The chains of a run.
pub(crate) struct Memory<'a> {
    store: &'a Store,
    memory_limit: u64,
    chains: Mutex<Vec<Chain>>,
}

#[derive(Default)]
struct Chain {
    bucket: usize,
    blocks: Vec<u32>,
    len: usize,
}

impl<'a> Memory<'a> {
    pub fn new(store: &'a Store, memory_limit: u64) -> Self {
        Self {
            store,
            memory_limit,
            chains: Mutex::new(Vec::new()),
        }
    }

    /// Stores a record, or its first piece; returns its place.
    pub fn append(&self, bucket: usize, bytes: &[u8]) -> Result<u64> {
        let mut chains = lock(&self.chains);
        let place = chains.len();
        chains.push(Chain {
            bucket,
            ..Chain::default()
        });
        self.extend(&mut chains, place, bytes)?;
        Ok(place as u64)
    }

    /// Adds a piece to the record at `place`.
    pub fn append_to(&self, place: u64, bytes: &[u8]) -> Result<()> {
        self.extend(&mut lock(&self.chains), place as usize, bytes)
    }

    /// Gives all blocks back.
    pub fn clear(&self) {
        for chain in std::mem::take(&mut *lock(&self.chains)) {
            self.store.release_all(&chain.blocks);
        }
    }

    fn extend(&self, chains: &mut [Chain], place: usize, mut bytes: &[u8]) -> Result<()> {
        let size = self.store.block_bytes();
        while !bytes.is_empty() {
            if self.is_dropped(&chains[place]) {
                // It is read again in a later pass.
                return Ok(());
            }
            let chain = &mut chains[place];
            if chain.len == chain.blocks.len() * size {
                match self.store.try_allocate() {
                    Some(block) => chain.blocks.push(block),
                    None => self.make_room(chains)?,
                }
                continue;
            }
            let (number, at) = (chain.len / size, chain.len % size);
            let n = bytes.len().min(size - at);
            // SAFETY: the block was free and belongs to this chain, which is in our hands alone.
            let block = unsafe { self.store.view_mut(chain.blocks[number]) };
            block[at..at + n].copy_from_slice(&bytes[..n]);
            chain.len += n;
            bytes = &bytes[n..];
        }
        Ok(())
    }

    /// Whether a record's bucket was dropped since it was begun.
    fn is_dropped(&self, chain: &Chain) -> bool {
        chain.bucket >= self.store.open_end()
    }

    /// Drops what lies beyond the resident buckets, and then one of these.
    fn make_room(&self, chains: &mut [Chain]) -> Result<()> {
        let mut freed = false;
        for chain in chains.iter_mut().filter(|chain| self.is_dropped(chain)) {
            freed |= !chain.blocks.is_empty();
            self.store.release_all(&std::mem::take(&mut chain.blocks));
            chain.len = 0;
        }
        if freed || self.store.drop_highest() {
            return Ok(());
        }
        Err(does_not_fit(self.memory_limit))
    }

    /// Reads exactly `buf` at `offset` of the record at `place`.
    pub fn read_exact_at(&self, place: u64, offset: u64, buf: &mut [u8]) -> Result<()> {
        let size = self.store.block_bytes();
        let chains = lock(&self.chains);
        let chain = chains
            .get(place as usize)
            .filter(|c| c.len as u64 >= offset + buf.len() as u64);
        let chain = chain.ok_or_else(|| Error::Integrity("a long record lost its end".into()))?;
        let (mut at, mut done) = (offset as usize, 0);
        while done < buf.len() {
            let n = (buf.len() - done).min(size - at % size);
            // SAFETY: the chain is whole and nobody writes to its blocks any more.
            let block = unsafe { self.store.view(chain.blocks[at / size]) };
            buf[done..done + n].copy_from_slice(&block[at % size..at % size + n]);
            at += n;
            done += n;
        }
        Ok(())
    }
}

/// The error of an input that fits nowhere.
pub(crate) fn does_not_fit(memory_limit: u64) -> Error {
    Error::MemoryLimit(format!(
        "memory_limit of {memory_limit} bytes does not hold what cannot be read again by its place \
         (a pipe's records, a compressed file's long ones): allow scratch on a disk, or give a \
         larger memory_limit"
    ))
}
