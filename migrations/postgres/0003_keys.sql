-- The keys that sign, sealed under a master key that the database does not have, and the ids of those that were retired,
-- wherever they were kept. docs/keys.md describes their life.
create table cf_keys (
    -- The thumbprint of the key (RFC 7638).
    kid text primary key,
    algorithm text,
    state text not null check (state in ('next', 'current', 'previous', 'retired')),
    -- With the private part until the key is replaced, then without, and nothing once it is retired. The public part has
    -- no column: what is not sealed could be put there by anybody who can write here.
    sealed bytea,
    published_at bigint not null,
    current_at bigint,
    replaced_at bigint,
    -- Of a replaced key: when the last recorded token that it signed expires, once that has been looked up.
    needed_until bigint,
    retired_at bigint,
    retired_by_kind text,
    retired_by text,
    retired_reason text,
    check ((state = 'retired') = (sealed is null)),
    check (state = 'retired' or algorithm is not null),
    check ((state = 'retired') = (retired_at is not null) and (retired_at is null) = (retired_by_kind is null)
        and (retired_at is null) = (retired_by is null))
);
create unique index cf_keys_one_of_a_state on cf_keys (state) where state in ('next', 'current');

insert into cf_jobs (name) values ('rotation');

-- A retired key takes all that it signed with it, so its id is noted. Of any other change the ring alone is to be read
-- again, which the empty text stands for: what a key signed stays as it is when another one takes its place.
create function cf_note_key_change() returns trigger language plpgsql as $$
declare
    place record;
    subject text := '';
begin
    if tg_op <> 'INSERT' and old.state = 'retired' then subject := old.kid; end if;
    if tg_op <> 'DELETE' and new.state = 'retired' then subject := new.kid; end if;
    update cf_position set seq = seq + 1, change = gen_random_uuid() where id = 1 returning seq, change into place;
    insert into cf_changes (seq, change, kind, target, at)
    values (place.seq, place.change, 'key', subject, extract(epoch from clock_timestamp())::bigint);
    perform pg_notify('counterfoil', '');
    return null;
end
$$;
create constraint trigger cf_keys_changed after insert or delete or update of kid, algorithm, state on cf_keys
    deferrable initially deferred for each row
    when (current_setting('counterfoil.noted', true) is distinct from 'on')
    execute function cf_note_key_change();
create trigger cf_keys_emptied after truncate on cf_keys execute function cf_forget_everything();
