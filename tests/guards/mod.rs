//! The library's guards through real routes, with a registry in memory and a clock that stands still.

mod app;
mod cookies;
mod denials;
mod fairing;
mod locations;
mod rules;
