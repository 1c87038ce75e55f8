-- How the processes of one registry keep what they remember true: the log of changes, and the roll of those who answer
-- from memory. docs/coherence.md describes the protocol.

-- The place of the last change: its number, which goes up by one each time, and a random id, so that two histories with
-- the same numbers are told apart. Whoever makes a change locks this row last. `roll` is another one each time that a
-- replica joins.
create table cf_position (
    id smallint primary key check (id = 1),
    seq bigint not null check (seq >= 0),
    change uuid not null,
    roll uuid not null
) with (fillfactor = 50);
insert into cf_position (id, seq, change, roll) values (1, 0, gen_random_uuid(), gen_random_uuid());

-- What changed: whose tokens became less than live, or live again. To hear of it means to forget, and to ask again.
create table cf_changes (
    seq bigint primary key,
    change uuid not null,
    kind text not null check (kind in ('token', 'session', 'subject', 'key')),
    target text not null,
    at bigint not null,
    -- What the feed of revocations says of it; without an action it is none of the feed's. Of a subject: the last of
    -- the sessions that ended. docs/feed.md describes the format.
    action text check (action in ('revoked', 'unrevoked')),
    last_sid uuid,
    expires_at bigint,
    constraint cf_changes_told check ((action is null) = (expires_at is null))
);
create index cf_changes_by_time on cf_changes (at);
-- Where a registry begins stands in its log like every later position, so that a replica that joined there is found by
-- the first change and has not to join anew. It is told to nobody: nothing comes before it.
insert into cf_changes (seq, change, kind, target, at)
select seq, change, 'key', '', extract(epoch from now())::bigint from cf_position;

-- The processes that answer from memory: which change each has been told of with its lease and which it has applied,
-- and for how many milliseconds it may rely on what it remembers. It says that it has applied a change before it asks
-- for its next lease, so that can be the later one. The last two times are for people.
create table cf_replicas (
    id uuid primary key,
    name text not null,
    lease_ms bigint not null check (lease_ms > 0),
    applied bigint not null,
    granted bigint not null,
    joined_at bigint not null,
    seen_at bigint not null
) with (fillfactor = 50);

-- Changes made by plain SQL are noted too: at the end of the transaction, so that the position is locked last there as
-- well. The program's own are not, since it notes them itself, and says so in `counterfoil.noted`.
create function cf_note_change() returns trigger language plpgsql as $$
declare
    place record;
    told record;
begin
    select null::text as action, null::uuid as last_sid, null::bigint as expires_at into told;
    if tg_argv[0] = 'token' then
        if tg_op = 'DELETE' then
            told.action := 'revoked';
        elsif old.jti <> new.jti or new.revoked_at is not null then
            told.action := 'revoked';
        elsif old.revoked_at is not null then
            told.action := 'unrevoked';
        end if;
    elsif tg_argv[0] = 'session' then
        if tg_op = 'DELETE' then
            told.action := 'revoked';
        elsif old.sid = new.sid and new.ended_at is null
            and exists (select from cf_subjects u where u.subject = new.subject and u.generation = new.generation) then
            told.action := 'unrevoked';
        else
            told.action := 'revoked';
        end if;
    elsif tg_argv[0] = 'subject' then
        select case when max(s.expires_at) is not null then 'revoked' end as action,
            (max(s.sid::text collate "C") filter (where substr(s.sid::text, 15, 1) = '7'
                and not exists (select from cf_tokens t where t.sid = s.sid and t.imported)))::uuid as last_sid,
            max(s.expires_at) as expires_at
        into told
        from cf_sessions s where s.subject = old.subject and s.generation = old.generation and s.ended_at is null;
    end if;
    if told.action is not null and tg_argv[0] <> 'subject' then
        told.expires_at := old.expires_at;
    end if;
    update cf_position set seq = seq + 1, change = gen_random_uuid() where id = 1 returning seq, change into place;
    insert into cf_changes (seq, change, kind, target, at, action, last_sid, expires_at)
    values (place.seq, place.change, tg_argv[0], to_jsonb(old) ->> tg_argv[1],
        extract(epoch from clock_timestamp())::bigint, told.action, told.last_sid, told.expires_at);
    perform pg_notify('counterfoil', '');
    return null;
end
$$;

-- The condition of a trigger is read and prepared anew by each statement that might fire it, which took a fifth of a
-- revocation. So it is short, and what makes a row another one is compared by a function, for plain SQL alone.
create function cf_token_differs(before cf_tokens, after cf_tokens) returns boolean language plpgsql as $$
begin
    return (before.jti, before.sid, before.subject, before.token_type, before.not_before, before.expires_at, before.claims,
            before.kid, before.imported, before.revoked_at is null)
        is distinct from (after.jti, after.sid, after.subject, after.token_type, after.not_before, after.expires_at,
            after.claims, after.kid, after.imported, after.revoked_at is null);
end
$$;
create function cf_session_differs(before cf_sessions, after cf_sessions) returns boolean language plpgsql as $$
begin
    return (before.sid, before.subject, before.generation, before.ended_at is null)
        is distinct from (after.sid, after.subject, after.generation, after.ended_at is null);
end
$$;

create constraint trigger cf_tokens_changed
    after update of jti, sid, subject, token_type, not_before, expires_at, claims, kid, imported, revoked_at on cf_tokens
    deferrable initially deferred for each row
    when (current_setting('counterfoil.noted', true) is distinct from 'on' and cf_token_differs(old, new))
    execute function cf_note_change('token', 'jti');
create constraint trigger cf_tokens_deleted after delete on cf_tokens
    deferrable initially deferred for each row
    when (old.expires_at > extract(epoch from now()))
    execute function cf_note_change('token', 'jti');
create constraint trigger cf_sessions_changed after update of sid, subject, generation, ended_at on cf_sessions
    deferrable initially deferred for each row
    when (current_setting('counterfoil.noted', true) is distinct from 'on' and cf_session_differs(old, new))
    execute function cf_note_change('session', 'sid');
create constraint trigger cf_sessions_deleted after delete on cf_sessions
    deferrable initially deferred for each row
    when (old.expires_at > extract(epoch from now()))
    execute function cf_note_change('session', 'sid');
create constraint trigger cf_subjects_changed after update of subject, generation on cf_subjects
    deferrable initially deferred for each row
    when (current_setting('counterfoil.noted', true) is distinct from 'on'
        and (old.subject, old.generation) is distinct from (new.subject, new.generation))
    execute function cf_note_change('subject', 'subject');

-- What a process remembers of a client rests on its subject, and is forgotten when the client changes, by plain SQL
-- too. No session ends by that, and the row is none of a subject's.
create function cf_note_client_change() returns trigger language plpgsql as $$
declare
    place record;
begin
    update cf_position set seq = seq + 1, change = gen_random_uuid() where id = 1 returning seq, change into place;
    insert into cf_changes (seq, change, kind, target, at)
    values (place.seq, place.change, 'subject', old.client_id, extract(epoch from clock_timestamp())::bigint);
    perform pg_notify('counterfoil', '');
    return null;
end
$$;
create constraint trigger cf_clients_changed after update on cf_clients
    deferrable initially deferred for each row
    when (current_setting('counterfoil.noted', true) is distinct from 'on' and old.* is distinct from new.*)
    execute function cf_note_client_change();
create constraint trigger cf_clients_deleted after delete on cf_clients
    deferrable initially deferred for each row
    when (current_setting('counterfoil.noted', true) is distinct from 'on')
    execute function cf_note_client_change();

-- A retired key takes all that it signed with it, so its id is noted. Of any other change the ring alone is to be read
-- again, which the empty text stands for: what a key signed stays as it is when another one takes its place. How long a
-- retired one has to be known is not looked up: ten years is longer than any token.
create function cf_note_key_change() returns trigger language plpgsql as $$
declare
    place record;
    subject text := '';
    action text;
    now_seconds bigint := extract(epoch from clock_timestamp())::bigint;
begin
    if tg_op <> 'INSERT' and old.state = 'retired' then
        subject := old.kid;
        action := 'unrevoked';
    end if;
    if tg_op <> 'DELETE' and new.state = 'retired' then
        subject := new.kid;
        action := 'revoked';
    end if;
    update cf_position set seq = seq + 1, change = gen_random_uuid() where id = 1 returning seq, change into place;
    insert into cf_changes (seq, change, kind, target, at, action, expires_at)
    values (place.seq, place.change, 'key', subject, now_seconds, action,
        case when action is not null then now_seconds + 315360000 end);
    perform pg_notify('counterfoil', '');
    return null;
end
$$;
create constraint trigger cf_keys_changed after insert or delete or update of kid, algorithm, state on cf_keys
    deferrable initially deferred for each row
    when (current_setting('counterfoil.noted', true) is distinct from 'on')
    execute function cf_note_key_change();

-- A table that is emptied at once names no rows. A log without a past makes every replica forget everything. The
-- position first, and then the log: what deletes it begins once the position is there, and sees what was added by
-- whoever had it before. Otherwise that would stay, and a replica that stood at it would not be told to forget.
create function cf_forget_everything() returns trigger language plpgsql as $$
begin
    update cf_position set seq = seq + 1, change = gen_random_uuid() where id = 1;
    delete from cf_changes;
    perform pg_notify('counterfoil', '');
    return null;
end
$$;
create trigger cf_tokens_emptied after truncate on cf_tokens execute function cf_forget_everything();
create trigger cf_sessions_emptied after truncate on cf_sessions execute function cf_forget_everything();
create trigger cf_subjects_emptied after truncate on cf_subjects execute function cf_forget_everything();
create trigger cf_keys_emptied after truncate on cf_keys execute function cf_forget_everything();
-- By its name after cf_clients_own_emptied, since triggers fire in that order, and the position is locked last.
create trigger cf_clients_truncated after truncate on cf_clients execute function cf_forget_everything();

-- What a trigger runs names its tables as whoever fires it would: by the path of that session. With two registries in
-- one database a revocation by plain SQL would be noted in the log of the wrong one, and with another path it would
-- fail. So each function looks in the schema of these tables, whatever the session's path is, and in no temporary table
-- before that.
--
-- Whoever makes a function later, or replaces one (which takes its settings away), does this again at the end of the
-- migration.
do $$
declare
    home constant oid := (select relnamespace from pg_class where oid = 'cf_tokens'::regclass);
    own regprocedure;
begin
    for own in select oid from pg_proc where pronamespace = home and starts_with(proname, 'cf_') loop
        execute format('alter function %s set search_path = %I, pg_temp',
            own, (select nspname from pg_namespace where oid = home));
    end loop;
end
$$;
