-- A client that plain SQL changes or removes is noted as its subject is, but its row is none of a subject's: the function that
-- also tells which sessions ended looked for a column that there is not, and so nobody could change a client but by the program.
create function cf_note_client_change() returns trigger language plpgsql as $$
declare
    place record;
begin
    update cf_position set seq = seq + 1, change = gen_random_uuid() where id = 1 returning seq, change into place;
    insert into cf_changes (seq, change, kind, target, at)
    values (place.seq, place.change, 'subject', old.client_id, extract(epoch from clock_timestamp())::bigint);
    perform pg_notify('counterfoil', '');
    return null;
end
$$;
drop trigger cf_clients_changed on cf_clients;
create constraint trigger cf_clients_changed after update on cf_clients
    deferrable initially deferred for each row
    when (current_setting('counterfoil.noted', true) is distinct from 'on' and old.* is distinct from new.*)
    execute function cf_note_client_change();
drop trigger cf_clients_deleted on cf_clients;
create constraint trigger cf_clients_deleted after delete on cf_clients
    deferrable initially deferred for each row
    when (current_setting('counterfoil.noted', true) is distinct from 'on')
    execute function cf_note_client_change();
