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
    at integer not null,
    -- What the feed of revocations says of it; without an action it is none of the feed's. Of a subject: the last of
    -- the sessions that ended. docs/feed.md describes the format.
    action text check (action in ('revoked', 'unrevoked')),
    last_sid blob check (length(last_sid) = 16),
    expires_at integer,
    check ((action is null) = (expires_at is null))
) strict;
create index cf_changes_by_time on cf_changes (at);
-- Where a registry begins stands in its log like every later position, so that a replica that joined there is found by
-- the first change and has not to join anew. It is told to nobody: nothing comes before it.
insert into cf_changes (seq, change, kind, target, at)
select seq, change, 'key', '', unixepoch() from cf_position;

-- The processes that answer from memory: which change each has been told of with its lease and which it has applied,
-- and for how many milliseconds it may rely on what it remembers. It says that it has applied a change before it asks
-- for its next lease, so that can be the later one. The last two times are for people.
create table cf_replicas (
    id blob primary key not null check (length(id) = 16),
    name text not null,
    lease_ms integer not null check (lease_ms > 0),
    applied integer not null,
    granted integer not null,
    joined_at integer not null,
    seen_at integer not null
) strict, without rowid;

-- All changes are noted here, the program's own as those made by plain SQL: one transaction writes at a time.
--
-- Spending a refresh token, or putting another in its place, is nothing that others have to hear of: none is ever
-- answered from memory.
create trigger cf_tokens_changed
    after update of jti, sid, subject, token_type, not_before, expires_at, claims, kid, imported, revoked_at on cf_tokens
    when (old.jti, old.sid, old.subject, old.token_type, old.not_before, old.expires_at, old.claims, old.kid, old.imported,
        old.revoked_at is null)
    is not (new.jti, new.sid, new.subject, new.token_type, new.not_before, new.expires_at, new.claims, new.kid,
        new.imported, new.revoked_at is null)
    and (old.spent_at, old.replaced_at) is (new.spent_at, new.replaced_at)
begin
    update cf_position set seq = seq + 1, change = randomblob(16) where id = 1;
    insert into cf_changes (seq, change, kind, target, at, action, expires_at)
    select seq, change, 'token', lower(hex(old.jti)), unixepoch(),
        case when old.jti <> new.jti or new.revoked_at is not null then 'revoked'
            when old.revoked_at is not null then 'unrevoked' end,
        case when old.jti <> new.jti or new.revoked_at is not null or old.revoked_at is not null then old.expires_at end
    from cf_position;
end;
create trigger cf_tokens_deleted after delete on cf_tokens when old.expires_at > unixepoch() begin
    update cf_position set seq = seq + 1, change = randomblob(16) where id = 1;
    insert into cf_changes (seq, change, kind, target, at, action, expires_at)
    select seq, change, 'token', lower(hex(old.jti)), unixepoch(), 'revoked', old.expires_at from cf_position;
end;
create trigger cf_sessions_changed after update of sid, subject, generation, ended_at on cf_sessions
    when (old.sid, old.subject, old.generation, old.ended_at is null)
    is not (new.sid, new.subject, new.generation, new.ended_at is null)
begin
    update cf_position set seq = seq + 1, change = randomblob(16) where id = 1;
    insert into cf_changes (seq, change, kind, target, at, action, expires_at)
    select seq, change, 'session', lower(hex(old.sid)), unixepoch(),
        case when old.sid = new.sid and new.ended_at is null
            and exists (select 1 from cf_subjects u where u.subject = new.subject and u.generation = new.generation)
            then 'unrevoked' else 'revoked' end,
        old.expires_at
    from cf_position;
end;
create trigger cf_sessions_deleted after delete on cf_sessions when old.expires_at > unixepoch() begin
    update cf_position set seq = seq + 1, change = randomblob(16) where id = 1;
    insert into cf_changes (seq, change, kind, target, at, action, expires_at)
    select seq, change, 'session', lower(hex(old.sid)), unixepoch(), 'revoked', old.expires_at from cf_position;
end;
create trigger cf_subjects_changed after update of subject, generation on cf_subjects
    when (old.subject, old.generation) is not (new.subject, new.generation)
begin
    update cf_position set seq = seq + 1, change = randomblob(16) where id = 1;
    insert into cf_changes (seq, change, kind, target, at, action, last_sid, expires_at)
    select p.seq, p.change, 'subject', old.subject, unixepoch(),
        case when s.expires_at is not null then 'revoked' end, s.last_sid, s.expires_at
    from cf_position p, (
        select max(s.expires_at) as expires_at, max(s.sid) filter (where substr(hex(s.sid), 13, 1) = '7'
            and not exists (select 1 from cf_tokens t where t.sid = s.sid and t.imported)) as last_sid
        from cf_sessions s where s.subject = old.subject and s.generation = old.generation and s.ended_at is null
    ) s;
end;

-- What a process remembers of a client rests on its subject, and is forgotten when the client changes.
create trigger cf_clients_changed after update on cf_clients begin
    update cf_position set seq = seq + 1, change = randomblob(16) where id = 1;
    insert into cf_changes (seq, change, kind, target, at)
    select seq, change, 'subject', old.client_id, unixepoch() from cf_position where id = 1;
end;
create trigger cf_clients_deleted after delete on cf_clients begin
    update cf_position set seq = seq + 1, change = randomblob(16) where id = 1;
    insert into cf_changes (seq, change, kind, target, at)
    select seq, change, 'subject', old.client_id, unixepoch() from cf_position where id = 1;
end;

-- A retired key takes all that it signed with it, so its id is noted. Of any other change the ring alone is to be read
-- again, which the empty text stands for: what a key signed stays as it is when another one takes its place. How long a
-- retired one has to be known is not looked up: ten years is longer than any token.
create trigger cf_keys_added after insert on cf_keys begin
    update cf_position set seq = seq + 1, change = randomblob(16) where id = 1;
    insert into cf_changes (seq, change, kind, target, at, action, expires_at)
    select seq, change, 'key', case new.state when 'retired' then new.kid else '' end, unixepoch(),
        case new.state when 'retired' then 'revoked' end,
        case new.state when 'retired' then unixepoch() + 315360000 end
    from cf_position;
end;
create trigger cf_keys_changed after update of kid, algorithm, state on cf_keys
    when (old.kid, old.algorithm, old.state) is not (new.kid, new.algorithm, new.state)
begin
    update cf_position set seq = seq + 1, change = randomblob(16) where id = 1;
    insert into cf_changes (seq, change, kind, target, at, action, expires_at)
    select seq, change, 'key', case 'retired' when new.state then new.kid when old.state then old.kid else '' end,
        unixepoch(),
        case 'retired' when new.state then 'revoked' when old.state then 'unrevoked' end,
        case when 'retired' in (new.state, old.state) then unixepoch() + 315360000 end
    from cf_position;
end;
create trigger cf_keys_removed after delete on cf_keys begin
    update cf_position set seq = seq + 1, change = randomblob(16) where id = 1;
    insert into cf_changes (seq, change, kind, target, at, action, expires_at)
    select seq, change, 'key', case old.state when 'retired' then old.kid else '' end, unixepoch(),
        case old.state when 'retired' then 'unrevoked' end,
        case old.state when 'retired' then unixepoch() + 315360000 end
    from cf_position;
end;
