//! The console in a real Chromium, as people use it. What is in a file of its own here drives the browser; the tests
//! beside it are named by what they hold.

mod admin;
mod attacks;
mod driver;
mod element;
mod harness;
mod keyboard;
mod manners;
mod page;
mod pages;
mod person;
mod site;
mod user;
