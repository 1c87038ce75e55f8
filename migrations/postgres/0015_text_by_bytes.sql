-- Whatever is looked up by its text is compared by its bytes. By the rules of a language an index is in an order that the next
-- version of the operating system's library may not share, and then it does not find what is there: a subject whose tokens are
-- revoked, say. It is also the order that SQLite has.
--
-- A column that a trigger names can't be changed under it, so those come anew, as they were.
drop trigger cf_tokens_changed on cf_tokens;
drop trigger cf_sessions_changed on cf_sessions;
drop trigger cf_sessions_moved on cf_sessions;
drop trigger cf_subjects_changed on cf_subjects;
drop trigger cf_subjects_renamed on cf_subjects;
drop trigger cf_users_are_own on cf_users;
drop trigger cf_clients_are_own on cf_clients;
drop trigger cf_keys_changed on cf_keys;

alter table cf_subjects alter column subject type text collate "C";
alter table cf_subject_endings alter column subject type text collate "C";
alter table cf_sessions alter column subject type text collate "C";
alter table cf_tokens
    alter column subject type text collate "C",
    alter column client type text collate "C",
    alter column ip type text collate "C";
alter table cf_users alter column username type text collate "C";
alter table cf_clients
    alter column client_id type text collate "C",
    alter column name type text collate "C";
alter table cf_repeats
    alter column client_id type text collate "C",
    alter column repeat_key type text collate "C";
alter table cf_keys
    alter column kid type text collate "C",
    alter column state type text collate "C";
alter table cf_audit
    alter column subject type text collate "C",
    alter column target type text collate "C";
alter table cf_login_limits alter column name type text collate "C";
alter table cf_jobs alter column name type text collate "C";

create constraint trigger cf_tokens_changed
    after update of jti, sid, subject, token_type, not_before, expires_at, claims, kid, imported, revoked_at on cf_tokens
    deferrable initially deferred for each row
    when (current_setting('counterfoil.noted', true) is distinct from 'on' and cf_token_differs(old, new))
    execute function cf_note_change('token', 'jti');
create constraint trigger cf_sessions_changed after update of sid, subject, generation, ended_at on cf_sessions
    deferrable initially deferred for each row
    when (current_setting('counterfoil.noted', true) is distinct from 'on' and cf_session_differs(old, new))
    execute function cf_note_change('session', 'sid');
create trigger cf_sessions_moved after update of subject on cf_sessions for each row
    when (old.subject is distinct from new.subject) execute function cf_reference_changed('session of');
create constraint trigger cf_subjects_changed after update of subject, generation on cf_subjects
    deferrable initially deferred for each row
    when (current_setting('counterfoil.noted', true) is distinct from 'on'
        and (old.subject, old.generation) is distinct from (new.subject, new.generation))
    execute function cf_note_change('subject', 'subject');
create trigger cf_subjects_renamed after update of subject on cf_subjects for each row
    when (old.subject is distinct from new.subject) execute function cf_reference_changed('subject');
create trigger cf_users_are_own after insert or delete or update of username on cf_users
    for each row execute function cf_note_own('username');
create trigger cf_clients_are_own after insert or delete or update of client_id on cf_clients
    for each row execute function cf_note_own('client_id');
create constraint trigger cf_keys_changed after insert or delete or update of kid, algorithm, state on cf_keys
    deferrable initially deferred for each row
    when (current_setting('counterfoil.noted', true) is distinct from 'on')
    execute function cf_note_key_change();
