-- What refers to what, where no foreign key holds it.
--
-- A foreign key looks at each row by itself, and locks the row that it refers to: of issuing a batch of tokens, a third
-- of PostgreSQL's time. These triggers hold the same for a statement as a whole. They take no lock: whoever adds a
-- token or a session has locked what it is of, as the purge expects, but somebody with psql may add one at the moment
-- at which what it is of goes. Every check refuses a token without a session, and one of a session without a subject.
--
-- What a statement of Counterfoil adds is of a session and a subject that the same transaction has found and locked, so
-- there is nothing to look up again. It says so in a setting of its transaction, `counterfoil.noted`.

-- Each row is looked up by itself in the index: a join would be planned without knowing how few rows there are.
create function cf_tokens_have_sessions() returns trigger language plpgsql as $$
begin
    if exists (select from added a where (select s.sid from cf_sessions s where s.sid = a.sid) is null) then
        raise foreign_key_violation using message = 'a token must be of a session that is in cf_sessions';
    end if;
    return null;
end
$$;
create trigger cf_tokens_added after insert on cf_tokens referencing new table as added for each statement
    when (current_setting('counterfoil.noted', true) is distinct from 'on') execute function cf_tokens_have_sessions();

create function cf_sessions_have_subjects() returns trigger language plpgsql as $$
begin
    if exists (
        select from added a where (select u.subject from cf_subjects u where u.subject = a.subject) is null
    ) then
        raise foreign_key_violation using message = 'a session must be of a subject that is in cf_subjects';
    end if;
    return null;
end
$$;
create trigger cf_sessions_added after insert on cf_sessions referencing new table as added for each statement
    when (current_setting('counterfoil.noted', true) is distinct from 'on') execute function cf_sessions_have_subjects();

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
    if exists (
        select from gone g where (select s.sid from cf_sessions s where s.subject = g.subject limit 1) is not null
    ) then
        raise foreign_key_violation using message = 'a subject with sessions in cf_sessions can''t be deleted';
    end if;
    return null;
end
$$;
create trigger cf_subjects_gone after delete on cf_subjects referencing old table as gone
    for each statement execute function cf_subjects_gone_are_empty();

create function cf_emptied_with_what_refers() returns trigger language plpgsql as $$
begin
    if tg_table_name = 'cf_sessions' and exists (select from cf_tokens)
        or tg_table_name = 'cf_subjects' and exists (select from cf_sessions) then
        raise foreign_key_violation using
            message = format('%s can''t be emptied while others refer to it: name all three tables', tg_table_name);
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
        raise foreign_key_violation using
            message = format('a row of %s can''t be changed so: others refer to it, or it would refer to none', tg_table_name);
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

-- cf_subjects.own: of whom a row of users or clients names, before or after, or of all where a table is emptied.
create function cf_is_own(named text) returns boolean language sql stable as $$
    select exists (select from cf_users n where n.username = named)
        or exists (select from cf_clients c where c.client_id = named)
$$;
create function cf_note_own() returns trigger language plpgsql as $$
begin
    if tg_op = 'TRUNCATE' then
        update cf_subjects u set own = cf_is_own(u.subject) where u.own;
    else
        update cf_subjects u set own = cf_is_own(u.subject)
        where u.subject in (to_jsonb(old) ->> tg_argv[0], to_jsonb(new) ->> tg_argv[0]);
    end if;
    return null;
end
$$;
create trigger cf_users_are_own after insert or delete or update of username on cf_users
    for each row execute function cf_note_own('username');
create trigger cf_users_own_emptied after truncate on cf_users for each statement execute function cf_note_own();
create trigger cf_clients_are_own after insert or delete or update of client_id on cf_clients
    for each row execute function cf_note_own('client_id');
create trigger cf_clients_own_emptied after truncate on cf_clients for each statement execute function cf_note_own();
