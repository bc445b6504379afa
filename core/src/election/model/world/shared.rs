//! A part of a state that many states have in common.

extern crate std;

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    ops::{Deref, DerefMut},
    sync::OnceLock,
};

use alloc::sync::Arc;

/// A value that is copied only when it changes, and hashed once. A step changes one voter and its links; every state has all of them.
#[derive(Clone, Debug)]
pub(in super::super) struct Shared<T>(Arc<Hashed<T>>);

#[derive(Clone, Debug)]
struct Hashed<T> {
    value: T,
    hash: OnceLock<u64>,
}

impl<T: Hash> Shared<T> {
    pub(in super::super) fn new(value: T) -> Self {
        Self(Arc::new(Hashed { value, hash: OnceLock::new() }))
    }

    fn hashed(&self) -> u64 {
        *self.0.hash.get_or_init(|| {
            let mut hasher = DefaultHasher::new();
            self.0.value.hash(&mut hasher);
            hasher.finish()
        })
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        let own = Arc::make_mut(&mut self.0);
        own.hash = OnceLock::new();
        &mut own.value
    }
}

impl<T: Hash> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.hashed());
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.value == other.0.value
    }
}

impl<T: Eq> Eq for Shared<T> {}
