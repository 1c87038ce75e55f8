-- On PostgreSQL a table that is emptied at once empties the log of changes, too. SQLite has no such statement.
select 1;
