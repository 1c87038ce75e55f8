-- On PostgreSQL a table of clients that is emptied at once makes every replica forget. SQLite has no such statement.
select 1;
