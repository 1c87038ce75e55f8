-- A foreign key looks at each row by itself, and locks the row that it refers to: of issuing a batch of tokens, a third of
-- PostgreSQL's time. These hold the same for a statement as a whole. They take no lock: whoever adds a token or a session has
-- locked what it is of, as the purge expects, but somebody with psql may add one at the moment at which what it is of goes. Every
-- check refuses a token without a session, and one of a session without a subject.
alter table cf_tokens drop constraint cf_tokens_sid_fkey;
alter table cf_sessions drop constraint cf_sessions_subject_fkey;

-- Each row is looked up by itself in the index: a join would be planned without knowing how few rows there are.
create function cf_tokens_have_sessions() returns trigger language plpgsql as $$
begin
    if exists (select from added a where (select s.sid from cf_sessions s where s.sid = a.sid) is null) then
        raise foreign_key_violation using message = 'a token must be of a session that is in cf_sessions';
    end if;
    return null;
end
$$;
create trigger cf_tokens_added after insert on cf_tokens referencing new table as added
    for each statement execute function cf_tokens_have_sessions();

create function cf_sessions_have_subjects() returns trigger language plpgsql as $$
begin
    if exists (select from added a where (select u.subject from cf_subjects u where u.subject = a.subject) is null) then
        raise foreign_key_violation using message = 'a session must be of a subject that is in cf_subjects';
    end if;
    return null;
end
$$;
create trigger cf_sessions_added after insert on cf_sessions referencing new table as added
    for each statement execute function cf_sessions_have_subjects();

create function cf_sessions_gone_are_empty() returns trigger language plpgsql as $$
begin
    if exists (select from gone g where (select t.jti from cf_tokens t where t.sid = g.sid limit 1) is not null) then
        raise foreign_key_violation using message = 'a session with tokens in cf_tokens can''t be deleted';
    end if;
    return null;
end
$$;
create trigger cf_sessions_gone after delete on cf_sessions referencing old table as gone
    for each statement execute function cf_sessions_gone_are_empty();

create function cf_subjects_gone_are_empty() returns trigger language plpgsql as $$
begin
    if exists (select from gone g where (select s.sid from cf_sessions s where s.subject = g.subject limit 1) is not null) then
        raise foreign_key_violation using message = 'a subject with sessions in cf_sessions can''t be deleted';
    end if;
    return null;
end
$$;
create trigger cf_subjects_gone after delete on cf_subjects referencing old table as gone
    for each statement execute function cf_subjects_gone_are_empty();

create function cf_emptied_with_what_refers() returns trigger language plpgsql as $$
begin
    if tg_table_name = 'cf_sessions' and exists (select from cf_tokens) or tg_table_name = 'cf_subjects' and exists (select from cf_sessions) then
        raise foreign_key_violation using message = format('%s can''t be emptied while others refer to it: name all three tables', tg_table_name);
    end if;
    return null;
end
$$;
create trigger cf_sessions_emptied_alone after truncate on cf_sessions
    for each statement execute function cf_emptied_with_what_refers();
create trigger cf_subjects_emptied_alone after truncate on cf_subjects
    for each statement execute function cf_emptied_with_what_refers();

-- Nothing here ever changes what a row is of. Where somebody does, it is looked at a row at a time.
create function cf_reference_changed() returns trigger language plpgsql as $$
declare
    holds boolean;
begin
    case tg_argv[0]
        when 'token' then holds := exists (select from cf_sessions s where s.sid = new.sid);
        when 'session of' then holds := exists (select from cf_subjects u where u.subject = new.subject);
        when 'session' then holds := not exists (select from cf_tokens t where t.sid = old.sid);
        when 'subject' then holds := not exists (select from cf_sessions s where s.subject = old.subject);
    end case;
    if not holds then
        raise foreign_key_violation using message = format('a row of %s can''t be changed so: others refer to it, or it would refer to none',
            tg_table_name);
    end if;
    return null;
end
$$;
create trigger cf_tokens_moved after update of sid on cf_tokens for each row
    when (old.sid is distinct from new.sid) execute function cf_reference_changed('token');
create trigger cf_sessions_moved after update of subject on cf_sessions for each row
    when (old.subject is distinct from new.subject) execute function cf_reference_changed('session of');
create trigger cf_sessions_renamed after update of sid on cf_sessions for each row
    when (old.sid is distinct from new.sid) execute function cf_reference_changed('session');
create trigger cf_subjects_renamed after update of subject on cf_subjects for each row
    when (old.subject is distinct from new.subject) execute function cf_reference_changed('subject');
