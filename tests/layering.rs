//! The order of the layers, the one owner of each foreign crate, and the twins: read from the source, so that a short
//! cut shows as a failing test. The picture is in `docs/architecture.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each module of the crate and what it may import. What is not listed is forbidden.
///
/// Guards, the fairing and the routes know the registry and never the store or the keys, so that no route can check a
/// token around the rules.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("clock", &[]),
    ("token", &["error"]),
    ("config", &["token", "error"]),
    ("keys", &["token", "config", "error"]),
    ("store", &["token", "error"]),
    ("registry", &["store", "keys", "token", "config", "clock", "error"]),
    ("accounts", &["registry", "store", "token", "config", "clock", "error"]),
    ("clients", &["accounts", "registry", "store", "keys", "token", "config", "clock", "error"]),
    ("guard", &["registry", "token", "config", "clock", "error"]),
    ("fairing", &["guard", "registry", "token", "config", "clock", "error"]),
    ("http", &["clients", "accounts", "guard", "fairing", "registry", "token", "config", "clock", "error"]),
    ("cli", &["http", "clients", "accounts", "registry", "token", "config", "clock", "error"]),
    ("main", &["cli"]),
];

/// Foreign crates with one owner, and the paths under `src/` that may name them.
const OWNERS: &[(&str, &[&str])] = &[
    ("sqlx", &["store/"]),
    ("jsonwebtoken", &["keys/"]),
    ("aws_lc_rs", &["keys/"]),
    ("pem", &["keys/"]),
    ("base64", &["keys/", "http/client.rs"]),
    ("async_trait", &["store/"]),
    ("rocket", &["guard/", "fairing.rs", "http/"]),
    ("figment", &["config/"]),
    ("percent_encoding", &["config/"]),
    ("strsim", &["config/"]),
    ("humantime", &["config/", "cli/"]),
    ("clap", &["cli/"]),
    ("clap_complete", &["cli/"]),
    ("indicatif", &["cli/"]),
    ("rpassword", &["cli/"]),
    ("tracing_log", &["cli/"]),
    ("tracing_subscriber", &["cli/"]),
    ("argon2", &["accounts/"]),
    ("askama", &["http/console/"]),
    ("prometheus", &["registry/metrics.rs"]),
    ("quick_cache", &["registry/memory.rs"]),
    ("siphasher", &["registry/memory.rs"]),
    ("rustix", &["clock.rs", "registry/open.rs"]),
    ("tikv_jemallocator", &["main.rs"]),
    ("stateright", &["registry/model/"]),
    ("ua_parser", &["http/console/"]),
    ("utoipa", &["http/"]),
    ("utoipa_swagger_ui", &["http/"]),
    ("serde_path_to_error", &["http/"]),
];

#[test]
fn layers_import_only_downwards() {
    let sources = sources();
    let defined = top_level_owners(&sources);
    let mut wrong = Vec::new();
    for (file, text) in &sources {
        let modules = module_path(file);
        let Some(layer) = modules.first().map_or_else(|| main_only(file), |first| Some(first.clone())) else {
            continue;
        };
        let allowed = MAY_IMPORT.iter().find(|(name, _)| *name == layer);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("{file}: {layer} is no layer: add it to MAY_IMPORT"));
        for target in imported_layers(&modules, text, &defined) {
            if target != layer && !allowed.contains(&target.as_str()) {
                wrong.push(format!("{file} ({layer}) imports {target}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_foreign_crate_has_one_owner() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        for path in paths(&text) {
            let owner = OWNERS.iter().find(|(name, _)| path.segments.first().is_some_and(|first| first == name));
            let Some((name, places)) = owner else { continue };
            if !places.iter().any(|place| file.starts_with(place)) {
                wrong.push(format!("{file} names {name}, which belongs to {places:?}"));
            }
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_layer_of_the_rules_exists() {
    let layers: BTreeSet<String> =
        sources().iter().filter_map(|(file, _)| module_path(file).first().cloned()).collect();
    let ruled: BTreeSet<String> =
        MAY_IMPORT.iter().map(|(name, _)| (*name).to_owned()).filter(|name| name != "main").collect();
    assert_eq!(layers, ruled);
}

#[test]
fn migrations_are_twins() {
    let names = |database: &str| -> Vec<String> {
        let folder = root().join("migrations").join(database);
        let mut names: Vec<String> = files(&folder).iter().map(|path| name_of(path)).collect();
        names.sort();
        names
    };
    assert!(!names("sqlite").is_empty());
    assert_eq!(names("sqlite"), names("postgres"));
}

#[test]
fn checked_queries_of_both_databases_are_committed() {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for path in files(&root().join(".sqlx")) {
        let query: serde_json::Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        *counts.entry(query["db_name"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let databases: Vec<&str> = counts.keys().map(String::as_str).collect();
    assert_eq!(databases, ["PostgreSQL", "SQLite"], "{counts:?}");
}

#[test]
fn the_reader_finds_what_it_looks_for() {
    let text = r##"
        //! crate::cli is named in a comment.
        use crate::{store::{self, Status}, token::Jti};
        use super::keys::Verified as V;
        #[sqlx::test] fn f() { let s = "crate::http::x"; let c = '"'; crate::config::Settings::default(); }
        mod tests { use super::*; use super::super::registry::Registry; fn g() { crate::Denial::Missing; } }
    "##;
    let defined = BTreeMap::from([("Denial".to_owned(), "token".to_owned())]);
    let layers = imported_layers(&["guard".to_owned()], text, &defined);
    assert_eq!(layers, ["config", "guard", "keys", "registry", "store", "token"].map(str::to_owned).into());
    assert!(paths(text).iter().any(|path| path.segments == ["sqlx", "test"]));
}

/// A path as it is written, and the inline modules around it.
struct Mention {
    segments: Vec<String>,
    inline: Vec<String>,
}

/// The top-level modules of the crate that a file imports.
fn imported_layers(modules: &[String], text: &str, defined: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut layers = BTreeSet::new();
    for Mention { segments, inline } in paths(text) {
        let mut rest = segments.as_slice();
        let mut base: Vec<String> = modules.iter().chain(&inline).cloned().collect();
        match rest.first().map(String::as_str) {
            Some("crate" | "counterfoil") => {
                base.clear();
                rest = &rest[1..];
            }
            Some("super") => {
                while rest.first().is_some_and(|first| first == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            _ => continue,
        }
        let Some(top) = base.first().or(rest.first()) else { continue };
        let is_layer = MAY_IMPORT.iter().any(|(layer, _)| layer == top);
        // What the crate's root re-exports belongs to the module that defines it.
        layers.insert(defined.get(top).filter(|_| !is_layer).unwrap_or(top).clone());
    }
    layers.remove("*");
    layers
}

/// Which top-level module defines each name.
fn top_level_owners(sources: &[(String, String)]) -> BTreeMap<String, String> {
    let mut owners = BTreeMap::new();
    for (file, text) in sources {
        let Some(layer) = module_path(file).first().cloned() else { continue };
        let tokens: Vec<String> = tokens(text).into_iter().filter(|token| token != "!").collect();
        for pair in tokens.windows(2) {
            if ["struct", "enum", "trait", "fn", "type", "macro_rules"].contains(&pair[0].as_str()) {
                owners.entry(pair[1].clone()).or_insert_with(|| layer.clone());
            }
        }
    }
    owners
}

/// All paths of a source text: of `use` trees, one for each leaf, and of expressions, types and attributes.
fn paths(text: &str) -> Vec<Mention> {
    let tokens = tokens(text);
    let mut found = Vec::new();
    let mut inline: Vec<(String, usize)> = Vec::new();
    let (mut depth, mut at) = (0_usize, 0_usize);
    while at < tokens.len() {
        match tokens[at].as_str() {
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                inline.retain(|(_, opened)| *opened < depth + 1);
            }
            "mod" if tokens.get(at + 2).is_some_and(|token| token == "{") => {
                inline.push((tokens[at + 1].clone(), depth + 1));
                at += 1;
            }
            word if is_word(word) && (at == 0 || (tokens[at - 1] != "." && tokens[at - 1] != "::")) => {
                let is_use = at > 0 && (tokens[at - 1] == "use" || tokens[at - 1] == "crate");
                let mut leaves = Vec::new();
                at = leaves_of(&tokens, at, &[], &mut leaves);
                let modules: Vec<String> = inline.iter().map(|(name, _)| name.clone()).collect();
                for segments in leaves.into_iter().filter(|leaf| is_use || leaf.len() > 1) {
                    found.push(Mention { segments, inline: modules.clone() });
                }
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Reads one path or `use` tree from `at`; returns where it ends.
fn leaves_of(tokens: &[String], mut at: usize, prefix: &[String], leaves: &mut Vec<Vec<String>>) -> usize {
    let mut path = prefix.to_vec();
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    at = if tokens[at] == "," { at + 1 } else { leaves_of(tokens, at, &path, leaves) };
                }
                return at + 1;
            }
            Some(word) if is_word(word) || word == "*" => path.push(word.to_owned()),
            _ => return at + 1,
        }
        at += 1;
        let goes_on = tokens.get(at).is_some_and(|token| token == "::")
            && tokens.get(at + 1).is_some_and(|next| is_word(next) || next == "*" || next == "{");
        if !goes_on {
            leaves.push(path);
            // A renamed leaf: the new name is no path.
            return if tokens.get(at).is_some_and(|token| token == "as") { at + 2 } else { at };
        }
        at += 1;
    }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// Words, `::` and single signs, without comments, strings and character literals.
fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let next = chars.get(at + 1).copied();
        match chars[at] {
            '/' if next == Some('/') => at += chars[at..].iter().take_while(|c| **c != '\n').count(),
            '"' => at = string_end(&chars, at),
            'r' if next == Some('"') || next == Some('#') => {
                let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
                if chars.get(at + 1 + hashes) == Some(&'"') {
                    at = raw_string_end(&chars, at + 2 + hashes, hashes);
                } else {
                    at = word_end(&chars, at, &mut tokens);
                }
            }
            '\'' if next == Some('\\') => {
                let closing = chars.iter().skip(at + 3).take_while(|c| **c != '\'').count();
                at += 3 + closing + 1;
            }
            '\'' if chars.get(at + 2) == Some(&'\'') => at += 3,
            ':' if next == Some(':') => {
                tokens.push("::".to_owned());
                at += 2;
            }
            c if c.is_alphanumeric() || c == '_' => at = word_end(&chars, at, &mut tokens),
            c => {
                if !c.is_whitespace() {
                    tokens.push(c.to_string());
                }
                at += 1;
            }
        }
    }
    tokens
}

fn word_end(chars: &[char], at: usize, tokens: &mut Vec<String>) -> usize {
    let word: String = chars[at..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').collect();
    let end = at + word.chars().count();
    tokens.push(word);
    end
}

fn string_end(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

fn raw_string_end(chars: &[char], start: usize, hashes: usize) -> usize {
    (start..chars.len())
        .find(|at| chars[*at] == '"' && chars[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes)
        .map_or(chars.len(), |at| at + 1 + hashes)
}

/// `registry/check.rs` is `[registry, check]`; the crate's roots are `[]`.
fn module_path(file: &str) -> Vec<String> {
    let modules = file.trim_end_matches(".rs").trim_end_matches("/mod");
    if modules == "lib" || modules == "main" { Vec::new() } else { modules.split('/').map(str::to_owned).collect() }
}

/// `lib.rs` names every layer, that being its job; `main.rs` is a layer.
fn main_only(file: &str) -> Option<String> {
    (file == "main.rs").then(|| "main".to_owned())
}

/// All sources, by their paths under `src/`.
fn sources() -> Vec<(String, String)> {
    let src = root().join("src");
    let mut sources: Vec<(String, String)> = files(&src)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| {
            let relative = path.strip_prefix(&src).unwrap().to_string_lossy().replace('\\', "/");
            (relative, fs::read_to_string(&path).unwrap())
        })
        .collect();
    sources.sort();
    assert!(sources.len() > 20, "where are the sources?");
    sources
}

/// All files under a folder, at any depth.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries
        .map(|entry| entry.unwrap().path())
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
