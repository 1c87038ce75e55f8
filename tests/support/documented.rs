//! What the OpenAPI document says of an answer.

use std::sync::LazyLock;

use super::{Answer, Value};

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../docs/openapi.json")).expect("the document is JSON"));

/// A claim of the tests' own, which no document can name.
const ADDITIONAL: &str = "tenant";

/// Fails where an answer of a documented route has a status that the document has not, or a body that is not as it
/// says.
pub(crate) fn assert_documented(method: &str, path: &str, answer: &Answer) {
    let Some(operation) = operation(method, path) else { return };
    let said = &operation["responses"][answer.status.to_string()];
    assert!(said.is_object(), "{method} {path} is not documented to answer {answer:?}");
    if answer.headers.get("Content-Type").is_none_or(|kind| kind != "application/json") {
        return;
    }
    let content = &said["content"]["application/json"];
    assert!(content.is_object(), "{method} {path} is not documented to answer with JSON: {answer:?}");
    // The document itself has no schema.
    if content["schema"].is_object() {
        let why = misfit(&DOCUMENT, &content["schema"], &answer.body_json());
        assert_eq!(why, None, "{method} {path}: {answer:?}");
    }
}

/// The operation that a request is for. A segment by its name comes before one that may be anything.
fn operation(method: &str, path: &str) -> Option<&'static Value> {
    let segments: Vec<&str> = path.split('/').collect();
    let is_any = |named: &str| named.starts_with('{');
    let fits = |named: &&String| {
        let named: Vec<&str> = named.split('/').collect();
        named.len() == segments.len()
            && named.iter().zip(&segments).all(|(named, sent)| named == sent || (is_any(named) && !sent.is_empty()))
    };
    let paths = DOCUMENT["paths"].as_object()?;
    let found = paths.keys().filter(fits).min_by_key(|named| named.split('/').filter(|part| is_any(part)).count())?;
    paths[found].get(method.to_ascii_lowercase())
}

/// Why a value is not what a schema says: of another type, without a member that must be there, or with one that is not
/// named.
pub(crate) fn misfit(document: &Value, schema: &Value, value: &Value) -> Option<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        return misfit(document, document.pointer(&reference[1..]).unwrap(), value);
    }
    if let Some(ways) = schema["oneOf"].as_array() {
        let fits = ways.iter().any(|way| misfit(document, way, value).is_none());
        return (!fits).then(|| format!("{value} is nothing of {schema}"));
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kinds = schema["type"].as_array().map_or(std::slice::from_ref(&schema["type"]), Vec::as_slice);
    if !kinds.iter().any(|named| named == kind || (kind == "integer" && named == "number")) {
        return Some(format!("{value} is not {}", schema["type"]));
    }
    let of_items = || value.as_array()?.iter().find_map(|item| misfit(document, &schema["items"], item));
    let of_members = || {
        let (members, named) = (value.as_object()?, schema["properties"].as_object()?);
        let mut required = schema["required"].as_array().into_iter().flatten().map(|name| name.as_str().unwrap());
        let missing = required.find(|name| !members.contains_key(*name)).map(|name| format!("{name} is missing"));
        missing.or_else(|| {
            members.iter().find_map(|(name, member)| match named.get(name) {
                None => (name != ADDITIONAL).then(|| format!("{name} is not named")),
                Some(schema) => misfit(document, schema, member).map(|why| format!("{name}: {why}")),
            })
        })
    };
    of_items().or_else(of_members)
}
