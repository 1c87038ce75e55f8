//! Rebuilds when a migration is added: the macro that embeds them sees edits, but not new files.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
