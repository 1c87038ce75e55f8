-- What refers to what, where no foreign key holds it.

-- cf_subjects.own: of whom a row of users or clients names, before or after.
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
