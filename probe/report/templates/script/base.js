const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
const make = (name, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
};
const words = (element) => {
  const nodes = Array.from(element ? element.childNodes : []).filter((node) => !node.classList?.contains("perma"));
  return nodes.map((node) => node.textContent).join("").trim();
};

/* one small box for values and explanations, near what they belong to */
const tip = make("div", { className: "tip", id: "tip:", hidden: true });
tip.setAttribute("aria-hidden", "true");
document.body.append(tip);
let shownAt = 0;
const showTip = (text, x, y, below = false) => {
  shownAt = performance.now();
  tip.textContent = text;
  tip.hidden = false;
  const top = below ? Math.min(y, innerHeight - tip.offsetHeight - 4) : y - tip.offsetHeight - 12;
  tip.style.left = `${Math.max(4, Math.min(x, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${Math.max(4, top)}px`;
};
const hideTip = () => { tip.hidden = true; };
addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });
// focus and hover scroll by themselves; only what comes later is the reader's scrolling
addEventListener("scroll", () => { if (performance.now() - shownAt > 400) hideTip(); }, { passive: true, capture: true });

/* copy buttons: the texts of the named elements, a list's entries one a line */
const plainText = (element) => {
  const entries = all("li", element);
  return entries.length ? entries.map((entry) => entry.textContent.trim()).join("\n") : element.textContent;
};
const copyText = async (sources) => {
  try {
    await navigator.clipboard.writeText(sources.map(plainText).join("\n\n"));
    return true;
  } catch {
    const range = document.createRange();
    range.setStartBefore(sources[0]);
    range.setEndAfter(sources.at(-1));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    return document.execCommand("copy");
  }
};
for (const button of all("button[data-copy]")) {
  const sources = button.dataset.copy.split(" ").map((id) => document.getElementById(id));
  const label = [...button.childNodes];
  button.hidden = false;
  button.setAttribute("aria-live", "polite");
  button.addEventListener("click", async () => {
    button.textContent = (await copyText(sources)) ? "Copied" : "Press Ctrl+C";
    setTimeout(() => button.replaceChildren(...label), 2000);
  });
}
