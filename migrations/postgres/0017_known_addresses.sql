-- Where each user logged in of late, which the account's limit on failed log-ins doesn't keep out. A log-in with the right password
-- alone writes here: not a session, which is gone once it has expired, nor a token, which is good anywhere.
create table cf_known_addresses (
    subject text collate "C" not null references cf_subjects (subject) on delete cascade,
    -- An IPv4 address, or an IPv6 /64.
    address text collate "C" not null,
    logged_in_at bigint not null,
    primary key (subject, address)
);
create index cf_known_addresses_by_time on cf_known_addresses (logged_in_at);
