(() => {
"use strict";
const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
const make = (name, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
};

/* copy buttons */
const copyText = async (source) => {
  try {
    await navigator.clipboard.writeText(source.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(source);
    return document.execCommand("copy");
  }
};
for (const button of all("button[data-copy]")) {
  const source = document.getElementById(button.dataset.copy);
  const label = button.textContent;
  button.hidden = false;
  button.setAttribute("aria-live", "polite");
  button.addEventListener("click", async () => {
    button.textContent = (await copyText(source)) ? "Copied" : "Press Ctrl+C";
    setTimeout(() => { button.textContent = label; }, 2000);
  });
}

/* sortable tables */
const sortKey = (cell) => {
  const number = cell.dataset.v === undefined ? NaN : Number(cell.dataset.v);
  return Number.isNaN(number) ? cell.textContent.trim() : number;
};
const compare = (a, b) => {
  const numbers = [a, b].map((key) => typeof key === "number");
  if (numbers[0] && numbers[1]) return a - b;
  if (numbers[0] !== numbers[1]) return numbers[0] ? -1 : 1;
  return a.localeCompare(b, "en", { numeric: true });
};
const sortTable = (table, column, head) => {
  const descending = head.getAttribute("aria-sort") === "ascending";
  for (const other of all("th[aria-sort]", table)) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows, (row) => [sortKey(row.cells[column]), row]);
  const empty = (key) => key === "–" || key === "";
  rows.sort(([a], [b]) => (empty(a) - empty(b)) || (descending ? compare(b, a) : compare(a, b)));
  body.append(...rows.map(([, row]) => row));
};
for (const table of all("table.sortable")) {
  Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
    const cells = Array.from(table.tBodies[0].rows, (row) => row.cells[column]);
    if (cells.length < 3) return;
    const button = make("button", { type: "button" }, ...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sortTable(table, column, head));
  });
}

/* pictures, large: by pointer and by keyboard */
const pictures = all("img.pic");
let current = null;
const image = make("img", { alt: "" });
const caption = make("figcaption");
const dialog = make("dialog", { className: "lightbox" });
dialog.setAttribute("aria-label", "Picture");
const control = (name, sign, label, action) => {
  const button = make("button", { type: "button", className: name, textContent: sign });
  button.setAttribute("aria-label", label);
  button.addEventListener("click", action);
  return button;
};
const words = (element) => {
  const nodes = Array.from(element ? element.childNodes : []).filter((node) => !node.classList?.contains("perma"));
  return nodes.map((node) => node.textContent).join("").trim();
};
const fit = () => {
  const source = current;
  const [w, h] = [image.naturalWidth || source.width, image.naturalHeight || source.height];
  const room = [innerWidth - 32, innerHeight - 190];
  let scale = Math.max(Math.min(room[0] / w, room[1] / h), 0.1);
  if (!source.classList.contains("crisp")) scale = Math.min(scale, Math.max(3, 320 / w));
  else if (scale > 1) scale = Math.min(Math.floor(scale), 64);
  image.style.width = `${Math.round(w * scale)}px`;
  image.style.height = `${Math.round(h * scale)}px`;
};
const show = (source) => {
  current = source;
  const tile = source.closest(".tile");
  const strip = source.closest(".strip");
  image.onload = fit;
  image.src = source.src;
  image.alt = source.alt;
  image.className = source.classList.contains("crisp") ? "crisp" : "";
  const where = [words(source.closest(".gallery").querySelector("h3")), words(strip.querySelector("h4")), words(strip.querySelector(".step")), words(tile.querySelector("figcaption"))];
  caption.replaceChildren(where.filter(Boolean).join(" · "), make("small", {}, source.alt));
  const target = [tile, strip].find((element) => element.id);
  if (target) caption.append(make("a", { href: `#${encodeURI(target.id)}`, textContent: `#${target.id}`, onclick: () => dialog.close() }));
  fit();
};
const turn = (by) => {
  const shown = pictures.filter((picture) => !picture.closest(".off"));
  show(shown.at((shown.indexOf(current) + by) % shown.length));
};
if (pictures.length && dialog.showModal) {
  dialog.append(
    control("back", "←", "Previous picture", () => turn(-1)),
    control("next", "→", "Next picture", () => turn(1)),
    control("close", "Close", "Close", () => dialog.close()),
    make("figure", {}, image, caption),
  );
  document.body.append(dialog);
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") turn(-1);
    else if (event.key === "ArrowRight") turn(1);
    else return;
    event.preventDefault();
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog || event.target.matches("figure")) dialog.close(); });
  dialog.addEventListener("close", () => current.closest("button").focus({ preventScroll: false }));
  addEventListener("resize", () => { if (dialog.open) fit(); });
  for (const picture of pictures) {
    const button = make("button", { type: "button", className: "zoom" });
    button.setAttribute("aria-haspopup", "dialog");
    picture.replaceWith(button);
    button.append(picture);
    button.addEventListener("click", () => { show(picture); dialog.showModal(); });
  }
}

/* slides: one step at a time under a slider; a link into another step leads there */
const slides = new Map();
for (const block of all(".slides")) {
  const reels = all(".reel", block).map((reel) => all(".strip", reel));
  const labels = (reels[0] ?? []).map((strip) => words(strip.querySelector(".step")));
  if (labels.length < 2) continue;
  const range = make("input", { type: "range", min: 0, max: labels.length - 1, step: 1, value: block.dataset.start, autocomplete: "off" });
  range.setAttribute("aria-label", words(block.querySelector("h3")) || "Step");
  const told = make("output", { dir: "auto" });
  told.setAttribute("aria-live", "off"); // a screen reader hears the slider's own value
  const move = () => {
    const step = range.valueAsNumber;
    told.textContent = labels[step];
    range.setAttribute("aria-valuetext", labels[step]);
    for (const strips of reels) strips.forEach((strip, index) => strip.classList.toggle("off", index !== step));
  };
  range.addEventListener("input", move);
  block.querySelector(".strips").before(make("div", { className: "slider" }, range, told));
  block.classList.add("sliding");
  slides.set(block, (step) => { range.value = step; move(); });
  move();
}
const reveal = () => {
  const target = document.querySelector(":target");
  const strip = target?.closest(".off");
  if (!strip) return;
  slides.get(strip.closest(".slides"))(Array.from(strip.parentNode.children).indexOf(strip));
  target.scrollIntoView();
};
addEventListener("load", reveal);
addEventListener("hashchange", reveal);

/* values under the pointer */
const tip = make("div", { className: "tip", hidden: true });
tip.setAttribute("aria-hidden", "true");
document.body.append(tip);
for (const plot of all("svg.plot")) {
  const marks = all("path.point, rect", plot).filter((mark) => mark.querySelector("title"));
  const told = new Map(marks.map((mark) => [mark, mark.querySelector("title").textContent]));
  for (const mark of marks) mark.querySelector("title").remove();
  let near = null;
  const leave = () => { tip.hidden = true; near?.classList.remove("near"); near = null; };
  const distance = (mark, event) => {
    const box = mark.getBoundingClientRect();
    const dx = Math.max(box.left - event.clientX, 0, event.clientX - box.right);
    const dy = Math.max(box.top - event.clientY, 0, event.clientY - box.bottom);
    return Math.hypot(dx, dy);
  };
  plot.addEventListener("pointermove", (event) => {
    let best = 28, found = null;
    for (const mark of marks) {
      const far = distance(mark, event);
      if (far < best) [best, found] = [far, mark];
    }
    if (found !== near) near?.classList.remove("near");
    near = found;
    if (!found) { leave(); return; }
    found.classList.add("near");
    tip.textContent = told.get(found);
    tip.hidden = false;
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${Math.max(4, event.clientY - tip.offsetHeight - 12)}px`;
  });
  plot.addEventListener("pointerleave", leave);
}

/* contents: closed on small screens, open beside the text on wide ones, the present section marked */
const contents = document.querySelector(".contents details");
if (contents) {
  const wide = matchMedia("(min-width: 64rem)");
  const arrange = () => { contents.open = wide.matches; };
  wide.addEventListener("change", arrange);
  arrange();
  const links = new Map(all("a", contents).map((link) => [decodeURIComponent(link.hash.slice(1)), link]));
  const sections = all("main > section").filter((section) => links.has(section.id));
  const mark = () => {
    const passed = sections.filter((section) => section.getBoundingClientRect().top < innerHeight * 0.3);
    const present = passed.at(-1) ?? sections[0];
    for (const [id, link] of links) {
      if (present && id === present.id) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };
  let waiting = false;
  addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; mark(); });
  }, { passive: true });
  mark();
  contents.addEventListener("click", (event) => { if (event.target.closest("a") && !wide.matches) contents.open = false; });
}

/* on paper everything is open */
addEventListener("beforeprint", () => { for (const part of all("main details")) part.open = true; });

/* inside a notebook: tell the frame how high the page is */
if (parent !== window) {
  const tell = () => parent.postMessage({ probeReportHeight: document.documentElement.scrollHeight }, "*");
  new ResizeObserver(tell).observe(document.body);
  tell();
}
})();
