-- The programs that call the endpoints for other services. A client's id is a subject too, that of its own tokens, and
-- of nobody else's.
create table cf_clients (
    client_id text primary key not null references cf_subjects (subject),
    name text not null unique check (length(name) between 1 and 100),
    -- What it may do here, space-separated.
    scope text not null,
    -- What it may put into tokens of others: scopes, space-separated, and audiences, as JSON.
    grant_scope text not null,
    audience text not null,
    -- The audiences that it is limited to where it asks about tokens, as JSON; null where it is not.
    serves text,
    -- Whether tokens that it got may be refreshed without its secret.
    first_party integer not null default 0 check (first_party in (0, 1)),
    disabled integer not null default 0 check (disabled in (0, 1)),
    -- SHA-256 of its secret, which has 256 random bits, and of the one before it for as long as both are good.
    secret_digest blob not null check (length(secret_digest) = 32),
    old_secret_digest blob check (length(old_secret_digest) = 32),
    old_secret_until integer,
    created_at integer not null,
    secret_changed_at integer not null,
    check ((old_secret_digest is null) = (old_secret_until is null))
) strict, without rowid;

-- What a client asked for under a key of its own, so that asking again gives the same: the ids of the tokens, and never
-- the tokens. Asking again finds the row before the tokens are there, too.
create table cf_repeats (
    client_id text not null references cf_clients (client_id) on delete cascade,
    repeat_key text not null check (length(repeat_key) between 1 and 255),
    body_digest blob not null check (length(body_digest) = 32),
    sid blob not null check (length(sid) = 16),
    access_jti blob not null check (length(access_jti) = 16),
    refresh_jti blob not null check (length(refresh_jti) = 16),
    asked_at integer not null,
    expires_at integer not null,
    primary key (client_id, repeat_key)
) strict, without rowid;
create index cf_repeats_by_expiry on cf_repeats (expires_at);
