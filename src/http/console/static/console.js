// What pages are nicer with, and can do without: times in the reader's zone, copying, and plots that stay fresh.

const words = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

function localize(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    time.textContent = words.format(at);
    time.title = `${exact.format(at)} (${time.dateTime})`;
  }
}

function offerCopying(root) {
  for (const button of root.querySelectorAll("button[data-copy]")) {
    const source = document.getElementById(button.dataset.copy);
    if (!source || !navigator.clipboard) continue;
    button.hidden = false;
    button.addEventListener("click", async () => {
      const said = button.parentElement.querySelector("[data-copied]");
      try {
        await navigator.clipboard.writeText(source.value ?? source.textContent);
        if (said) said.textContent = "Copied.";
      } catch {
        source.focus();
        source.select?.();
        if (said) said.textContent = "Press Ctrl+C to copy it.";
      }
    });
  }
}

function keepFresh(element) {
  const every = Math.max(2, Number(element.dataset.every) || 10) * 1000;
  const again = () => setTimeout(refresh, every);
  async function refresh() {
    // Nobody looks: nothing is asked.
    if (document.hidden) return again();
    try {
      const answer = await fetch(element.dataset.refresh, { headers: { Accept: "text/html" }, redirect: "error" });
      if (answer.ok) {
        // Parsed as a document of its own, which runs nothing.
        const parsed = new DOMParser().parseFromString(await answer.text(), "text/html");
        element.replaceChildren(...parsed.body.childNodes);
        localize(element);
      }
    } catch {
      // The server is away or the session is over; what is shown stays.
    }
    again();
  }
  again();
}

localize(document);
offerCopying(document);
document.querySelectorAll("[data-refresh]").forEach(keepFresh);
