-- What the feed of revocations says of a change, beside what replicas forget of it; without an action it is none of the
-- feed's. Of a subject: the last of the sessions that ended. docs/feed.md describes the format.
alter table cf_changes
    add column action text check (action in ('revoked', 'unrevoked')),
    add column last_sid uuid,
    add column expires_at bigint,
    add constraint cf_changes_told check ((action is null) = (expires_at is null));

-- As before, and what can be told of a change made by plain SQL.
create or replace function cf_note_change() returns trigger language plpgsql as $$
declare
    place record;
    told record;
begin
    select null::text as action, null::uuid as last_sid, null::bigint as expires_at into told;
    if tg_argv[0] = 'token' then
        if tg_op = 'DELETE' then
            told.action := 'revoked';
        elsif old.jti <> new.jti or new.revoked_at is not null then
            told.action := 'revoked';
        elsif old.revoked_at is not null then
            told.action := 'unrevoked';
        end if;
    elsif tg_argv[0] = 'session' then
        if tg_op = 'DELETE' then
            told.action := 'revoked';
        elsif old.sid = new.sid and new.ended_at is null
            and exists (select from cf_subjects u where u.subject = new.subject and u.generation = new.generation) then
            told.action := 'unrevoked';
        else
            told.action := 'revoked';
        end if;
    elsif tg_argv[0] = 'subject' then
        select case when max(s.expires_at) is not null then 'revoked' end as action,
            (max(s.sid::text collate "C") filter (where substr(s.sid::text, 15, 1) = '7'
                and not exists (select from cf_tokens t where t.sid = s.sid and t.imported)))::uuid as last_sid,
            max(s.expires_at) as expires_at
        into told
        from cf_sessions s where s.subject = old.subject and s.generation = old.generation and s.ended_at is null;
    end if;
    if told.action is not null and tg_argv[0] <> 'subject' then
        told.expires_at := old.expires_at;
    end if;
    update cf_position set seq = seq + 1, change = gen_random_uuid() where id = 1 returning seq, change into place;
    insert into cf_changes (seq, change, kind, target, at, action, last_sid, expires_at)
    values (place.seq, place.change, tg_argv[0], to_jsonb(old) ->> tg_argv[1], extract(epoch from clock_timestamp())::bigint,
        told.action, told.last_sid, told.expires_at);
    perform pg_notify('counterfoil', '');
    return null;
end
$$;
