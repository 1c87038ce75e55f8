-- Where a registry begins stands in its log like every later position, so that a replica that joined there is found by the
-- first change and has not to join anew. It is told to nobody: nothing comes before it.
insert into cf_changes (seq, change, kind, target, at)
select seq, change, 'key', '', extract(epoch from now())::bigint from cf_position where seq = 0 and not exists (select 1 from cf_changes);
