//! What a database has to do: the trait `Store`.

use super::*;

/// Every verb fails with `Kind::Unavailable` where the database can't be asked, and has then done nothing or all.
#[async_trait]
pub(crate) trait Store: Send + Sync + std::fmt::Debug {
    // The database itself.

    /// Compares the schema with this program's. A database that is not there at all, refuses the log-in, is in
    /// another encoding than UTF8, or has its registry behind another schema of the path, is `Kind::Config`; one that
    /// can't be reached is `Kind::Unavailable`.
    async fn schema(&self) -> Result<Schema, Error>;
    /// Applies the missing migrations, one process at a time, and names them.
    async fn migrate(&self) -> Result<Vec<String>, Error>;
    /// The database's own time.
    async fn time(&self) -> Result<DateTime<Utc>, Error>;
    fn pool_use(&self) -> PoolUse;
    /// How many calls of [`insert`](Self::insert) at once get on faster than one after the other.
    fn inserts_at_once(&self) -> u32;
    /// The same of [`status`](Self::status).
    fn checks_at_once(&self) -> u32;
    async fn close(&self);

    // Tokens and sessions.

    /// The generation of each of these, in order; 0 for one that has no row yet.
    async fn generations(&self, asked: &[Subject]) -> Result<Vec<Generation>, Error>;
    /// Puts the tokens of each on the registry, all of one or none; the inserts don't depend on each other, but a
    /// duplicate id fails them all. What became of each, in order.
    async fn insert(&self, inserts: &[Insert]) -> Result<Vec<Inserted>, Error>;
    /// Puts one insert of a new session on the registry where the subject then has no more than the cap.
    async fn insert_capped(&self, insert: &Insert, cap: Cap) -> Result<Done<Capped>, Error>;
    /// Spends a refresh token for another, or finds out what else it means that it is presented.
    async fn rotate(&self, asked: &Rotation) -> Result<Done<Rotated>, Error>;
    /// What a check needs to know of each of these, in order.
    async fn status(&self, ids: &[Jti]) -> Result<Vec<Option<Status>>, Error>;
    /// What a refresh with this token grants; `None` where there is no such refresh token.
    async fn refreshable(&self, jti: Jti) -> Result<Option<Refreshable>, Error>;
    async fn record(&self, jti: Jti) -> Result<Option<Record>, Error>;
    /// One page, newest first. `live_at` is the time that [`State`](crate::token::State) is judged by, leeway already
    /// taken off. It looks at no more than `walk_max` records beyond the cursor, however few of them are asked for.
    async fn list(&self, filter: &Filter, live_at: i64, walk_max: u32) -> Result<RecordPage, Error>;
    /// Sets or clears the label of a record of this subject, and of the session that it belongs to; whether there is
    /// one.
    async fn set_label(&self, jti: Jti, subject: &Subject, label: Option<&str>) -> Result<bool, Error>;
    /// One page of live sessions, newest first; `current` is always `false`.
    async fn sessions(
        &self,
        subject: &Subject,
        live_at: i64,
        after: Option<Cursor>,
        limit: u16,
    ) -> Result<SessionPage<Session>, Error>;
    /// Notes when tokens were last used, and with them when their sessions were last seen.
    async fn touch(&self, used: &[(Jti, i64)]) -> Result<(), Error>;

    // Changes. Each writes its audit entry, and what others have to hear of it, in the same transaction.

    /// Revokes records, no two of one id. Revoking a revoked one again keeps the first time; an actor of higher
    /// standing than the first (anyone but the subject, over the subject) takes the revocation over, and so does a
    /// final one. What became of each, in order.
    async fn revoke(&self, asked: &[Revoke]) -> Result<Vec<Done<Revoked>>, Error>;
    /// `live_at` is the time that expiry is judged by, leeway already taken off.
    async fn unrevoke(&self, jti: Jti, act: &Act, now: i64, live_at: i64) -> Result<Done<Unrevoked>, Error>;
    /// Ends a session for good; how many live tokens that revoked, `None` where there is no such session within reach.
    async fn end_session(&self, sid: Sid, act: &Act, now: i64, live_at: i64) -> Result<Done<Option<u64>>, Error>;
    /// Ends all sessions of a subject, but for one to keep; how many live tokens that revoked. A subject that never
    /// had a token gets a row all the same, so that a log-in under way is superseded.
    async fn end_subject(
        &self,
        subject: &Subject,
        keep: Option<Sid>,
        act: &Act,
        now: i64,
        live_at: i64,
    ) -> Result<Done<u64>, Error>;

    // Coherence: the roll of replicas and the log of changes. A replica asks over a connection of its own.

    /// Enters a replica on the roll in the place of an earlier one of the same process; where it stands.
    async fn join(&self, id: Uuid, name: &str, lease_ms: i64, instead_of: Option<Uuid>) -> Result<Position, Error>;
    /// Gives a replica its next lease: says that it has applied all changes up to this position, and tells it of those
    /// since, durably. `None` where it is not on the roll any more, or the log doesn't have its position.
    async fn renew(&self, id: Uuid, applied: Position) -> Result<Option<News>, Error>;
    /// The same between two renewals, without a lease, so that what is said may be lost in a crash.
    async fn hear(&self, id: Uuid, applied: Position) -> Result<Option<News>, Error>;
    /// The last change there is.
    async fn position(&self) -> Result<Position, Error>;
    /// Takes a replica from the roll.
    async fn leave(&self, id: Uuid) -> Result<(), Error>;
    /// All replicas and the last change, as of one moment.
    async fn roll(&self) -> Result<Roll, Error>;
    /// Takes those from the roll that have not been told of this change. They may no longer rely on what they remember.
    async fn mark_out(&self, ids: &[Uuid], untold: Position) -> Result<(), Error>;
    /// Removes up to `rows_max` entries of the log from before `cutoff`, the first of it: what is kept has no gaps.
    async fn purge_changes(&self, cutoff: i64, rows_max: u32) -> Result<u64, Error>;
    /// Waits until the database says that something may have changed; `false` where it can't say so. It says so once,
    /// and that may be lost: so whoever waits also asks from time to time.
    async fn woken(&self) -> bool;

    // The feed of revocations, which is the log as other services see it.

    /// The first `limit` events after a number, or from now on; `None` where that number is older than what is kept, or
    /// there is no such number yet. `serves` are the audiences that the asker is limited to: it is told of what is
    /// about their tokens, of keys, and of what has no record left to tell by before it has expired. Imported tokens of
    /// another form than our own are for the `issuer`.
    async fn feed(
        &self,
        after: Option<i64>,
        limit: u16,
        serves: Option<&[String]>,
        issuer: &str,
        now: i64,
    ) -> Result<Option<FeedPage>, Error>;

    // Work that one process at a time does.

    /// Takes or extends the lease on a job for `holder`; whether it has it.
    async fn hold_job(&self, job: Job, holder: Uuid, now: i64, until: i64) -> Result<bool, Error>;
    /// Gives it back.
    async fn release_job(&self, job: Job, holder: Uuid) -> Result<(), Error>;

    // Purge.

    /// Removes up to `rows_max` tokens with `from <= expires_at < cutoff`, oldest first.
    async fn purge_batch(&self, from: i64, cutoff: i64, rows_max: u32) -> Result<PurgedBatch, Error>;
    /// Removes up to `rows_max` sessions that expired in this span of time and have no tokens left, and the subjects
    /// that are idle with them. Returns how many sessions went.
    async fn purge_sessions(&self, expired: &Range<i64>, rows_max: u32) -> Result<u64, Error>;
    /// Removes up to `rows_max` of each of what else is left behind: endings, subjects, log-in limits, repeats. A row
    /// goes only when nothing that could still be presented needs it. Returns how many rows went in all.
    async fn purge_remains(&self, cutoff: i64, now_ms: i64, rows_max: u32) -> Result<u64, Error>;
    /// Removes up to `rows_max` audit entries from before `cutoff`.
    async fn purge_audit(&self, cutoff: i64, rows_max: u32) -> Result<u64, Error>;
    /// How many tokens expired before `cutoff`, counted up to `at_most`.
    async fn purgeable(&self, cutoff: i64, at_most: i64) -> Result<u64, Error>;
    /// How many records are held; an estimate where counting would be slow.
    async fn records_held(&self) -> Result<u64, Error>;

    // Audit.

    async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditEvent>, Error>;

    // Looking closely, for administrators.

    /// What is behind the state of a record; `None` where there is no such record.
    async fn particulars(&self, jti: Jti) -> Result<Option<Particulars>, Error>;
    /// The last `limit` audit entries since `since` that name one of these targets, or all of this subject; newest
    /// first.
    async fn history(
        &self,
        targets: &[String],
        subject: &Subject,
        since: i64,
        limit: u16,
    ) -> Result<Vec<AuditEvent>, Error>;
    /// A session, ended or not.
    async fn session(&self, sid: Sid) -> Result<Option<SessionRecord>, Error>;
    /// One page of a subject's sessions, ended or not, newest first.
    async fn all_sessions(
        &self,
        subject: &Subject,
        after: Option<Cursor>,
        limit: u16,
    ) -> Result<SessionPage<SessionRecord>, Error>;
    /// Writes into the audit who asked for a purge.
    async fn note_purge_asked(&self, act: &Act, now: i64) -> Result<(), Error>;
    /// Notes how far a run of the purge has come, and forgets all runs but the last [`PURGE_RUNS_KEPT`].
    async fn note_purge_run(&self, run: &PurgeRun) -> Result<(), Error>;
    /// The runs of the purge that are kept, the last first, and who holds the lease on it after `now`.
    async fn purge_runs(&self, now: i64) -> Result<(Vec<PurgeRun>, Option<Uuid>), Error>;

    // Users of the server.

    async fn user(&self, username: &Subject) -> Result<Option<StoredUser>, Error>;
    /// By name, from after `after` on.
    async fn users(&self, after: Option<&str>, limit: u16) -> Result<Vec<StoredUser>, Error>;
    /// Whether it was added: `false` where there is one of that name. Ends what tokens the subject may have had, so
    /// that a name taken again doesn't inherit them.
    async fn add_user(&self, user: &StoredUser, act: &Act, now: i64) -> Result<Done<bool>, Error>;
    /// The registry's first administrator, once ever: `true` where this call added it. Where there are users already
    /// it is settled too, without one.
    async fn add_first_admin(&self, user: &StoredUser, act: &Act, now: i64) -> Result<Done<bool>, Error>;
    /// Whether [`add_first_admin`](Self::add_first_admin) is still to be settled.
    async fn needs_first_admin(&self) -> Result<bool, Error>;
    /// Disabling ends the user's sessions; access tokens that hold a scope which is taken away are revoked for good.
    async fn set_user(
        &self,
        username: &Subject,
        change: UserChange<'_>,
        act: &Act,
        now: i64,
    ) -> Result<Done<UserChanged>, Error>;
    /// Sets the password's hash, and ends sessions where that is asked for. Where it is to replace one hash, it does so
    /// only while that is still the user's. Forgets where the user logged in, but for the address where the replaced
    /// password was proved. Whether it was set.
    async fn set_password(
        &self,
        username: &Subject,
        password_hash: &str,
        replacing: Option<Replaced<'_>>,
        ends: Option<EndSessions>,
        act: &Act,
        now: i64,
    ) -> Result<Done<bool>, Error>;
    /// Replaces the hash of an unchanged password (new parameters), only where it is still `old`.
    async fn rehash_password(&self, username: &Subject, old: &str, new: &str) -> Result<(), Error>;
    /// Removes the user and ends its sessions; whether there was one.
    async fn delete_user(&self, username: &Subject, act: &Act, now: i64) -> Result<Done<bool>, Error>;
    /// Whether the user logged in from this address after `since`.
    async fn knows_address(&self, username: &Subject, address: &str, since: i64) -> Result<bool, Error>;
    /// Notes that the user logged in from this address with the password of this hash, unless it is another one by now.
    async fn note_address(&self, username: &Subject, address: &str, password_hash: &str, now: i64)
    -> Result<(), Error>;

    // Clients.

    async fn client(&self, client_id: &str) -> Result<Option<StoredClient>, Error>;
    /// By its id or its name.
    async fn find_client(&self, id_or_name: &str) -> Result<Option<StoredClient>, Error>;
    /// By name, from after `after` on.
    async fn clients(&self, after: Option<&str>, limit: u16) -> Result<Vec<StoredClient>, Error>;
    /// Whether it was added: `false` where there is one of that name.
    async fn add_client(&self, client: &StoredClient, act: &Act, now: i64) -> Result<bool, Error>;
    /// Disabling, and taking a scope away, ends the client's own tokens. Every change is one that processes have to
    /// hear of.
    async fn set_client(
        &self,
        client_id: &str,
        change: &ClientChange,
        act: &Act,
        now: i64,
    ) -> Result<Done<ClientChanged>, Error>;
    /// Gives it another secret, beside which the one before is good until `old_until`; whether there is such a client.
    async fn rotate_client_secret(
        &self,
        client_id: &str,
        digest: &Sha256,
        old_until: Option<i64>,
        act: &Act,
        now: i64,
    ) -> Result<Done<bool>, Error>;
    /// Removes it and ends its own tokens; whether there was one.
    async fn delete_client(&self, client_id: &str, act: &Act, now: i64) -> Result<Done<bool>, Error>;
    /// Notes what a client asks for under a key, and gives what it asked for first.
    async fn repeat(&self, client_id: &str, key: &str, asked: &Repeat) -> Result<Option<Repeat>, Error>;
    /// Takes back that note, which names this access token, where nothing was issued for it.
    async fn forget_repeat(&self, client_id: &str, key: &str, access: Jti) -> Result<(), Error>;

    // Keys.

    /// All that are not removed yet, the last published first. Whoever follows asks over its own connection: what it
    /// learns here it has to know before its lease goes on.
    async fn keys(&self, follows: bool) -> Result<Vec<StoredKey>, Error>;
    /// Whether each of these keys was retired, in order.
    async fn retired(&self, kids: &[String]) -> Result<Vec<bool>, Error>;
    /// Puts the first two keys into a table that has none which signs: one that signs and the next. Whether it did.
    async fn add_keys(&self, current: &NewKey, next: &NewKey, act: &Act, now: i64) -> Result<Done<bool>, Error>;
    /// Publishes another next key in the place of `unused`; whether that one was still the next.
    async fn replace_next(&self, unused: &str, fresh: &NewKey, act: &Act, now: i64) -> Result<Done<bool>, Error>;
    /// Lets the next key sign from now on, keeps the current one as `replaced` says, and publishes a fresh next.
    /// Whether those two were still the current and the next.
    async fn rotate_keys(&self, rotation: &KeyRotation<'_>, act: &Act, now: i64) -> Result<Done<bool>, Error>;
    /// Retires a key for good. Where it is a current key the next takes its place, and for either a fresh next is
    /// published.
    async fn retire_key(&self, retire: &Retire<'_>, act: &Act, now: i64) -> Result<Done<Retired>, Error>;
    /// Replaces what is sealed, each only where it is what it was, and all or none; whether it did.
    async fn reseal_keys(&self, anew: &[Resealed], act: &Act, now: i64) -> Result<bool, Error>;
    /// Removes previous keys that were replaced before this time, and whose last recorded token expired before
    /// `cutoff`.
    async fn purge_keys(&self, replaced_before: i64, cutoff: i64, act: &Act, now: i64) -> Result<Done<u64>, Error>;

    // Failed log-ins (GCRA: a theoretical arrival time for each name).

    /// The theoretical arrival times of these names, in milliseconds; a name without one has 0.
    async fn login_arrivals(&self, names: &[String]) -> Result<Vec<i64>, Error>;
    /// Counts a failure: moves each name's time on by its interval, from now or from where it stands.
    async fn login_failed(&self, names: &[(String, i64)], now_ms: i64) -> Result<(), Error>;
}
