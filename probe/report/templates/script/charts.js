/* values of a chart under the pointer, and by arrow keys in a line below it */
const readouts = new WeakMap();
const readout = (chart) => {
  if (!readouts.has(chart)) {
    const told = make("output", { className: "readout" });
    all(".drawing", chart).at(-1).after(told);
    readouts.set(chart, told);
  }
  return readouts.get(chart);
};
/* marks at one place of a line or bar chart are told together; each other mark alone */
const stopsOf = (plot) => {
  const groups = new Map();
  const together = ["line", "bar"].includes(plot.dataset.kind);
  for (const mark of all(".point, .bar, .cell", plot)) {
    const title = mark.querySelector("title");
    if (!title) continue;
    const lines = title.textContent.split("\n");
    title.remove();
    const place = together ? lines.at(-1) : groups.size;
    if (!groups.has(place)) groups.set(place, { marks: [], place: lines.pop(), values: [] });
    else lines.pop();
    groups.get(place).marks.push(mark);
    groups.get(place).values.push(lines.join(" "));
  }
  return [...groups.values()];
};
for (const plot of all("svg.plot")) {
  const stops = stopsOf(plot);
  if (!stops.length) continue;
  const line = plot.dataset.kind === "line";
  const drawing = plot.closest(".drawing");
  const told = readout(plot.closest(".chart"));
  let near = null;
  const light = (stop) => {
    for (const mark of near?.marks ?? []) mark.classList.remove("near");
    for (const mark of stop?.marks ?? []) mark.classList.add("near");
    near = stop;
  };
  const leave = () => { hideTip(); light(null); };
  const distance = (mark, event) => {
    const box = mark.getBoundingClientRect();
    const dx = Math.max(box.left - event.clientX, 0, event.clientX - box.right);
    const dy = Math.max(box.top - event.clientY, 0, event.clientY - box.bottom);
    return line ? dx + dy / 1000 : Math.hypot(dx, dy);
  };
  const point = (event) => {
    let best = 28, found = null;
    for (const stop of stops) {
      for (const mark of stop.marks) {
        const far = distance(mark, event);
        if (far < best) [best, found] = [far, stop];
      }
    }
    light(found);
    if (found) showTip([...found.values, found.place].join("\n"), event.clientX + 14, event.clientY);
    else hideTip();
  };
  plot.addEventListener("pointermove", point);
  plot.addEventListener("pointerdown", point);
  plot.addEventListener("pointerleave", leave);

  let order = null, at = -1, wide = 1;
  const arrange = () => {
    const middle = ({ marks: [mark] }) => { const box = mark.getBBox(); return [box.x + box.width / 2, box.y]; };
    order = [...stops];
    if (["line", "scatter"].includes(plot.dataset.kind)) order.sort((a, b) => middle(a)[0] - middle(b)[0]);
    if (plot.dataset.kind === "heatmap") wide = stops.filter((stop) => middle(stop)[1] === middle(stops[0])[1]).length;
  };
  drawing.tabIndex = 0;
  drawing.setAttribute("role", "group");
  drawing.setAttribute("aria-label", `${plot.querySelector("title").textContent}: arrow keys step through the values`);
  const keys = { ArrowRight: () => at + 1, ArrowLeft: () => at - 1, Home: () => 0, End: () => order.length - 1 };
  if (plot.dataset.kind === "heatmap") Object.assign(keys, { ArrowDown: () => at + wide, ArrowUp: () => at - wide });
  drawing.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.altKey || event.ctrlKey || event.metaKey) return;
    if (!order) arrange();
    event.preventDefault();
    at = Math.max(0, Math.min(at < 0 ? 0 : keys[event.key](), order.length - 1));
    light(order[at]);
    told.textContent = `${order[at].place} – ${order[at].values.join(" · ")}`;
  });
  drawing.addEventListener("focus", () => { told.textContent ||= "Arrow keys step through the values."; });
  drawing.addEventListener("blur", () => { light(null); told.textContent = ""; at = -1; });
}
