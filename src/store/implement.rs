//! How both databases do what `Store` says, written once: each verb is the database's own function of that name, tried
//! again where another transaction came first, given up where no answer comes, and its error told apart.

/// Implements `Store` for a database whose functions of the same names return `Result<_, sqlx::Error>`. It has the
/// constants `ANSWER_LIMIT`, `FOLLOW_LIMIT`, `SWEEP_LIMIT`, `INSERTS_AT_ONCE` and `CHECKS_AT_ONCE`, and `schema`,
/// `migrate`, `pool_use`, `woken` and `close` as the trait wants them.
macro_rules! implement_store {
    ($database:ty) => {
        implement_store! {
            $database;
            ANSWER_LIMIT {
                fn time() -> DateTime<Utc>;
                fn generations(asked: &[Subject]) -> Vec<Generation>;
                fn insert(inserts: &[Insert]) -> Vec<Inserted>;
                fn insert_capped(insert: &Insert, cap: Cap) -> Done<Capped>;
                fn rotate(asked: &Rotation) -> Done<Rotated>;
                fn status(ids: &[Jti]) -> Vec<Option<Status>>;
                fn refreshable(jti: Jti) -> Option<Refreshable>;
                fn record(jti: Jti) -> Option<Record>;
                fn list(filter: &Filter, live_at: i64, walk_max: u32) -> RecordPage;
                fn set_label(jti: Jti, subject: &Subject, label: Option<&str>) -> bool;
                fn sessions(subject: &Subject, live_at: i64, after: Option<Cursor>, limit: u16) -> SessionPage<Session>;
                fn revoke(asked: &[Revoke]) -> Vec<Done<Revoked>>;
                fn unrevoke(jti: Jti, act: &Act, now: i64, live_at: i64) -> Done<Unrevoked>;
                fn end_session(sid: Sid, act: &Act, now: i64, live_at: i64) -> Done<Option<u64>>;
                fn end_subject(subject: &Subject, keep: Option<Sid>, act: &Act, now: i64, live_at: i64)
                    -> Done<u64>;
                fn roll() -> Roll;
                fn mark_out(ids: &[Uuid], untold: Position) -> ();
                fn hold_job(job: Job, holder: Uuid, now: i64, until: i64) -> bool;
                fn release_job(job: Job, holder: Uuid) -> ();
                fn feed(after: Option<i64>, limit: u16, serves: Option<&[String]>, issuer: &str, now: i64)
                    -> Option<FeedPage>;
                fn audit(filter: &AuditFilter) -> Vec<AuditEvent>;
                // Looking closely.
                fn particulars(jti: Jti) -> Option<Particulars>;
                fn history(targets: &[String], subject: &Subject, since: i64, limit: u16) -> Vec<AuditEvent>;
                fn session(sid: Sid) -> Option<SessionRecord>;
                fn all_sessions(subject: &Subject, after: Option<Cursor>, limit: u16) -> SessionPage<SessionRecord>;
                fn note_purge_asked(act: &Act, now: i64) -> ();
                fn note_purge_run(run: &PurgeRun) -> ();
                fn purge_runs(now: i64) -> (Vec<PurgeRun>, Option<Uuid>);
                fn user(username: &Subject) -> Option<StoredUser>;
                fn users(after: Option<&str>, limit: u16) -> Vec<StoredUser>;
                fn add_user(user: &StoredUser, act: &Act, now: i64) -> Done<bool>;
                fn add_first_admin(user: &StoredUser, act: &Act, now: i64) -> Done<bool>;
                fn needs_first_admin() -> bool;
                fn set_user(username: &Subject, change: UserChange<'_>, act: &Act, now: i64) -> Done<UserChanged>;
                fn set_password(
                    username: &Subject, password_hash: &str, replacing: Option<Replaced<'_>>, ends: Option<EndSessions>,
                    act: &Act, now: i64
                ) -> Done<bool>;
                fn rehash_password(username: &Subject, old: &str, new: &str) -> ();
                fn delete_user(username: &Subject, act: &Act, now: i64) -> Done<bool>;
                fn knows_address(username: &Subject, address: &str, since: i64) -> bool;
                fn note_address(username: &Subject, address: &str, password_hash: &str, now: i64) -> ();
                fn client(client_id: &str) -> Option<StoredClient>;
                fn find_client(id_or_name: &str) -> Option<StoredClient>;
                fn clients(after: Option<&str>, limit: u16) -> Vec<StoredClient>;
                fn add_client(client: &StoredClient, act: &Act, now: i64) -> bool;
                fn set_client(client_id: &str, change: &ClientChange, act: &Act, now: i64) -> Done<ClientChanged>;
                fn rotate_client_secret(
                    client_id: &str, digest: &Sha256, old_until: Option<i64>, act: &Act, now: i64
                ) -> Done<bool>;
                fn delete_client(client_id: &str, act: &Act, now: i64) -> Done<bool>;
                fn repeat(client_id: &str, key: &str, asked: &Repeat) -> Option<Repeat>;
                fn forget_repeat(client_id: &str, key: &str, access: Jti) -> ();
                // Keys.
                fn retired(kids: &[String]) -> Vec<bool>;
                fn add_keys(current: &NewKey, next: &NewKey, act: &Act, now: i64) -> Done<bool>;
                fn replace_next(unused: &str, fresh: &NewKey, act: &Act, now: i64) -> Done<bool>;
                fn rotate_keys(rotation: &KeyRotation<'_>, act: &Act, now: i64) -> Done<bool>;
                fn retire_key(retire: &Retire<'_>, act: &Act, now: i64) -> Done<Retired>;
                fn reseal_keys(anew: &[Resealed], act: &Act, now: i64) -> bool;
                fn login_arrivals(names: &[String]) -> Vec<i64>;
                fn login_failed(names: &[(String, i64)], now_ms: i64) -> ();
            }
            FOLLOW_LIMIT {
                fn join(id: Uuid, name: &str, lease_ms: i64, instead_of: Option<Uuid>) -> Position;
                fn renew(id: Uuid, applied: Position) -> Option<News>;
                fn hear(id: Uuid, applied: Position) -> Option<News>;
                fn position() -> Position;
                fn leave(id: Uuid) -> ();
                fn keys(follows: bool) -> Vec<StoredKey>;
            }
            SWEEP_LIMIT {
                fn touch(used: &[(Jti, i64)]) -> ();
                fn purge_batch(from: i64, cutoff: i64, rows_max: u32) -> PurgedBatch;
                fn purge_sessions(expired: &Range<i64>, rows_max: u32) -> u64;
                fn purge_remains(cutoff: i64, now_ms: i64, rows_max: u32) -> u64;
                fn purge_changes(cutoff: i64, rows_max: u32) -> u64;
                fn purge_keys(replaced_before: i64, cutoff: i64, act: &Act, now: i64) -> Done<u64>;
                fn purge_audit(cutoff: i64, rows_max: u32) -> u64;
                fn purgeable(cutoff: i64, at_most: i64) -> u64;
                fn records_held() -> u64;
            }
        }
    };
    ($database:ty; $($limit:ident { $(fn $verb:ident($($name:ident: $type:ty),*) -> $answer:ty;)* })*) => {
        #[async_trait]
        impl Store for $database {
            async fn schema(&self) -> Result<Schema, Error> {
                self.schema().await
            }

            async fn migrate(&self) -> Result<Vec<String>, Error> {
                self.migrate().await
            }

            fn pool_use(&self) -> PoolUse {
                self.pool_use()
            }

            fn inserts_at_once(&self) -> u32 {
                Self::INSERTS_AT_ONCE
            }

            fn checks_at_once(&self) -> u32 {
                Self::CHECKS_AT_ONCE
            }

            async fn close(&self) {
                self.close().await;
            }

            async fn woken(&self) -> bool {
                self.woken().await
            }

            $($(
                async fn $verb(&self, $($name: $type),*) -> Result<$answer, Error> {
                    let mut tries_left = failure::RETRIES;
                    loop {
                        match failure::within(Self::$limit, <Self>::$verb(self, $($name),*)).await {
                            Err(error) if tries_left > 0 && failure::lost_to_another(&error) => tries_left -= 1,
                            outcome => return outcome.map_err(failure::failed),
                        }
                    }
                }
            )*)*
        }
    };
}
