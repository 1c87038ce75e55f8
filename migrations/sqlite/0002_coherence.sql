-- How the processes of one registry keep what they remember true: the log of changes, and the roll of those who answer
-- from memory. docs/coherence.md describes the protocol.

-- The place of the last change: its number, which goes up by one each time, and a random id, so that two histories with
-- the same numbers are told apart. `roll` is another one each time that a replica joins.
create table cf_position (
    id integer primary key not null check (id = 1),
    seq integer not null check (seq >= 0),
    change blob not null check (length(change) = 16),
    roll blob not null check (length(roll) = 16)
) strict;
insert into cf_position (id, seq, change, roll) values (1, 0, randomblob(16), randomblob(16));

-- What changed: whose tokens became less than live, or live again. To hear of it means to forget, and to ask again.
create table cf_changes (
    seq integer primary key not null,
    change blob not null check (length(change) = 16),
    kind text not null check (kind in ('token', 'session', 'subject', 'key')),
    target text not null,
    at integer not null
) strict;
create index cf_changes_by_time on cf_changes (at);

-- The processes that answer from memory: which change each has been told of and which it has applied, and for how many
-- milliseconds it may rely on what it remembers. The last two times are for people.
create table cf_replicas (
    id blob primary key not null check (length(id) = 16),
    name text not null,
    lease_ms integer not null check (lease_ms > 0),
    applied integer not null,
    granted integer not null check (granted >= applied),
    joined_at integer not null,
    seen_at integer not null
) strict, without rowid;

-- All changes are noted here, the program's own as those made by plain SQL: one transaction writes at a time.
create trigger cf_tokens_changed
    after update of jti, sid, subject, token_type, not_before, expires_at, claims, kid, imported, revoked_at on cf_tokens
    when (old.jti, old.sid, old.subject, old.token_type, old.not_before, old.expires_at, old.claims, old.kid, old.imported,
        old.revoked_at is null)
    is not (new.jti, new.sid, new.subject, new.token_type, new.not_before, new.expires_at, new.claims, new.kid,
        new.imported, new.revoked_at is null)
begin
    update cf_position set seq = seq + 1, change = randomblob(16) where id = 1;
    insert into cf_changes (seq, change, kind, target, at)
    select seq, change, 'token', lower(hex(old.jti)), unixepoch() from cf_position;
end;
create trigger cf_tokens_deleted after delete on cf_tokens when old.expires_at > unixepoch() begin
    update cf_position set seq = seq + 1, change = randomblob(16) where id = 1;
    insert into cf_changes (seq, change, kind, target, at)
    select seq, change, 'token', lower(hex(old.jti)), unixepoch() from cf_position;
end;
create trigger cf_sessions_changed after update of sid, subject, generation, ended_at on cf_sessions
    when (old.sid, old.subject, old.generation, old.ended_at is null)
    is not (new.sid, new.subject, new.generation, new.ended_at is null)
begin
    update cf_position set seq = seq + 1, change = randomblob(16) where id = 1;
    insert into cf_changes (seq, change, kind, target, at)
    select seq, change, 'session', lower(hex(old.sid)), unixepoch() from cf_position;
end;
create trigger cf_sessions_deleted after delete on cf_sessions when old.expires_at > unixepoch() begin
    update cf_position set seq = seq + 1, change = randomblob(16) where id = 1;
    insert into cf_changes (seq, change, kind, target, at)
    select seq, change, 'session', lower(hex(old.sid)), unixepoch() from cf_position;
end;
create trigger cf_subjects_changed after update of subject, generation on cf_subjects
    when (old.subject, old.generation) is not (new.subject, new.generation)
begin
    update cf_position set seq = seq + 1, change = randomblob(16) where id = 1;
    insert into cf_changes (seq, change, kind, target, at)
    select seq, change, 'subject', old.subject, unixepoch() from cf_position;
end;
