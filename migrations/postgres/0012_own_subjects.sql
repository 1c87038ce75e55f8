-- A subject knows whether it is a user of the server or a client: whoever issues a token for somebody else has its row in hand
-- anyway, locked, and need look for no other.
alter table cf_subjects add column own boolean not null default false;
update cf_subjects u set own = true
where exists (select from cf_users n where n.username = u.subject) or exists (select from cf_clients c where c.client_id = u.subject);

-- Holds it for those of the subjects named: by a row that is added, changed or removed, or of all where a table is emptied.
create function cf_subjects_are_own(named text[]) returns void language sql as $$
    update cf_subjects u
    set own = exists (select from cf_users n where n.username = u.subject)
        or exists (select from cf_clients c where c.client_id = u.subject)
    where named is null and u.own or u.subject = any(named)
$$;
create function cf_note_own() returns trigger language plpgsql as $$
begin
    case tg_op
        when 'TRUNCATE' then perform cf_subjects_are_own(null);
        else perform cf_subjects_are_own(array[to_jsonb(old) ->> tg_argv[0], to_jsonb(new) ->> tg_argv[0]]);
    end case;
    return null;
end
$$;
create trigger cf_users_are_own after insert or delete or update of username on cf_users
    for each row execute function cf_note_own('username');
create trigger cf_users_emptied after truncate on cf_users for each statement execute function cf_note_own();
create trigger cf_clients_are_own after insert or delete or update of client_id on cf_clients
    for each row execute function cf_note_own('client_id');
create trigger cf_clients_emptied after truncate on cf_clients for each statement execute function cf_note_own();
