//! Sessions for callers on many threads: a session runs one call at a time, so there are as many as calls at once, up to
//! the number of threads.

use std::{
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use openclip_core::Result;
use ort::session::Session;

use super::session::SessionMaker;

/// Sessions of one model.
pub struct SessionPool {
    maker: SessionMaker,
    limit: usize,
    sessions: Mutex<Sessions>,
    returned: Condvar,
}

struct Sessions {
    idle: Vec<Session>,
    /// Idle, lent, and about to be made.
    count: usize,
}

impl SessionPool {
    /// A pool that begins with one session; others are made when calls come at once.
    pub fn new(maker: SessionMaker) -> Result<Self> {
        let sessions = Sessions { idle: vec![maker.make()?], count: 1 };
        let limit = maker.useful_sessions();
        Ok(Self { maker, limit, sessions: Mutex::new(sessions), returned: Condvar::new() })
    }

    /// Runs `call` on a session that nobody else uses meanwhile.
    pub fn run<T>(&self, call: impl FnOnce(&mut Session) -> Result<T>) -> Result<T> {
        let (place, mut session) = self.take()?;
        let result = call(&mut session);
        place.give_back(session);
        result
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Result<(Place<'_>, Session)> {
        let mut sessions = self.lock();
        loop {
            if let Some(session) = sessions.idle.pop() {
                return Ok((Place { pool: self }, session));
            }
            if sessions.count < self.limit {
                sessions.count += 1;
                drop(sessions);
                let place = Place { pool: self };
                return Ok((place, self.maker.make()?));
            }
            sessions = self.returned.wait(sessions).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A session's place in the pool. It becomes free when the session couldn't be made or its caller panicked.
struct Place<'a> {
    pool: &'a SessionPool,
}

impl Place<'_> {
    fn give_back(self, session: Session) {
        self.pool.lock().idle.push(session);
        self.pool.returned.notify_one();
        mem::forget(self);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.pool.lock().count -= 1;
        self.pool.returned.notify_one();
    }
}
