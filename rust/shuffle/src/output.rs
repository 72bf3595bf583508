//! The output: where records are copied to, in their order, and how it reaches its destination.
//!
//! A worker copies its records through a [`cursor`]. For files and streams that is a place in the
//! window of [`frames`], which are written as they fill up, encoded if need be ([`encode`],
//! [`append`]). The [`layout`] tells which records go to which file, and the [`sections`] are these
//! files while they are written, each with its head ([`npy`]).
//!
//! The [`destination`] is one file, a stream, or a set of files ([`shard_set`]) that are named by a
//! [`pattern`]. When all is written there is an [`outcome`], and publishing it is the last step.
//!
//! For a reader in this process the cursor is a place in the pages of its [`feed`], and nothing is
//! written.

pub(crate) mod append;
pub(crate) mod cursor;
pub(crate) mod destination;
pub(crate) mod encode;
pub(crate) mod feed;
pub(crate) mod frames;
pub(crate) mod layout;
pub(crate) mod npy;
pub(crate) mod outcome;
pub(crate) mod pattern;
pub(crate) mod sections;
pub(crate) mod shard_set;
