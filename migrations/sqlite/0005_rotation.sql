-- Refresh tokens that are good for one use. A spent one is revoked for good, and these columns say that it was spent and
-- not taken back: presented again, it is either a retry or theft.

-- Of a refresh token: when it was used, and the one that was issued for it.
alter table cf_tokens add column spent_at integer;
alter table cf_tokens add column successor blob
    check (length(successor) = 16 and (spent_at is null) = (successor is null));
-- Of a refresh token that nobody had used when the one before it came again: when another took its place.
alter table cf_tokens add column replaced_at integer
    check (revoked_at is not null or (spent_at is null and replaced_at is null));
-- Of an access token: the refresh token that it was issued with, where that was the successor of another.
alter table cf_tokens add column issued_with blob check (length(issued_with) = 16);

-- Spending a refresh token, or putting another in its place, is nothing that others have to hear of: none is ever answered
-- from memory.
drop trigger cf_tokens_changed;
create trigger cf_tokens_changed
    after update of jti, sid, subject, token_type, not_before, expires_at, claims, kid, imported, revoked_at on cf_tokens
    when (old.jti, old.sid, old.subject, old.token_type, old.not_before, old.expires_at, old.claims, old.kid, old.imported,
        old.revoked_at is null)
    is not (new.jti, new.sid, new.subject, new.token_type, new.not_before, new.expires_at, new.claims, new.kid,
        new.imported, new.revoked_at is null)
    and (old.spent_at, old.replaced_at) is (new.spent_at, new.replaced_at)
begin
    update cf_position set seq = seq + 1, change = randomblob(16) where id = 1;
    insert into cf_changes (seq, change, kind, target, at)
    select seq, change, 'token', lower(hex(old.jti)), unixepoch() from cf_position;
end;
