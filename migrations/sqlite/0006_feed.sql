-- What the feed of revocations says of a change, beside what replicas forget of it; without an action it is none of the
-- feed's. Of a subject: the last of the sessions that ended. docs/feed.md describes the format.
alter table cf_changes add column action text check (action in ('revoked', 'unrevoked'));
alter table cf_changes add column last_sid blob check (length(last_sid) = 16);
alter table cf_changes add column expires_at integer check ((action is null) = (expires_at is null));

-- As before, and what can be told of each.
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
    insert into cf_changes (seq, change, kind, target, at, action, expires_at)
    select seq, change, 'token', lower(hex(old.jti)), unixepoch(),
        case when old.jti <> new.jti or new.revoked_at is not null then 'revoked'
            when old.revoked_at is not null then 'unrevoked' end,
        case when old.jti <> new.jti or new.revoked_at is not null or old.revoked_at is not null then old.expires_at end
    from cf_position;
end;
drop trigger cf_tokens_deleted;
create trigger cf_tokens_deleted after delete on cf_tokens when old.expires_at > unixepoch() begin
    update cf_position set seq = seq + 1, change = randomblob(16) where id = 1;
    insert into cf_changes (seq, change, kind, target, at, action, expires_at)
    select seq, change, 'token', lower(hex(old.jti)), unixepoch(), 'revoked', old.expires_at from cf_position;
end;
drop trigger cf_sessions_changed;
create trigger cf_sessions_changed after update of sid, subject, generation, ended_at on cf_sessions
    when (old.sid, old.subject, old.generation, old.ended_at is null)
    is not (new.sid, new.subject, new.generation, new.ended_at is null)
begin
    update cf_position set seq = seq + 1, change = randomblob(16) where id = 1;
    insert into cf_changes (seq, change, kind, target, at, action, expires_at)
    select seq, change, 'session', lower(hex(old.sid)), unixepoch(),
        case when old.sid = new.sid and new.ended_at is null
            and exists (select 1 from cf_subjects u where u.subject = new.subject and u.generation = new.generation)
            then 'unrevoked' else 'revoked' end,
        old.expires_at
    from cf_position;
end;
drop trigger cf_sessions_deleted;
create trigger cf_sessions_deleted after delete on cf_sessions when old.expires_at > unixepoch() begin
    update cf_position set seq = seq + 1, change = randomblob(16) where id = 1;
    insert into cf_changes (seq, change, kind, target, at, action, expires_at)
    select seq, change, 'session', lower(hex(old.sid)), unixepoch(), 'revoked', old.expires_at from cf_position;
end;
drop trigger cf_subjects_changed;
create trigger cf_subjects_changed after update of subject, generation on cf_subjects
    when (old.subject, old.generation) is not (new.subject, new.generation)
begin
    update cf_position set seq = seq + 1, change = randomblob(16) where id = 1;
    insert into cf_changes (seq, change, kind, target, at, action, last_sid, expires_at)
    select p.seq, p.change, 'subject', old.subject, unixepoch(),
        case when s.expires_at is not null then 'revoked' end, s.last_sid, s.expires_at
    from cf_position p, (
        select max(s.expires_at) as expires_at, max(s.sid) filter (where substr(hex(s.sid), 13, 1) = '7'
            and not exists (select 1 from cf_tokens t where t.sid = s.sid and t.imported)) as last_sid
        from cf_sessions s where s.subject = old.subject and s.generation = old.generation and s.ended_at is null
    ) s;
end;
