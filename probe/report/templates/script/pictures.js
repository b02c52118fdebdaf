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
  const shown = pictures.filter((picture) => !picture.closest(".off, .gone"));
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

/* a filter for galleries: whole strips where there are many, else single pictures */
const own = (element) => `${element.id} ${words(element.querySelector(":scope > figcaption, :scope > .about"))}`;
const describe = (element) => {
  const parts = [element.closest(".strip") ?? element, ...(element.matches(".tile") ? [element] : all(".strip, .tile", element))];
  const alts = all("img.pic", element).map((picture) => picture.alt);
  const names = parts.map(own).join("\n").toLowerCase();
  return { names, text: `${names} ${alts.join(" ").toLowerCase()}`, numbers: figures(names) };
};
for (const block of all(".gallery")) {
  const [rows, tiles] = [all(".strips > *", block), all(".tile", block)];
  const whole = block.matches(".slides") || rows.length >= 8;
  const units = whole ? rows : tiles;
  if (units.length < (whole ? 8 : 16)) continue;
  const after = () => { if (!whole) for (const row of rows) row.classList.toggle("gone", !row.querySelector(".tile:not(.gone)")); };
  addFilter(block, block.querySelector(".strips"), words(block.querySelector("h3")), units, describe, whole ? "rows" : "pictures", { after });
}
