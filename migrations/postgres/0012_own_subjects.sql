-- A subject knows whether it is a user of the server or a client: whoever issues a token for somebody else has its row in hand
-- anyway, locked, and need look for no other.
alter table cf_subjects add column own boolean not null default false;
create function cf_is_own(named text) returns boolean language sql stable as $$
    select exists (select from cf_users n where n.username = named) or exists (select from cf_clients c where c.client_id = named)
$$;
update cf_subjects u set own = true where cf_is_own(u.subject);

-- Holds it: of whom a row names, before or after, or of all where a table is emptied.
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
create trigger cf_users_emptied after truncate on cf_users for each statement execute function cf_note_own();
create trigger cf_clients_are_own after insert or delete or update of client_id on cf_clients
    for each row execute function cf_note_own('client_id');
create trigger cf_clients_emptied after truncate on cf_clients for each statement execute function cf_note_own();
