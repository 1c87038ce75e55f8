//! The tests that go through the public interface, the server's socket and its command line: one file a behaviour, each
//! run over both databases where a database takes part.
#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod support;

mod accounts;
mod admin;
mod algorithms;
mod bad_input;
mod binary;
mod caddy;
mod check_endpoint;
mod check_refresh_mode;
mod cli;
mod clients;
mod coherence;
mod console;
mod console_tokens;
mod contract_errors;
mod cookies;
mod cors;
mod discovery;
mod examine;
mod expiry_purge;
mod faults;
mod feed;
mod feed_stream;
mod gateway;
mod guards;
mod import;
mod integrations;
mod interop;
mod introspection;
mod issuing_for_others;
mod keys;
mod layering;
mod lifecycle;
mod locations;
mod oauth_revocation;
mod oauth_token;
mod openapi;
mod password;
mod processes;
mod proxy;
mod purge_status;
mod quickstart;
mod registry;
mod rfc8725;
mod rotation;
mod search;
mod seed_flow;
mod session_cap;
mod sessions;
mod tokens;
mod users;
