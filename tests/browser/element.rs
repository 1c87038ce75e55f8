//! One element of a page, and what can be done with it.

use super::driver::Failure;
use super::page::{Browser, ELEMENT, text};
use crate::support::{Value, json};

/// An element of the page.
pub(crate) struct Element<'b> {
    browser: &'b Browser,
    pub(super) id: String,
}

impl<'b> Element<'b> {
    pub(super) fn of(browser: &'b Browser, id: &str) -> Self {
        Self { browser, id: id.to_owned() }
    }

    pub(crate) async fn click(&self) {
        self.post("click", json!({})).await;
    }

    /// Clicks, and waits for the page that it leads to.
    pub(crate) async fn follow(&self) {
        self.browser.turn(self.click()).await;
    }

    /// Types this after what is there.
    pub(crate) async fn type_in(&self, text: &str) {
        self.post("value", json!({ "text": text })).await;
    }

    /// Types this in place of what is there.
    pub(crate) async fn fill(&self, text: &str) {
        self.post("clear", json!({})).await;
        self.type_in(text).await;
    }

    /// What can be read of it.
    pub(crate) async fn text(&self) -> String {
        text(self.get("text").await)
    }

    /// An attribute as the document has it.
    pub(crate) async fn attribute(&self, name: &str) -> Option<String> {
        self.get(&format!("attribute/{name}")).await.as_str().map(str::to_owned)
    }

    /// A property as it is now, such as the `value` of a field.
    pub(crate) async fn property(&self, name: &str) -> Value {
        self.get(&format!("property/{name}")).await
    }

    /// What a screen reader calls its kind.
    pub(crate) async fn role(&self) -> String {
        text(self.get("computedrole").await)
    }

    /// What a screen reader calls it, which reads no white space around it; some versions of the browser give that too.
    pub(crate) async fn name(&self) -> String {
        text(self.get("computedlabel").await).trim().to_owned()
    }

    pub(super) async fn role_now(&self) -> Option<String> {
        self.try_get("computedrole").await.ok().map(text)
    }

    pub(super) async fn name_now(&self) -> Option<String> {
        self.try_get("computedlabel").await.ok().map(|name| text(name).trim().to_owned())
    }

    /// As an argument of a script.
    pub(crate) fn value(&self) -> Value {
        json!({ ELEMENT: self.id })
    }

    async fn try_get(&self, what: &str) -> Result<Value, Failure> {
        self.browser.session.command("GET", &format!("/element/{}/{what}", self.id), json!({})).await
    }

    async fn get(&self, what: &str) -> Value {
        self.browser.get(&format!("/element/{}/{what}", self.id)).await
    }

    async fn post(&self, what: &str, body: Value) -> Value {
        self.browser.post(&format!("/element/{}/{what}", self.id), body).await
    }
}
