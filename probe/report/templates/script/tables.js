const sortKey = (cell) => {
  const number = Number(cell.dataset.s ?? cell.dataset.v ?? NaN);
  return Number.isNaN(number) ? words(cell) : number;
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
/* the explanation of a column, by pointer, by touch and by keyboard */
const explain = (head) => {
  const help = head.title;
  const target = head.querySelector("button") ?? Object.assign(head, { tabIndex: 0 });
  head.removeAttribute("title");
  const tell = () => {
    const box = head.getBoundingClientRect();
    showTip(help, box.left, box.bottom + 6, true);
    target.setAttribute("aria-describedby", tip.id);
  };
  const leave = () => { hideTip(); target.removeAttribute("aria-describedby"); };
  for (const name of ["pointerenter", "focusin"]) head.addEventListener(name, tell);
  for (const name of ["pointerleave", "focusout"]) head.addEventListener(name, leave);
};
/* a table that is wider than its place says so */
for (const place of all(".scroll")) {
  const told = make("p", { className: "sideways", hidden: true }, "This table goes on to the right: scroll sideways.");
  place.before(told);
  new ResizeObserver(() => { told.hidden = place.scrollWidth <= place.clientWidth + 1; }).observe(place);
}
const describeRow = (heads) => (row) => ({
  text: Array.from(row.cells, words).join(" ").toLowerCase(),
  numbers: Array.from(row.cells, (cell, index) => ({ key: heads[index], value: Number(cell.dataset.v ?? NaN) }))
    .filter(({ value }) => !Number.isNaN(value)),
});
for (const table of all("table.sortable")) {
  const heads = Array.from(table.tHead.rows[0].cells);
  const rows = Array.from(table.tBodies[0].rows);
  const names = heads.map((head) => head.textContent.trim().toLowerCase());
  heads.forEach((head, column) => {
    if (rows.length > 2 && head.textContent.trim()) {
      const button = make("button", { type: "button" }, ...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => sortTable(table, column, head));
    }
    if (head.title) explain(head);
  });
  const index = table.classList.contains("index");
  if (rows.length < (index ? 3 : 8)) continue;
  const place = table.closest(".scroll");
  addFilter(table, place, words(table.caption), rows, describeRow(names), "rows", index ? { example: "resnet18, digits, >0.9 …" } : {});
}
