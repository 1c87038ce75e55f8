//! What is remembered of tokens that were seen, and while it may be relied on. Pure: no database, and the clock is the
//! caller's.
//!
//! An entry stands for the signature and the claims of a token, for good: it is found by a digest of the token's bytes,
//! and made after full verification alone. For the token being live it stands only while three things hold: the process
//! has a lease; nothing was forgotten since that the entry rests on; and the entry was read under a lease.
//!
//! To forget is to stamp. Each token rests on four places of one table of stamps, drawn from its id, session, subject
//! and key. Forgetting any of these writes the next tick to its place, and an entry is good only where none of its
//! places has a later stamp than the tick at which its reading began. So forgetting a subject with a million tokens is
//! one store, there is no index to keep, and a reading that was under way when the change came is void by itself. Two
//! things that share a place by chance cost a reading, never a wrong answer.

use std::hash::Hasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Weighter, sync::DefaultLifecycle};
use siphasher::sip::SipHasher13;
use siphasher::sip128::{Hasher128, SipHasher13 as SipHasher13x128};
use uuid::Uuid;

use crate::token::{Claims, Target, TokenType};

/// How many places the table of stamps has; 8 bytes each. One change makes 4 in this many of the remembered tokens be
/// read again.
const PLACES: usize = 1 << 18;

/// What the cache itself needs for an entry, in bytes: key, value, links and its share of the index.
const SLOT_BYTES: u64 = 96;
/// How far the allocator rounds up, on the average, in bytes.
const ROUNDING_BYTES: usize = 8;
/// What an entry takes about, in bytes: for the first size of the index.
const ENTRY_BYTES: u64 = 600;

/// The key of an entry: a keyed 128-bit digest of the token's bytes (SipHash-1-3). The key is random and stays in the
/// process, and nobody is shown a digest, so nobody can make a token that has another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Digest(u128);

/// A verified token: what a signature and a record vouch for. What every check looks at comes first, and lies together.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Known {
    places: [u32; 4],
    /// Whether its issuer and its audience are this registry's own, by the settings.
    pub(super) is_own: bool,
    /// Whether it opens the console, and nothing else.
    pub(super) is_console: bool,
    /// Whether it was issued elsewhere, so that its record speaks first.
    pub(super) imported: bool,
    /// Whether it has a record that decides; otherwise its signature and its times alone do.
    pub(super) recorded: bool,
    pub(super) token_type: TokenType,
    /// When it expires, by its claims or by its record, whichever is sooner.
    pub(super) exp: i64,
    pub(super) nbf: i64,
    /// When its last use was noted, in the steps of that setting.
    pub(super) last_noted: AtomicI64,
    /// Of the claims as the record has them.
    pub(super) record_digest: u64,
    /// The key that signed it.
    pub(super) kid: Box<str>,
    /// Whether that key is to be asked about, since no record answers for it.
    pub(super) asks_key: bool,
    pub(super) claims: Claims,
}

impl Known {
    fn bytes(&self) -> u64 {
        let claims = &self.claims;
        let texts = [claims.iss.len(), claims.sub.as_str().len(), claims.client_id.len(), self.kid.len()];
        let audiences = claims.aud.iter().map(|aud| aud.len() + size_of::<String>());
        let scopes = claims.scope.iter().map(|scope| scope.len() + size_of::<String>());
        // Any further claims as their JSON would be, and as much again for its parts.
        let extra = claims.extra.iter().map(|(name, value)| name.len() + 64 + 2 * value.to_string().len());
        let parts =
            texts.into_iter().chain(audiences).chain(scopes).chain(extra).chain(claims.csrf.as_ref().map(String::len));
        let heap: usize = parts.map(|part| part + ROUNDING_BYTES).sum();
        SLOT_BYTES + (size_of::<Self>() + 2 * size_of::<usize>() + ROUNDING_BYTES + heap) as u64
    }
}

/// An entry: the token, and the tick at which the reading of its record began; 0 where that vouches for nothing.
#[derive(Debug, Clone)]
struct Entry {
    known: Arc<Known>,
    tick: u64,
}

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<Digest, Entry> for ByBytes {
    fn weight(&self, _: &Digest, entry: &Entry) -> u64 {
        entry.known.bytes()
    }
}

/// A reading that is under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    tick: u64,
}

/// What is known of a token's bytes.
#[derive(Debug, Clone)]
pub(super) struct Recalled {
    pub(super) known: Arc<Known>,
    /// Whether it can be relied on to be live, too.
    pub(super) is_live: bool,
}

pub(super) struct Memory {
    keys: (u64, u64),
    entries: Cache<Digest, Entry, ByBytes, DefaultHashBuilder, DefaultLifecycle<Digest, Entry>>,
    /// The tick at which what rests on each place was last forgotten.
    stamps: Box<[AtomicU64]>,
    /// How often anything was forgotten, and one.
    tick: AtomicU64,
    /// Entries from before this tick are forgotten.
    floor: AtomicU64,
    /// The end of the lease by the steady clock, in nanoseconds.
    until: AtomicU64,
}

impl Memory {
    pub(super) fn new(bytes_max: u64) -> Self {
        let items = usize::try_from(bytes_max / ENTRY_BYTES).unwrap_or(usize::MAX);
        Self {
            // 122 random bits of the operating system.
            keys: Uuid::new_v4().as_u64_pair(),
            entries: Cache::with(items, bytes_max, ByBytes, DefaultHashBuilder::default(), DefaultLifecycle::default()),
            stamps: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
            tick: AtomicU64::new(1),
            floor: AtomicU64::new(1),
            until: AtomicU64::new(0),
        }
    }

    pub(super) fn digest(&self, token: &str) -> Digest {
        let mut hasher = SipHasher13x128::new_with_keys(self.keys.0, self.keys.1);
        hasher.write(token.as_bytes());
        Digest(hasher.finish128().as_u128())
    }

    /// What is known of the bytes with this digest. `now` is a time of the steady clock taken in this very check: the
    /// lease is looked at first, and only then what rests on it, so that a process that was stopped in between is not
    /// fooled.
    pub(super) fn recall(&self, digest: Digest, now: Duration) -> Option<Recalled> {
        let is_leased = self.is_leased(now);
        let Entry { known, tick } = self.entries.get(&digest)?;
        let is_live = is_leased
            && tick >= self.floor.load(Ordering::Acquire)
            // Where nothing at all was forgotten since, no place has to be looked at, each of which lies somewhere
            // else.
            && (tick >= self.tick.load(Ordering::Acquire)
                || known.places.iter().all(|place| self.stamp(*place).load(Ordering::Acquire) <= tick));
        Some(Recalled { known, is_live })
    }

    pub(super) fn is_leased(&self, now: Duration) -> bool {
        nanos(now) < self.until.load(Ordering::Acquire)
    }

    /// Begins a reading; to be called before the database is asked. `None` outside of a lease: what is read then can't
    /// be relied on later.
    pub(super) fn begin(&self, now: Duration) -> Option<Reading> {
        self.is_leased(now).then(|| Reading { tick: self.tick.load(Ordering::Acquire) })
    }

    /// Whether what was read of a subject may still be relied on. `now` as for [`recall`](Self::recall).
    pub(super) fn vouches_for(&self, subject: &str, reading: Reading, now: Duration) -> bool {
        self.is_leased(now)
            && reading.tick >= self.floor.load(Ordering::Acquire)
            && self.stamp(self.place(2, subject.as_bytes())).load(Ordering::Acquire) <= reading.tick
    }

    /// Remembers a token that was found to be live by this reading, or whose bytes alone are known.
    pub(super) fn remember(&self, digest: Digest, known: Arc<Known>, reading: Option<Reading>) {
        let tick = reading.map_or(0, |reading| reading.tick);
        self.entries.insert(digest, Entry { known, tick });
    }

    /// A verified token, to be remembered, with its record's claims where it has one.
    pub(super) fn known(&self, claims: Claims, kid: &str, record: Option<&str>, imported: bool, is_own: bool) -> Known {
        let places = [
            self.place(0, claims.jti.as_uuid().as_bytes()),
            self.place(1, claims.sid.as_uuid().as_bytes()),
            self.place(2, claims.sub.as_str().as_bytes()),
            self.place(3, kid.as_bytes()),
        ];
        let record_digest = self.record_digest(record.unwrap_or_default());
        let (recorded, last_noted) = (record.is_some(), AtomicI64::new(i64::MIN));
        let (token_type, exp, nbf) = (claims.token_type, claims.exp, claims.nbf);
        Known {
            places,
            is_own,
            is_console: claims.is_console(),
            imported,
            recorded,
            token_type,
            exp,
            nbf,
            last_noted,
            record_digest,
            kid: kid.into(),
            asks_key: false,
            claims,
        }
    }

    pub(super) fn record_digest(&self, claims: &str) -> u64 {
        self.hash(4, claims.as_bytes())
    }

    /// Forgets what it knows of these.
    pub(super) fn forget<'a>(&self, targets: impl IntoIterator<Item = &'a Target>) {
        let mut targets = targets.into_iter().peekable();
        if targets.peek().is_none() {
            return;
        }
        // The tick first: a reading that begins after it sees the change, and one that began before is void.
        let tick = self.next_tick();
        for target in targets {
            let place = match target {
                Target::Token(jti) => self.place(0, jti.as_uuid().as_bytes()),
                Target::Session(sid) => self.place(1, sid.as_uuid().as_bytes()),
                Target::Subject(subject) => self.place(2, subject.as_str().as_bytes()),
                Target::Key(kid) => self.place(3, kid.as_bytes()),
            };
            self.stamp(place).fetch_max(tick, Ordering::AcqRel);
        }
    }

    /// Forgets that any token was live. The bytes stay known.
    pub(super) fn forget_everything(&self) {
        let tick = self.next_tick();
        self.floor.fetch_max(tick, Ordering::AcqRel);
    }

    /// Relies on what is remembered until this time of the steady clock. To be called after everything that this lease
    /// rests on has been forgotten.
    pub(super) fn rely_until(&self, until: Duration) {
        self.until.store(nanos(until), Ordering::Release);
    }

    /// How many tokens are remembered, and the bytes they take.
    pub(super) fn size(&self) -> (usize, u64) {
        (self.entries.len(), self.entries.weight())
    }

    fn next_tick(&self) -> u64 {
        self.tick.fetch_add(1, Ordering::AcqRel) + 1
    }

    fn place(&self, kind: u8, id: &[u8]) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "the table has fewer places than 32 bits can name")]
        let place = (self.hash(kind, id) % PLACES as u64) as u32;
        place
    }

    fn hash(&self, kind: u8, bytes: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.keys.1, self.keys.0);
        hasher.write_u8(kind);
        hasher.write(bytes);
        hasher.finish()
    }

    fn stamp(&self, place: u32) -> &AtomicU64 {
        &self.stamps[place as usize]
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
