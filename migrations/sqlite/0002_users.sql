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

-- Where each user logged in of late, which the account's limit on failed log-ins doesn't keep out. A log-in with the
-- right password alone writes here: not a session, which is gone once it has expired, nor a token, which is good
-- anywhere.
create table cf_known_addresses (
    subject text not null references cf_subjects (subject) on delete cascade,
    -- An IPv4 address, or an IPv6 /64.
    address text not null,
    logged_in_at integer not null,
    primary key (subject, address)
) strict, without rowid;
create index cf_known_addresses_by_time on cf_known_addresses (logged_in_at);
