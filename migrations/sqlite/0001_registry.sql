-- The registry: who may hold tokens, the sessions they began, the tokens of each, and what was done to them.
-- Times are whole seconds since the epoch, as in the tokens, unless a name says otherwise.
-- Names start with cf_ so that the tables can share a database with an application's own.

-- A subject's generation moves on when all its tokens are ended at once: one row changes, however many tokens there are.
create table cf_subjects (
    subject text primary key not null check (length(subject) between 1 and 255),
    generation integer not null default 0 check (generation >= 0)
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
    check ((revoked_at is null) = (revoked_by_kind is null) and (revoked_at is null) = (revoked_by is null)),
    check (revoked_at is not null or (revoked_reason is null and not revoked_final)),
    check ((token_type = 'refresh') = (granted is not null))
) strict;
create index cf_tokens_by_subject on cf_tokens (subject, issued_at, jti);
create index cf_tokens_by_issue on cf_tokens (issued_at, jti);
create index cf_tokens_by_session on cf_tokens (sid);
create index cf_tokens_by_expiry on cf_tokens (expires_at);

-- The server's own users. A user's subject is the username.
create table cf_users (
    username text primary key not null references cf_subjects (subject),
    password_hash text not null,
    scope text not null,
    disabled integer not null default 0 check (disabled in (0, 1)),
    created_at integer not null,
    password_changed_at integer not null
) strict, without rowid;

-- Failed log-ins, as one theoretical arrival time (GCRA) for each account and address, in milliseconds.
create table cf_login_limits (
    name text primary key not null,
    arrival_ms integer not null
) strict, without rowid;
create index cf_login_limits_by_arrival on cf_login_limits (arrival_ms);

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

-- Work that one process at a time does: who does it, until when it may, and how the last run ended.
create table cf_jobs (
    name text primary key not null,
    holder blob,
    held_until integer not null default 0,
    last_run_at integer,
    last_count integer
) strict, without rowid;
insert into cf_jobs (name) values ('purge');

-- One row about this registry itself.
create table cf_installation (
    id integer primary key not null check (id = 1),
    first_admin_at integer
) strict;
insert into cf_installation (id) values (1);
