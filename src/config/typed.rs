//! How a setting is read from what was written: its kind, its default and its bounds, once for every source.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::Secret;
use super::source::{Origin, Reader};
use crate::error::Error;

impl Reader {
    /// Reads a setting of any kind: `parse` makes it of what was written, `show` writes it for `explain`.
    fn read<T>(
        &mut self,
        key: &'static str,
        default: T,
        must: &str,
        parse: impl FnOnce(&Value) -> Option<T>,
        show: impl FnOnce(&T) -> Value,
    ) -> Result<T, Error> {
        let written = self.take(key);
        let value = match &written {
            None => default,
            Some(written) => parse(&written.value).ok_or_else(|| self.refuse(key, must))?,
        };
        self.explain(key, show(&value), written.as_ref().map(|written| &written.origin));
        Ok(value)
    }

    pub(super) fn text(&mut self, key: &'static str, default: &str) -> Result<String, Error> {
        let parse = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        self.read(key, default.to_owned(), "must be text, and not empty", parse, |text| text.as_str().into())
    }

    /// Text that may be empty.
    pub(super) fn text_or_empty(&mut self, key: &'static str, default: &str) -> Result<String, Error> {
        let parse = |value: &Value| value.as_str().map(str::to_owned);
        self.read(key, default.to_owned(), "must be text", parse, |text| text.as_str().into())
    }

    pub(super) fn optional_text(&mut self, key: &'static str) -> Result<Option<String>, Error> {
        let parse = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(|text| Some(text.to_owned()));
        self.read(key, None, "must be text, and not empty", parse, |text| text.clone().into())
    }

    /// The name of a header, or `false`, which is empty then.
    pub(super) fn header_or_false(&mut self, key: &'static str) -> Result<Option<String>, Error> {
        let parse = |value: &Value| match value {
            Value::Bool(false) => Some(Some(String::new())),
            // As an environment variable has it, and as other settings are switched off.
            Value::String(text) if is_word(text, &["", "false", "off"]) => Some(Some(String::new())),
            // No header has a name like these: whoever writes one means something else.
            Value::String(text) if is_word(text, &["true", "on", "yes", "no", "none", "0", "1"]) => None,
            Value::String(name) => Some(Some(name.clone())),
            _ => None,
        };
        self.read(key, None, "must be the name of a header, or false", parse, |name| match name {
            Some(name) if !name.is_empty() => name.as_str().into(),
            _ => false.into(),
        })
    }

    pub(super) fn path(&mut self, key: &'static str) -> Result<Option<PathBuf>, Error> {
        Ok(self.optional_text(key)?.map(PathBuf::from))
    }

    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> Result<bool, Error> {
        let parse = |value: &Value| match value {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        self.read(key, default, "must be true or false", parse, |flag| (*flag).into())
    }

    pub(super) fn number(&mut self, key: &'static str, default: u32, range: RangeInclusive<u32>) -> Result<u32, Error> {
        let must = format!("must be a whole number from {} to {}", range.start(), range.end());
        let parse = |value: &Value| whole_number(value).and_then(|n| n.try_into().ok()).filter(|n| range.contains(n));
        self.read(key, default, &must, parse, |number| (*number).into())
    }

    /// A whole number, or `off`.
    pub(super) fn number_or_off(
        &mut self,
        key: &'static str,
        default: Option<u32>,
        range: RangeInclusive<u32>,
    ) -> Result<Option<u32>, Error> {
        let must = format!("must be \"off\", or a whole number from {} to {}", range.start(), range.end());
        let parse = |value: &Value| match value.as_str() {
            Some("off") => Some(None),
            _ => whole_number(value).and_then(|n| n.try_into().ok()).filter(|n| range.contains(n)).map(Some),
        };
        self.read(key, default, &must, parse, |number| number.map_or_else(|| "off".into(), Value::from))
    }

    pub(super) fn optional_port(&mut self, key: &'static str) -> Result<Option<u16>, Error> {
        let parse =
            |value: &Value| whole_number(value).and_then(|n| n.try_into().ok()).filter(|port| *port > 0).map(Some);
        self.read(key, None, "must be a port, from 1 to 65535", parse, |port| (*port).into())
    }

    pub(super) fn optional_address(&mut self, key: &'static str) -> Result<Option<IpAddr>, Error> {
        let parse = |value: &Value| value.as_str().and_then(|text| text.parse().ok()).map(Some);
        let show = |address: &Option<IpAddr>| address.map(|address| address.to_string()).into();
        self.read(key, None, "must be an IP address, such as 127.0.0.1", parse, show)
    }

    /// A duration such as `15m`, within these bounds.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Result<Duration, Error> {
        let must = duration_must(&range, "");
        let parse = |value: &Value| duration(value).filter(|duration| range.contains(duration));
        self.read(key, default, &must, parse, |duration| duration_text(*duration).into())
    }

    /// The same in whole seconds, as the times of tokens are.
    pub(super) fn seconds(
        &mut self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Result<Duration, Error> {
        let must = format!("{}, in whole seconds", duration_must(&range, ""));
        let parse =
            |value: &Value| duration(value).filter(|duration| range.contains(duration) && duration.subsec_nanos() == 0);
        self.read(key, default, &must, parse, |duration| duration_text(*duration).into())
    }

    /// A duration such as `15m`, or `off`.
    pub(super) fn duration_or_off(
        &mut self,
        key: &'static str,
        default: Option<Duration>,
        range: RangeInclusive<Duration>,
    ) -> Result<Option<Duration>, Error> {
        let must = duration_must(&range, "\"off\", or ");
        let parse = |value: &Value| match value.as_str() {
            Some("off") => Some(None),
            _ => duration(value).filter(|duration| range.contains(duration)).map(Some),
        };
        self.read(key, default, &must, parse, |duration| {
            duration.map_or_else(|| "off".to_owned(), duration_text).into()
        })
    }

    /// One of these words.
    pub(super) fn choice<T: Copy + PartialEq>(
        &mut self,
        key: &'static str,
        default: T,
        words: &[(&'static str, T)],
    ) -> Result<T, Error> {
        let parse = |value: &Value| word(value, words);
        let show = |choice: &T| words.iter().find(|(_, value)| value == choice).map(|(word, _)| *word).into();
        self.read(key, default, &words_must("must be", words), parse, show)
    }

    /// Some of these words, each once, in the order written.
    pub(super) fn choices<T: Copy + PartialEq>(
        &mut self,
        key: &'static str,
        default: &[T],
        words: &[(&'static str, T)],
    ) -> Result<Vec<T>, Error> {
        let parse = |value: &Value| {
            let mut chosen = Vec::new();
            for item in list(value)? {
                let choice = word(&item, words)?;
                if chosen.contains(&choice) {
                    return None;
                }
                chosen.push(choice);
            }
            Some(chosen)
        };
        let show = |chosen: &Vec<T>| words_of(chosen, words).into();
        self.read(key, default.to_vec(), &words_must("must be a list with each at most once of", words), parse, show)
    }

    /// A list of text, or one text alone.
    pub(super) fn texts(&mut self, key: &'static str) -> Result<Vec<String>, Error> {
        let parse = |value: &Value| match value {
            Value::String(text) if !text.trim_start().starts_with('[') => Some(vec![text.clone()]),
            _ => list(value)?.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        };
        self.read(key, Vec::new(), "must be a list of text, such as [\"a\", \"b\"]", parse, |texts| {
            texts.clone().into()
        })
    }

    /// A list of whatever `parse` makes of each item.
    pub(super) fn items<T>(
        &mut self,
        key: &'static str,
        must: &str,
        parse: impl Fn(&Value) -> Option<T>,
        show: impl Fn(&T) -> Value,
    ) -> Result<Vec<T>, Error> {
        let parse = |value: &Value| list(value)?.iter().map(&parse).collect();
        self.read(key, Vec::new(), must, parse, |items| items.iter().map(&show).collect())
    }

    /// A secret, which is never shown, or the file that holds it.
    pub(super) fn secret(
        &mut self,
        key: Option<&'static str>,
        key_file: &'static str,
        default: Option<&str>,
        show: impl FnOnce(&str) -> String,
    ) -> Result<Option<Secret>, Error> {
        let direct = key.and_then(|key| self.take(key).map(|written| (key, written)));
        let file = self.take(key_file);
        let (direct, file) = match (direct, file) {
            (Some((key, direct)), Some(file)) if direct.origin.rank() == file.origin.rank() => {
                return Err(self.refuse(key, format!("and {} can't both be set: keep one", self.name(key_file))));
            }
            (Some((_, direct)), Some(file)) if direct.origin.rank() < file.origin.rank() => (None, Some(file)),
            (Some((key, direct)), _) => (Some((key, direct)), None),
            (None, file) => (None, file),
        };
        let (secret, origin) = match (&direct, &file) {
            (Some((key, written)), _) => {
                let text = written.value.as_str().filter(|text| !text.is_empty());
                let text = text.ok_or_else(|| self.refuse(key, "must be text, and not empty"))?;
                (Some(text.to_owned()), Some(written.origin.clone()))
            }
            (None, Some(written)) => {
                let path = written.value.as_str().ok_or_else(|| self.refuse(key_file, "must be the path of a file"))?;
                (Some(self.secret_file(key_file, Path::new(path))?), Some(Origin::Figment(format!("file {path}"))))
            }
            (None, None) => (default.map(str::to_owned), None),
        };
        if let Some(key) = key {
            self.explain(key, secret.as_deref().map(show), origin.as_ref());
        }
        let path = file.as_ref().map(|written| written.value.clone());
        self.explain(key_file, path, file.as_ref().map(|written| &written.origin));
        Ok(secret.map(Secret))
    }

    pub(super) fn secret_file(&self, key: &str, path: &Path) -> Result<String, Error> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            self.refuse(key, format!("names {}, which can't be read", path.display())).with_source(error)
        })?;
        let text = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
        if text.is_empty() {
            return Err(self.refuse(key, format!("names {}, which is empty", path.display())));
        }
        Ok(text.to_owned())
    }
}

fn whole_number(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => text.parse().ok(),
        _ => value.as_u64(),
    }
}

fn list(value: &Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(items) => Some(items.clone()),
        Value::String(text) => serde_json::from_str(text).ok(),
        _ => None,
    }
}

fn word<T: Copy>(value: &Value, words: &[(&'static str, T)]) -> Option<T> {
    let text = value.as_str()?;
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
}

fn words_of<T: PartialEq>(chosen: &[T], words: &[(&'static str, T)]) -> Vec<&'static str> {
    chosen.iter().filter_map(|choice| words.iter().find(|(_, value)| value == choice).map(|(word, _)| *word)).collect()
}

fn words_must<T>(must: &str, words: &[(&'static str, T)]) -> String {
    let words: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{must} {} or {last}", rest.join(", ")),
        _ => format!("{must} {}", words.concat()),
    }
}

/// A number alone is no duration: nothing says of what.
fn duration(value: &Value) -> Option<Duration> {
    humantime::parse_duration(value.as_str()?).ok()
}

fn duration_must(range: &RangeInclusive<Duration>, or: &str) -> String {
    let (least, most) = (duration_text(*range.start()), duration_text(*range.end()));
    format!("must be {or}a duration with its unit, such as \"15m\" or \"30d\", from {least} to {most}")
}

/// In the largest unit that divides it.
fn duration_text(duration: Duration) -> String {
    const UNITS: [(u128, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    UNITS
        .iter()
        .find(|(unit, _)| millis.is_multiple_of(*unit))
        .map_or_else(|| format!("{millis}ms"), |(unit, name)| format!("{}{name}", millis / unit))
}

/// Whether a text is one of these words, however it is written.
fn is_word(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.eq_ignore_ascii_case(word))
}
