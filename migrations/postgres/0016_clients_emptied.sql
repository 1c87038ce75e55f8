-- Clients are remembered as what rests on their subjects is, so a table of them that is emptied at once makes every replica forget,
-- as an emptied table of subjects does.
create trigger cf_clients_truncated after truncate on cf_clients
    for each statement execute function cf_forget_everything();
