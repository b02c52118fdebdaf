/* one language for all filters: words, whole numbers, comparisons such as ">0.5" or "norm>1"; all must hold */
const FIGURE = /(?<![\w.])([-−]?\d[\d,]*(?:\.\d+)?)(?: × 10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?(%?)/g;
const NAMES = /\b(?:ch|channel|filter|image|unit|rank|step|seed)\s*$/;
const figure = (digits, power, percent) => {
  const exponent = Array.from(power ?? "", (sign) => (sign === "⁻" ? "-" : "⁰¹²³⁴⁵⁶⁷⁸⁹".indexOf(sign))).join("");
  return Number(`${digits.replaceAll(",", "").replace("−", "-")}e${exponent || 0}`) / (percent ? 100 : 1);
};
/* numbers in a text, each with the words before it; a number that only names something has no value of its own */
const figures = (text) => {
  let end = 0;
  return Array.from(text.matchAll(FIGURE), (found) => {
    const key = text.slice(end, found.index);
    end = found.index + found[0].length;
    return { key, value: figure(...found.slice(1)), named: NAMES.test(key) };
  });
};
const SIGNS = {
  "<": (a, b) => a < b, ">": (a, b) => a > b, "<=": (a, b) => a <= b, ">=": (a, b) => a >= b,
  "≤": (a, b) => a <= b, "≥": (a, b) => a >= b, "=": (a, b, near) => Math.abs(a - b) <= near,
};
const condition = (term) => {
  const [, key, sign, digits, percent] = /^(.*?)(<=|>=|[<>=≤≥])([-−]?\d*\.?\d+)(%?)$/.exec(term) ?? [];
  if (sign) {
    const bound = figure(digits, "", percent);
    const near = 0.5 * 10 ** -(digits.split(".")[1] ?? "").length / (percent ? 100 : 1);
    const counts = (item) => (key ? item.key.includes(key) : !item.named) && SIGNS[sign](item.value, bound, near);
    return ({ numbers }) => numbers.some(counts);
  }
  if (!/^\d+$/.test(term)) return ({ text }) => text.includes(term);
  const whole = new RegExp(`(?<![\\w.]|\\d,)(?:ch|channel|filter|image|unit)?${term}(?!\\w|[.,]\\d)`);
  return ({ text, names }) => whole.test(names ?? text);
};
const query = (text) => {
  const terms = text.toLowerCase().split(/\s+/).filter(Boolean).map(condition);
  return (item) => terms.every((term) => term(item));
};

/* a filter over elements; what a link leads to is shown again */
const filters = new Map();
const addFilter = (block, place, name, elements, describe, noun, { example = "17, layer2, >0.5 …", after = () => {} } = {}) => {
  const input = make("input", { type: "search", placeholder: example, title: "Words, whole numbers and comparisons such as >0.5 or norm>1; all must hold", autocomplete: "off", spellcheck: false });
  input.setAttribute("aria-label", `Filter: ${name}`);
  const told = make("output");
  let items = null;
  const run = () => {
    items ??= elements.map((element) => [element, describe(element)]);
    const fits = query(input.value);
    let shown = 0;
    for (const [element, item] of items) {
      const fit = fits(item);
      element.classList.toggle("gone", !fit);
      shown += fit;
    }
    told.textContent = input.value.trim() ? `${shown} of ${items.length} ${noun}` : "";
    after();
  };
  input.addEventListener("input", run);
  place.before(make("div", { className: "filter" }, make("label", {}, "Filter ", input), told));
  filters.set(block, () => { input.value = ""; run(); });
};
