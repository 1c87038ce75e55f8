-- How the processes of one registry keep what they remember true: the log of changes, and the roll of those who answer
-- from memory. docs/coherence.md describes the protocol.

-- The place of the last change: its number, which goes up by one each time, and a random id, so that two histories with
-- the same numbers are told apart. Whoever makes a change locks this row last. `roll` is another one each time that a replica joins.
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
    at bigint not null
);
create index cf_changes_by_time on cf_changes (at);

-- The processes that answer from memory: which change each has been told of and which it has applied, and for how many
-- milliseconds it may rely on what it remembers. The last two times are for people.
create table cf_replicas (
    id uuid primary key,
    name text not null,
    lease_ms bigint not null check (lease_ms > 0),
    applied bigint not null,
    granted bigint not null check (granted >= applied),
    joined_at bigint not null,
    seen_at bigint not null
) with (fillfactor = 50);

-- Changes made by plain SQL are noted too: at the end of the transaction, so that the position is locked last there as
-- well. The program's own are not, since it notes them itself, and says so in this setting of its transaction.
create function cf_note_change() returns trigger language plpgsql as $$
declare
    place record;
begin
    update cf_position set seq = seq + 1, change = gen_random_uuid() where id = 1 returning seq, change into place;
    insert into cf_changes (seq, change, kind, target, at)
    values (place.seq, place.change, tg_argv[0], to_jsonb(old) ->> tg_argv[1], extract(epoch from clock_timestamp())::bigint);
    perform pg_notify('counterfoil', '');
    return null;
end
$$;

create constraint trigger cf_tokens_changed
    after update of jti, sid, subject, token_type, not_before, expires_at, claims, kid, imported, revoked_at on cf_tokens
    deferrable initially deferred for each row
    when (current_setting('counterfoil.noted', true) is distinct from 'on'
        and (old.jti, old.sid, old.subject, old.token_type, old.not_before, old.expires_at, old.claims, old.kid, old.imported,
            old.revoked_at is null)
        is distinct from (new.jti, new.sid, new.subject, new.token_type, new.not_before, new.expires_at, new.claims, new.kid,
            new.imported, new.revoked_at is null))
    execute function cf_note_change('token', 'jti');
create constraint trigger cf_tokens_deleted after delete on cf_tokens
    deferrable initially deferred for each row
    when (old.expires_at > extract(epoch from now()))
    execute function cf_note_change('token', 'jti');
create constraint trigger cf_sessions_changed after update of sid, subject, generation, ended_at on cf_sessions
    deferrable initially deferred for each row
    when (current_setting('counterfoil.noted', true) is distinct from 'on'
        and (old.sid, old.subject, old.generation, old.ended_at is null)
        is distinct from (new.sid, new.subject, new.generation, new.ended_at is null))
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

-- A table that is emptied at once names no rows. A log without a past makes every replica forget everything.
create function cf_forget_everything() returns trigger language plpgsql as $$
begin
    delete from cf_changes;
    update cf_position set seq = seq + 1, change = gen_random_uuid() where id = 1;
    perform pg_notify('counterfoil', '');
    return null;
end
$$;
create trigger cf_tokens_emptied after truncate on cf_tokens execute function cf_forget_everything();
create trigger cf_sessions_emptied after truncate on cf_sessions execute function cf_forget_everything();
create trigger cf_subjects_emptied after truncate on cf_subjects execute function cf_forget_everything();
