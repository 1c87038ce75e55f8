-- The registry: who may hold tokens, the sessions they began, the tokens of each, and what was done to them.
-- Times are whole seconds since the epoch, as in the tokens, unless a name says otherwise.
-- Names start with cf_ so that the tables can share a database with an application's own.
--
-- Whatever is looked up by its text is compared by its bytes. By the rules of a language an index is in an order that
-- the next version of the operating system's library may not share, and then it does not find what is there: a subject
-- whose tokens are revoked, say. It is also the order that SQLite has.

-- A subject's generation moves on when all its tokens are ended at once: one row changes, however many tokens there
-- are.
create table cf_subjects (
    subject text collate "C" primary key check (char_length(subject) between 1 and 255),
    generation bigint not null default 0 check (generation >= 0),
    -- Whether it is a user of the server or a client: whoever issues a token for somebody else has this row in hand
    -- anyway, locked, and need look for no other.
    own boolean not null default false
);

-- Why and when each generation began. A session of generation g is ended by the row of generation g + 1.
create table cf_subject_endings (
    subject text collate "C" not null references cf_subjects (subject) on delete cascade,
    generation bigint not null check (generation > 0),
    ended_at bigint not null,
    ended_by_kind text not null,
    ended_by text not null,
    ended_reason text,
    primary key (subject, generation)
);
create index cf_subject_endings_by_time on cf_subject_endings (ended_at);

-- All tokens that descend from one login. It is live while it has not ended and its generation is its subject's.
create table cf_sessions (
    sid uuid primary key,
    -- One of cf_subjects: 0005_references.sql.
    subject text collate "C" not null,
    generation bigint not null,
    client text,
    label text,
    ip text,
    user_agent text,
    created_at bigint not null,
    last_seen_at bigint not null,
    expires_at bigint not null,
    ended_at bigint,
    ended_by_kind text,
    ended_by text,
    ended_reason text,
    check ((ended_at is null) = (ended_by_kind is null) and (ended_at is null) = (ended_by is null))
);
create index cf_sessions_by_subject on cf_sessions (subject, created_at);
create index cf_sessions_by_expiry on cf_sessions (expires_at);

-- The counterfoils: one row for each token that was handed out.
create table cf_tokens (
    jti uuid primary key,
    -- One of cf_sessions: 0005_references.sql.
    sid uuid not null,
    subject text collate "C" not null,
    token_type text not null check (token_type in ('access', 'refresh')),
    issued_at bigint not null,
    not_before bigint not null,
    expires_at bigint not null,
    -- What it may do, space-separated; of a refresh token, what the tokens got with it may do at most.
    scope text not null,
    -- The claims as issued, as JSON.
    claims text not null,
    -- Of a refresh token: what the tokens got with it are given, as JSON.
    granted text,
    kid text not null,
    client text collate "C",
    label text,
    ip text collate "C",
    user_agent text,
    -- Issued elsewhere before the registry was adopted: its missing claims are taken from this row.
    imported boolean not null default false,
    last_used_at bigint,
    revoked_at bigint,
    revoked_by_kind text,
    revoked_by text,
    revoked_reason text,
    revoked_final boolean not null default false,
    -- A refresh token may be good for one use. A spent one is revoked for good, and these say that it was spent and not
    -- taken back: presented again, it is either a retry or theft. When it was used, and the one that was issued for it.
    spent_at bigint,
    successor uuid,
    -- Of a refresh token that nobody had used when the one before it came again: when another took its place.
    replaced_at bigint,
    -- Of an access token: the refresh token that it was issued with, where that was the successor of another.
    issued_with uuid,
    check ((revoked_at is null) = (revoked_by_kind is null) and (revoked_at is null) = (revoked_by is null)),
    check (revoked_at is not null or (revoked_reason is null and not revoked_final)),
    check ((token_type = 'refresh') = (granted is not null)),
    check ((spent_at is null) = (successor is null)),
    check (revoked_at is not null or (spent_at is null and replaced_at is null))
);
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
    id bigint generated always as identity primary key,
    at bigint not null,
    actor_kind text not null,
    actor text not null,
    action text not null,
    subject text collate "C",
    target text collate "C",
    reason text,
    ip text
);
create index cf_audit_by_time on cf_audit (at);
create index cf_audit_by_subject on cf_audit (subject, id);
create index cf_audit_by_target on cf_audit (target, id) where target is not null;
-- What was done to all of a subject at once.
create index cf_audit_of_all on cf_audit (subject, id) where target is null;

-- Work that one process at a time does: who does it, until when it may, and how the last run ended.
create table cf_jobs (
    name text collate "C" primary key,
    holder uuid,
    held_until bigint not null default 0,
    last_run_at bigint,
    last_count bigint
);
insert into cf_jobs (name) values ('purge'), ('rotation');

-- The last runs of the purge. One that was killed has no end: whose it was says the holder, which is that of cf_jobs
-- while it goes on.
create table cf_purge_runs (
    holder uuid primary key,
    -- The machine and the process, for people.
    process text not null,
    started_at bigint not null,
    seen_at bigint not null,
    ended_at bigint,
    records bigint not null check (records >= 0),
    complete boolean not null default false,
    error text
);
create index cf_purge_runs_by_start on cf_purge_runs (started_at);

-- One row about this registry itself.
create table cf_installation (
    id smallint primary key check (id = 1),
    first_admin_at bigint
);
insert into cf_installation (id) values (1);
