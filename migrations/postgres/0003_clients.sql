-- The programs that call the endpoints for other services. A client's id is a subject too, that of its own tokens, and
-- of nobody else's.
create table cf_clients (
    client_id text collate "C" primary key references cf_subjects (subject),
    name text collate "C" not null unique check (char_length(name) between 1 and 100),
    -- What it may do here, space-separated.
    scope text not null,
    -- What it may put into tokens of others: scopes, space-separated, and audiences, as JSON.
    grant_scope text not null,
    audience text not null,
    -- The audiences that it is limited to where it asks about tokens, as JSON; null where it is not.
    serves text,
    -- Whether tokens that it got may be refreshed without its secret.
    first_party boolean not null default false,
    disabled boolean not null default false,
    -- SHA-256 of its secret, which has 256 random bits, and of the one before it for as long as both are good.
    secret_digest bytea not null check (octet_length(secret_digest) = 32),
    old_secret_digest bytea check (octet_length(old_secret_digest) = 32),
    old_secret_until bigint,
    created_at bigint not null,
    secret_changed_at bigint not null,
    check ((old_secret_digest is null) = (old_secret_until is null))
);

-- What a client asked for under a key of its own, so that asking again gives the same: the ids of the tokens, and never
-- the tokens. Asking again finds the row before the tokens are there, too.
create table cf_repeats (
    client_id text collate "C" not null references cf_clients (client_id) on delete cascade,
    repeat_key text collate "C" not null check (char_length(repeat_key) between 1 and 255),
    body_digest bytea not null check (octet_length(body_digest) = 32),
    sid uuid not null,
    access_jti uuid not null,
    refresh_jti uuid not null,
    asked_at bigint not null,
    expires_at bigint not null,
    primary key (client_id, repeat_key)
);
create index cf_repeats_by_expiry on cf_repeats (expires_at);
