-- PostgreSQL compares text by its bytes from here on, as SQLite always has.
select 1;
