-- The keys that sign, sealed under a master key that the database does not have, and the ids of those that were retired,
-- wherever they were kept. docs/keys.md describes their life.
create table cf_keys (
    -- The thumbprint of the key (RFC 7638).
    kid text primary key not null,
    algorithm text,
    state text not null check (state in ('next', 'current', 'previous', 'retired')),
    -- With the private part until the key is replaced, then without, and nothing once it is retired. The public part has
    -- no column: what is not sealed could be put there by anybody who can write here.
    sealed blob,
    published_at integer not null,
    current_at integer,
    replaced_at integer,
    -- Of a replaced key: when the last recorded token that it signed expires, once that has been looked up.
    needed_until integer,
    retired_at integer,
    retired_by_kind text,
    retired_by text,
    retired_reason text,
    check ((state = 'retired') = (sealed is null)),
    check (state = 'retired' or algorithm is not null),
    check ((state = 'retired') = (retired_at is not null) and (retired_at is null) = (retired_by_kind is null)
        and (retired_at is null) = (retired_by is null))
) strict, without rowid;
create unique index cf_keys_one_of_a_state on cf_keys (state) where state in ('next', 'current');

insert into cf_jobs (name) values ('rotation');

-- A retired key takes all that it signed with it, so its id is noted. Of any other change the ring alone is to be read
-- again, which the empty text stands for: what a key signed stays as it is when another one takes its place.
create trigger cf_keys_added after insert on cf_keys begin
    update cf_position set seq = seq + 1, change = randomblob(16) where id = 1;
    insert into cf_changes (seq, change, kind, target, at)
    select seq, change, 'key', case new.state when 'retired' then new.kid else '' end, unixepoch() from cf_position;
end;
create trigger cf_keys_changed after update of kid, algorithm, state on cf_keys
    when (old.kid, old.algorithm, old.state) is not (new.kid, new.algorithm, new.state)
begin
    update cf_position set seq = seq + 1, change = randomblob(16) where id = 1;
    insert into cf_changes (seq, change, kind, target, at)
    select seq, change, 'key', case 'retired' when new.state then new.kid when old.state then old.kid else '' end,
        unixepoch() from cf_position;
end;
create trigger cf_keys_removed after delete on cf_keys begin
    update cf_position set seq = seq + 1, change = randomblob(16) where id = 1;
    insert into cf_changes (seq, change, kind, target, at)
    select seq, change, 'key', case old.state when 'retired' then old.kid else '' end, unixepoch() from cf_position;
end;
