-- Refresh tokens that are good for one use. A spent one is revoked for good, and these columns say that it was spent and
-- not taken back: presented again, it is either a retry or theft.
alter table cf_tokens
    -- Of a refresh token: when it was used, and the one that was issued for it.
    add column spent_at bigint,
    add column successor uuid,
    -- Of a refresh token that nobody had used when the one before it came again: when another took its place.
    add column replaced_at bigint,
    -- Of an access token: the refresh token that it was issued with, where that was the successor of another.
    add column issued_with uuid,
    add check ((spent_at is null) = (successor is null)),
    add check (revoked_at is not null or (spent_at is null and replaced_at is null));
