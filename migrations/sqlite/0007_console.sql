-- What administrators look for: tokens by session, client and address, newest first, and what was done to one thing. A
-- token that no client asked for, and from no known address, is in no more indexes than before.
drop index cf_tokens_by_session;
create index cf_tokens_by_session on cf_tokens (sid, issued_at, jti);
create index cf_tokens_by_client on cf_tokens (client, issued_at, jti) where client is not null;
create index cf_tokens_by_address on cf_tokens (ip, issued_at, jti) where ip is not null;
create index cf_audit_by_target on cf_audit (target, id) where target is not null;
-- What was done to all of a subject at once.
create index cf_audit_of_all on cf_audit (subject, id) where target is null;

-- The last runs of the purge. One that was killed has no end: whose it was says the holder, which is that of cf_jobs while
-- it goes on.
create table cf_purge_runs (
    holder blob primary key not null check (length(holder) = 16),
    -- The machine and the process, for people.
    process text not null,
    started_at integer not null,
    seen_at integer not null,
    ended_at integer,
    records integer not null check (records >= 0),
    complete integer not null default 0 check (complete in (0, 1)),
    error text
) strict, without rowid;
create index cf_purge_runs_by_start on cf_purge_runs (started_at);
