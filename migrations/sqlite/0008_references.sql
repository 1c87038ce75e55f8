-- PostgreSQL holds what refers to what by triggers from here on, since its foreign keys cost too much. SQLite's don't.
select 1;
