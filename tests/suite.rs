//! The tests that go through the public interface, the server's socket and its command line: one file a behaviour, each
//! run over both databases where a database takes part.
#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod support;

mod accounts;
mod binary;
mod guards;
mod layering;
mod quickstart;
mod registry;
