-- The registry: who may hold tokens, the sessions they began, the tokens of each, and what was done to them.
-- Times are whole seconds since the epoch, as in the tokens, unless a name says otherwise.
-- Names start with cf_ so that the tables can share a database with an application's own.

-- A subject's generation moves on when all its tokens are ended at once: one row changes, however many tokens there
-- are.
create table cf_subjects (
    subject text primary key not null check (length(subject) between 1 and 255),
    generation integer not null default 0 check (generation >= 0),
    -- Whether it is a user of the server or a client: whoever issues a token for somebody else has this row in hand
    -- anyway, and need look for no other.
    own integer not null default 0 check (own in (0, 1))
) strict, without rowid;

-- Why and when each generation began. A session of generation g is ended by the row of generation g + 1.
create table cf_subject_endings (
    subject text not null references cf_subjects (subject) on delete cascade,
    generation integer not null check (generation > 0),
    ended_at integer not null,
    ended_by_kind text not null,
    ended_by text not null,
    ended_reason text,
    primary key (subject, generation)
) strict, without rowid;
create index cf_subject_endings_by_time on cf_subject_endings (ended_at);

-- All tokens that descend from one login. It is live while it has not ended and its generation is its subject's.
create table cf_sessions (
    sid blob primary key not null check (length(sid) = 16),
    subject text not null references cf_subjects (subject),
    generation integer not null,
    client text,
    label text,
    ip text,
    user_agent text,
    created_at integer not null,
    last_seen_at integer not null,
    expires_at integer not null,
    ended_at integer,
    ended_by_kind text,
    ended_by text,
    ended_reason text,
    check ((ended_at is null) = (ended_by_kind is null) and (ended_at is null) = (ended_by is null))
) strict;
create index cf_sessions_by_subject on cf_sessions (subject, created_at);
create index cf_sessions_by_expiry on cf_sessions (expires_at);

-- The counterfoils: one row for each token that was handed out.
create table cf_tokens (
    jti blob primary key not null check (length(jti) = 16),
    sid blob not null references cf_sessions (sid),
    subject text not null,
    token_type text not null check (token_type in ('access', 'refresh')),
    issued_at integer not null,
    not_before integer not null,
    expires_at integer not null,
    -- What it may do, space-separated; of a refresh token, what the tokens got with it may do at most.
    scope text not null,
    -- The claims as issued, as JSON.
    claims text not null,
    -- Of a refresh token: what the tokens got with it are given, as JSON.
    granted text,
    kid text not null,
    client text,
    label text,
    ip text,
    user_agent text,
    -- Issued elsewhere before the registry was adopted: its missing claims are taken from this row.
    imported integer not null default 0 check (imported in (0, 1)),
    last_used_at integer,
    revoked_at integer,
    revoked_by_kind text,
    revoked_by text,
    revoked_reason text,
    revoked_final integer not null default 0 check (revoked_final in (0, 1)),
    -- A refresh token may be good for one use. A spent one is revoked for good, and these say that it was spent and not
    -- taken back: presented again, it is either a retry or theft. When it was used, and the one that was issued for it.
    spent_at integer,
    successor blob check (length(successor) = 16),
    -- Of a refresh token that nobody had used when the one before it came again: when another took its place.
    replaced_at integer,
    -- Of an access token: the refresh token that it was issued with, where that was the successor of another.
    issued_with blob check (length(issued_with) = 16),
    check ((revoked_at is null) = (revoked_by_kind is null) and (revoked_at is null) = (revoked_by is null)),
    check (revoked_at is not null or (revoked_reason is null and not revoked_final)),
    check ((token_type = 'refresh') = (granted is not null)),
    check ((spent_at is null) = (successor is null)),
    check (revoked_at is not null or (spent_at is null and replaced_at is null))
) strict;
-- What administrators look for, newest first. A token that no client asked for, and from no known address, is in no
-- index for those.
create index cf_tokens_by_subject on cf_tokens (subject, issued_at, jti);
create index cf_tokens_by_issue on cf_tokens (issued_at, jti);
create index cf_tokens_by_session on cf_tokens (sid, issued_at, jti);
create index cf_tokens_by_client on cf_tokens (client, issued_at, jti) where client is not null;
create index cf_tokens_by_address on cf_tokens (ip, issued_at, jti) where ip is not null;
create index cf_tokens_by_expiry on cf_tokens (expires_at);

-- Who changed what, when, from where and why.
create table cf_audit (
    id integer primary key autoincrement,
    at integer not null,
    actor_kind text not null,
    actor text not null,
    action text not null,
    subject text,
    target text,
    reason text,
    ip text
) strict;
create index cf_audit_by_time on cf_audit (at);
create index cf_audit_by_subject on cf_audit (subject, id);
create index cf_audit_by_target on cf_audit (target, id) where target is not null;
-- What was done to all of a subject at once.
create index cf_audit_of_all on cf_audit (subject, id) where target is null;

-- Work that one process at a time does: who does it, until when it may, and how the last run ended.
create table cf_jobs (
    name text primary key not null,
    holder blob,
    held_until integer not null default 0,
    last_run_at integer,
    last_count integer
) strict, without rowid;
insert into cf_jobs (name) values ('purge'), ('rotation');

-- The last runs of the purge. One that was killed has no end: whose it was says the holder, which is that of cf_jobs
-- while it goes on.
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

-- One row about this registry itself.
create table cf_installation (
    id integer primary key not null check (id = 1),
    first_admin_at integer
) strict;
insert into cf_installation (id) values (1);
