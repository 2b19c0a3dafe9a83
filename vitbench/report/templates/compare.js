// Two or three backbones side by side: their scores, and on each task the others minus the first with a 95 % interval.
(() => {
  const MOST = 3;
  const dialog = document.getElementById("comparison");
  const bar = document.getElementById("chosen");
  const points = (share) => `${share > 0 ? "+" : share < 0 ? "−" : ""}${Math.abs(100 * share).toFixed(1)}`;
  const nameOf = (row) => row.querySelector(".name").textContent;
  const make = (tag, attributes, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  function button(text, act) {
    const made = make("button", { class: "button" }, text);
    made.addEventListener("click", act);
    return made;
  }

  const close = () => view.commit((state) => { state.compared = false; });
  const clear = () => view.commit((state) => { state.pair.clear(); state.compared = false; });

  // The second minus the first as the page was made with it: [difference, low, high, p], whichever is asked for first.
  function gapOf(own, first, second, column) {
    if (!own) return null;
    const [i, j] = [own.names.indexOf(first), own.names.indexOf(second)];
    const found = own.gaps[`${Math.min(i, j)},${Math.max(i, j)}`];
    const at = column === "mean" ? own.columns.length : own.columns.indexOf(column);
    const gap = found && at >= 0 && found[at];
    if (!gap || i < j) return gap || null;
    const [value, low, high, p] = gap;
    return low === undefined ? [-value] : [-value, -high, -low, p];
  }

  function written(gap, plain) {
    if (!gap) return plain === null ? ["–", ""] : [points(plain), "interval not known"];
    const [value, low, high, p] = gap;
    if (low === undefined) return [points(value), "interval not known"];
    return [points(value), `${points(low)} to ${points(high)}${p === undefined ? "" : `, p ${p < 0.001 ? "< 0.001" : `= ${p.toFixed(3)}`}`}`];
  }

  // On how many tasks the second is ahead, level and behind, and for how many differences the interval excludes zero.
  function tally(own, first, second, keys) {
    const gaps = keys.map((key) => gapOf(own, first, second, key)).filter(Boolean);
    const count = (test) => gaps.filter(test).length;
    const clear = (sign) => count(([value, low, high, p]) => low !== undefined && p !== undefined && p < 0.05 && Math.sign(value) === sign);
    const level = count(([value]) => value === 0);
    return `${second} against ${first}: ahead on ${count(([value]) => value > 0)} of ${gaps.length} tasks, significantly on ${clear(1)}; behind on ${count(([value]) => value < 0)}, significantly on ${clear(-1)}${level ? `; level on ${level}` : ""}.`;
  }

  function line(header, list, own) {
    const i = header.cellIndex;
    const { key } = header.dataset;
    const text = (cell) => { const copy = cell.cloneNode(true); for (const extra of all(".unseen, .delta, .choose", copy)) extra.remove(); for (const small of all("small", copy)) small.prepend(" "); return copy.textContent.replace(/\s+/g, " ").trim(); };
    const cells = list.map((row) => make("td", { class: "num" }, text(row.cells[i])));
    const compared = header.dataset.task || key === "mean";
    const gaps = list.slice(1).map((row) => {
      if (!compared) return make("td", {}, "");
      const [a, b] = [rows.value(list[0], i), rows.value(row, i)];
      const [value, range] = written(gapOf(own, nameOf(list[0]), nameOf(row), key), a === null || b === null ? null : b - a);
      return make("td", { class: "num" }, make("b", {}, value), make("small", { class: "range" }, range));
    });
    return make("tr", {}, make("th", { scope: "row" }, columns.title(header)), ...cells, ...gaps);
  }

  function show(list, own) {
    const table = page.table();
    const heads = rows.heads(table).filter((header) => header.classList.contains("num"));
    const keys = heads.filter((header) => header.dataset.task).map((header) => header.dataset.key);
    const names = list.map(nameOf);
    const titles = [...names, ...names.slice(1).map((name) => `${name} − ${names[0]}`)];
    const head = make("tr", {}, make("th", { scope: "col" }, "Task"), ...titles.map((name) => make("th", { scope: "col", class: "num" }, name)));
    const said = own ? names.slice(1).map((name) => make("p", {}, tally(own, names[0], name, keys))) : [make("p", {}, "This board has too many pairs for intervals: use ", make("code", {}, "vitbench compare RUN --backbones A B"), ".")];
    dialog.replaceChildren(
      make("div", { class: "head" }, make("h2", { id: "comparison-title" }, names.join(" / ")), button("Close", close)),
      ...said,
      make("p", { class: "hint" }, "Differences in points on the same test images, with 95 % intervals for each alone; p-values are Holm-corrected for all tasks."),
      make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Comparison, table" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...heads.map((header) => line(header, list, own))))),
    );
    if (!dialog.open) dialog.showModal();
  }

  async function draw(state) {
    const table = page.table();
    const every = rows.every(table);
    const list = [...state.pair].map((name) => every.find((row) => nameOf(row) === name)).filter(Boolean).slice(0, MOST);
    for (const row of every) {
      const picked = list.includes(row);
      if (row.classList.contains("picked") === picked) continue;
      row.classList.toggle("picked", picked);
      const box = row.querySelector(".pick-row");
      if (box) box.checked = picked;
    }
    bar.hidden = !list.length;
    const compare = button(`Compare ${list.length}`, () => view.commit((state) => { state.compared = true; }));
    compare.disabled = list.length < 2;
    bar.replaceChildren(list.map(nameOf).join(", ") + (list.length < 2 ? ": choose another to compare" : ""), compare, button("Clear", clear));
    if (!state.compared || list.length < 2) return dialog.open && dialog.close();
    const { pairs } = await details();
    show(list, pairs[page.active().id.replace("board-", "")]);
  }

  document.addEventListener("change", (event) => {
    const box = event.target.closest(".pick-row");
    if (!box) return;
    const name = nameOf(box.closest("tr"));
    view.commit((state) => {
      view.toggle(state.pair, name);
      if (state.pair.size > MOST) state.pair.delete([...state.pair][0]);
    });
  });
  dialog.addEventListener("close", () => { if (view.state.compared) close(); });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  view.onDraw(draw);
})();
