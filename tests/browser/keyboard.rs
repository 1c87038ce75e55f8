//! A page by keyboard alone.

use super::element::Element;
use super::page::Browser;
use crate::support::json;

pub(crate) const TAB: &str = "\u{e004}";
pub(crate) const ENTER: &str = "\u{e007}";
pub(crate) const SPACE: &str = " ";

/// More than any page has.
const MANY: usize = 300;

/// How everything looks without the focus.
const AT_REST: &str = r"
    const look = element => {
        const style = getComputedStyle(element);
        return [style.outlineStyle, style.outlineWidth, style.outlineColor, style.boxShadow, style.borderColor].join();
    };
    document.activeElement?.blur();
    window.atRest = { look, looks: new Map([...document.querySelectorAll('*')].map(one => [one, look(one)])) };";

/// What has the focus, and whether that looks otherwise than without and can be seen. Past the last element the page
/// itself has it, or nothing.
const FOCUS: &str = r"
    const element = document.activeElement;
    if ([null, document.body, document.documentElement].includes(element)) return null;
    const box = element.getBoundingClientRect();
    const isInSight = box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight;
    return [element, isInSight && window.atRest.look(element) !== window.atRest.looks.get(element)];";

/// Where the focus rests on its way through a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) role: String,
    pub(crate) name: String,
    /// Whether one sees that it has the focus.
    pub(crate) is_visible: bool,
}

/// Tabs through the whole page, from its beginning.
pub(crate) async fn tab_through(browser: &Browser) -> Vec<Stop> {
    browser.execute(AT_REST, json!([])).await;
    let mut stops: Vec<Stop> = Vec::new();
    let mut at = Vec::new();
    for _ in 0..MANY {
        browser.press(TAB).await;
        let focus = browser.execute(FOCUS, json!([])).await;
        // Past the last element comes the page itself, or the first again.
        let Some(element) = browser.elements(&focus).into_iter().next() else { return stops };
        let is_visible = focus[1] == true;
        match (at.first() == Some(&element.id), at.last() == Some(&element.id)) {
            // A field of several parts, such as a date, of which one at least is seen to have it.
            (_, true) => stops.last_mut().unwrap().is_visible |= is_visible,
            (true, false) => return stops,
            (false, false) => {
                stops.push(Stop { role: element.role().await, name: element.name().await, is_visible });
                at.push(element.id);
            }
        }
    }
    panic!("no end of {stops:#?}");
}

/// Every stop has a name and is seen to have the focus.
pub(crate) async fn usable_by_keyboard(browser: &Browser) -> Vec<Stop> {
    let stops = tab_through(browser).await;
    let bad: Vec<&Stop> = stops.iter().filter(|stop| stop.name.is_empty() || !stop.is_visible).collect();
    assert!(!stops.is_empty() && bad.is_empty(), "{}: {bad:#?} of {stops:#?}", browser.url().await);
    stops
}

/// Tabs on until this has the focus.
pub(crate) async fn tab_to<'b>(browser: &'b Browser, role: &str, name: &str) -> Element<'b> {
    let mut passed = Vec::new();
    while passed.len() < MANY {
        browser.press(TAB).await;
        let element = browser.focused().await;
        let stop = (element.role().await, element.name().await);
        if stop == (role.to_owned(), name.to_owned()) {
            return element;
        }
        passed.push(stop);
    }
    passed.dedup();
    passed.truncate(40);
    panic!("the focus comes to no {role} named {name:?}: {passed:?}");
}
