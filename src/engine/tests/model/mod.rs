//! One engine, and two on one store, against a small sequential model, under random interleavings
//! of requests, faults and time.
//!
//! A walk runs on one thread in paused time. Nothing happens in it by itself: each call to the
//! store and each completion step waits for its turn, bodies come frame by frame, and time stands
//! still until it is moved. A seed decides what is next, so it alone decides the whole walk. After
//! each step the store is looked at and the answers are judged, by what [`truth`] knows.
//!
//! `cargo test` walks a few seeds. `WINDLASS_SEEDS=5000` walks more of them, and a failure prints
//! its history and the seed to walk again: `WINDLASS_SEEDS=42..43`.

mod request;
mod stage;
mod truth;
mod walk;

use std::sync::Arc;

use self::walk::Walk;
use crate::store::{Store, memory::MemoryStore};

/// Seeds of `cargo test`.
const SEEDS: u64 = 80;

/// Opens the store that all nodes of a walk share.
type Open = Box<dyn Fn() -> Arc<dyn Store>>;

/// A new store in memory.
fn memory() -> Open {
    let store = MemoryStore::new();
    Box::new(move || Arc::new(store.clone()))
}

/// Walks one seed with so many engines; yields what happened, and what was wrong with it.
fn walk(seed: u64, nodes: usize, open: Open) -> (String, Result<(), String>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut walk = Walk::new(seed, nodes, open);
        let result = walk.run().await;
        (walk.history, result)
    })
}

/// The seeds to walk: `FROM..TO`, or how many.
fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("WINDLASS_SEEDS") else {
        return 0..SEEDS;
    };
    let number = |text: &str| text.parse().expect("WINDLASS_SEEDS is FROM..TO or a number");
    match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => 0..number(&text),
    }
}

fn walk_all(nodes: usize) {
    for seed in seeds() {
        let (history, result) = walk(seed, nodes, memory());
        if let Err(violation) = result {
            let again = format!("WINDLASS_SEEDS={seed}..{}", seed + 1);
            panic!("{history}\nseed {seed}, {nodes} engines: {violation}\nagain: {again}");
        }
    }
}

#[test]
fn engine_agrees_with_the_model() {
    walk_all(1);
}

#[test]
fn two_engines_on_one_store_agree_with_the_model() {
    walk_all(2);
}

#[test]
fn walk_of_a_seed_is_always_the_same() {
    for (seed, nodes) in (0..10).zip([1, 2].into_iter().cycle()) {
        let walk = || walk(seed, nodes, memory()).0;
        let (one, other) = (walk(), walk());
        for (one, other) in one.lines().zip(other.lines()) {
            assert_eq!(one, other, "seed {seed}");
        }
        assert_eq!(one.len(), other.len(), "seed {seed}");
    }
}
