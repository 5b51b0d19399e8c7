//! Ranks that are threads of one process: for tests, which need no MPI so.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::Collective;
use crate::base::error::{Error, Result};

/// A rank that is a thread.
#[derive(Debug)]
pub struct Thread {
    rank: usize,
    hub: Arc<Hub>,
}

/// Where they meet.
#[derive(Debug)]
struct Hub {
    state: Mutex<State>,
    changed: Condvar,
}

/// One exchange after another: all bring their parts, and then all take the others' away.
#[derive(Debug)]
struct State {
    /// What each has brought, until all have taken it.
    brought: Vec<Option<Vec<u8>>>,
    /// How many have taken all away, once all have brought theirs.
    taken: usize,
    /// What was sent and not received yet, by sender and receiver: `[from, to]`.
    sent: Vec<VecDeque<Vec<u8>>>,
    /// Who takes part no longer.
    left: Option<usize>,
}

impl State {
    fn is_complete(&self) -> bool {
        self.brought.iter().all(Option::is_some)
    }
}

/// This many ranks, each for a thread of its own.
pub fn in_threads(size: usize) -> Vec<Thread> {
    let sent = vec![VecDeque::new(); size * size];
    let state = State { brought: vec![None; size], taken: 0, sent, left: None };
    let hub = Arc::new(Hub { state: Mutex::new(state), changed: Condvar::new() });
    (0..size).map(|rank| Thread { rank, hub: hub.clone() }).collect()
}

impl Hub {
    /// What it holds is whole at any time, so a panic elsewhere does no harm.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is so, unless someone has left.
    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        is_so: impl Fn(&State) -> bool,
    ) -> Result<MutexGuard<'a, State>> {
        let waits = |state: &mut State| !is_so(state) && state.left.is_none();
        let state = self.changed.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner);
        match state.left {
            Some(rank) if !is_so(&state) => {
                Err(Error::Rank { rank, why: "it has left".to_owned() })
            }
            _ => Ok(state),
        }
    }
}

impl Collective for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.hub.state().brought.len()
    }

    fn all_gather(&self, all: &mut [u8], parts: &[Range<usize>]) -> Result<()> {
        // Until the exchange before is over.
        let mut state = self.hub.wait(self.hub.state(), |state| !state.is_complete())?;
        state.brought[self.rank] = Some(all[parts[self.rank].clone()].to_vec());
        self.hub.changed.notify_all();
        let mut state = self.hub.wait(state, State::is_complete)?;
        for (part, brought) in parts.iter().zip(&state.brought) {
            all[part.clone()].copy_from_slice(brought.as_deref().unwrap_or_default());
        }
        state.taken += 1;
        if state.taken == parts.len() {
            state.taken = 0;
            state.brought.fill(None);
            self.hub.changed.notify_all();
        }
        Ok(())
    }

    fn send(&self, to: usize, bytes: &[u8]) -> Result<()> {
        let size = self.size();
        self.hub.state().sent[self.rank * size + to].push_back(bytes.to_vec());
        self.hub.changed.notify_all();
        Ok(())
    }

    fn receive(&self, from: usize, bytes: &mut [u8]) -> Result<()> {
        let at = from * self.size() + self.rank;
        let mut state = self.hub.wait(self.hub.state(), |state| !state.sent[at].is_empty())?;
        bytes.copy_from_slice(&state.sent[at].pop_front().unwrap_or_default());
        Ok(())
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        let mut state = self.hub.state();
        state.left = state.left.or(Some(self.rank));
        self.hub.changed.notify_all();
    }
}
