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
