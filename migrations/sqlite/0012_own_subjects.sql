-- A subject knows whether it is a user of the server or a client: whoever issues a token for somebody else has its row in hand
-- anyway, and need look for no other.
alter table cf_subjects add column own integer not null default 0 check (own in (0, 1));
update cf_subjects set own = 1
where subject in (select username from cf_users) or subject in (select client_id from cf_clients);

create trigger cf_users_added after insert on cf_users begin
    update cf_subjects set own = 1 where subject = new.username;
end;
create trigger cf_users_renamed after update of username on cf_users begin
    update cf_subjects set own = subject in (select username from cf_users) or subject in (select client_id from cf_clients)
    where subject in (old.username, new.username);
end;
create trigger cf_users_deleted after delete on cf_users begin
    update cf_subjects set own = subject in (select client_id from cf_clients) where subject = old.username;
end;
create trigger cf_clients_added after insert on cf_clients begin
    update cf_subjects set own = 1 where subject = new.client_id;
end;
create trigger cf_clients_renamed after update of client_id on cf_clients begin
    update cf_subjects set own = subject in (select username from cf_users) or subject in (select client_id from cf_clients)
    where subject in (old.client_id, new.client_id);
end;
create trigger cf_clients_gone after delete on cf_clients begin
    update cf_subjects set own = subject in (select username from cf_users) where subject = old.client_id;
end;
