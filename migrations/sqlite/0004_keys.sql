-- The keys that sign, sealed under a master key that the database does not have, and the ids of those that were
-- retired, wherever they were kept. docs/keys.md describes their life.
create table cf_keys (
    -- The thumbprint of the key (RFC 7638).
    kid text primary key not null,
    algorithm text,
    state text not null check (state in ('next', 'current', 'previous', 'retired')),
    -- With the private part until the key is replaced, then without, and nothing once it is retired. The public part
    -- has no column: what is not sealed could be put there by anybody who can write here.
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
