/* a wipe between two pictures of a strip: drag, or move by keyboard; all steps of a row share its place */
for (const strip of all(".strip[data-compare]")) {
  const images = all("img.pic", strip);
  const [under, over] = strip.dataset.compare.split(" ").map((index) => all(".tile", strip)[index]?.querySelector("img"));
  if (!under || !over || !images.length) continue;
  const copy = (source) => make("img", { src: source.src, alt: "", className: source.className.replace("pic", ""), width: source.width, height: source.height, draggable: false });
  const [below, above] = [copy(under), copy(over)];
  const range = make("input", { type: "range", min: 0, max: 100, step: 1, value: 50, autocomplete: "off" });
  range.setAttribute("aria-label", `Wipe ${words(strip.querySelector("h4"))}: left ${under.alt}, right ${over.alt}`);
  const edge = make("span", { className: "edge" });
  const move = () => {
    above.style.clipPath = `inset(0 0 0 ${range.value}%)`;
    edge.style.left = `${range.value}%`;
    range.setAttribute("aria-valuetext", `${range.value}%`);
  };
  range.addEventListener("input", () => {
    for (const other of all(".wipe input", strip.closest(".reel") ?? strip)) {
      other.value = range.value;
      other.dispatchEvent(new Event("probe:move"));
    }
  });
  range.addEventListener("probe:move", move);
  const tile = make("figure", { className: over.closest(".tile").className });
  tile.append(make("div", { className: "wipe" }, below, above, edge, range), make("figcaption", { textContent: "drag to compare" }));
  strip.querySelector(".tiles").append(tile);
  move();
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
  if (strip) slides.get(strip.closest(".slides"))(Array.from(strip.parentNode.children).indexOf(strip));
  const filtered = target?.closest(".gone");
  if (filtered) filters.get(filtered.closest("table, .gallery"))();
  if (strip || filtered) target.scrollIntoView();
};
addEventListener("load", reveal);
addEventListener("hashchange", reveal);
