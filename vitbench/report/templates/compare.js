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

  // The second minus the first on one task: on the same images, as the page was made with it, whichever is asked for first;
  // else as if on others. `interval` is around `centre`: it has images added where few differ.
  function gapOf(own, first, second, header) {
    const cells = [first, second].map((row) => row.cells[header.cellIndex]);
    if (!cells.every((cell) => "done" in cell.dataset)) return null;
    const value = Number(cells[1].dataset.value) - Number(cells[0].dataset.value);
    const [i, j] = [first, second].map((row) => (own ? own.names.indexOf(nameOf(row)) : -1));
    const kept = own && own.gaps[`${Math.min(i, j)},${Math.max(i, j)}`];
    const parts = kept && kept[own.columns.indexOf(header.dataset.key)];
    if (parts) return { value, known: estimates.ofParts([i < j ? parts[0] : -parts[0], ...parts.slice(1)]), paired: true };
    const both = cells.map(estimates.ofCell);
    return { value, known: both.includes(null) ? null : { ...estimates.combined(both, [-1, 1]), mean: value } };
  }

  // All differences of two rows: by task, corrected by Holm, and in the mean over the tasks that are ticked.
  function gapsOf(own, first, second, tasks) {
    const found = new Map(tasks.map((header) => [header, gapOf(own, first, second, header)]));
    const known = [...found.values()].filter((gap) => gap && gap.known);
    const corrected = estimates.holm(known.map((gap) => estimates.p(gap.known)));
    known.forEach((gap, i) => { gap.p = corrected[i]; });
    const list = [...found.values()];
    if (!list.length || list.includes(null)) return [found, null];
    const mean = { value: list.reduce((sum, gap) => sum + gap.value, 0) / list.length, known: null };
    if (known.length === list.length) {
      mean.known = estimates.meanOf(list.map((gap) => ({ ...gap.known, mean: gap.value })));
      mean.p = estimates.p(mean.known);
    }
    return [found, mean];
  }

  function written(gap, plain) {
    if (!gap) return plain === null ? ["–", ""] : [points(plain), "interval not known"];
    if (!gap.known) return [points(gap.value), "interval not known"];
    const [low, high] = estimates.interval(gap.known);
    return [points(gap.value), `${points(low)} to ${points(high)}${gap.p === undefined ? "" : `, p ${gap.p < 0.001 ? "< 0.001" : `= ${gap.p.toFixed(3)}`}`}`];
  }

  // On how many tasks the second is ahead, level and behind, and for how many differences the interval excludes zero.
  function tally(first, second, found) {
    const gaps = [...found.values()].filter(Boolean);
    const count = (test) => gaps.filter(test).length;
    const clear = (sign) => count((gap) => gap.p !== undefined && gap.p < 0.05 && Math.sign(gap.value) === sign);
    const level = count((gap) => gap.value === 0);
    return `${second} against ${first}: ahead on ${count((gap) => gap.value > 0)} of ${gaps.length} tasks, significantly on ${clear(1)}; behind on ${count((gap) => gap.value < 0)}, significantly on ${clear(-1)}${level ? `; level on ${level}` : ""}.`;
  }

  function line(header, list, gaps) {
    const i = header.cellIndex;
    const { key } = header.dataset;
    const text = (cell) => { const copy = cell.cloneNode(true); for (const extra of all(".unseen, .delta, .choose", copy)) extra.remove(); for (const small of all("small", copy)) small.prepend(" "); return copy.textContent.replace(/\s+/g, " ").trim(); };
    const cells = list.map((row) => make("td", { class: "num" }, text(row.cells[i])));
    const others = list.slice(1).map((row, at) => {
      const [found, mean] = gaps[at];
      if (!found.has(header) && key !== "mean") return make("td", {}, "");
      const [a, b] = [rows.value(list[0], i), rows.value(row, i)];
      const [value, range] = written(key === "mean" ? mean : found.get(header), a === null || b === null ? null : b - a);
      return make("td", { class: "num" }, make("b", {}, value), make("small", { class: "range" }, range));
    });
    return make("tr", {}, make("th", { scope: "row" }, columns.title(header)), ...cells, ...others);
  }

  function show(list, own) {
    const heads = rows.heads(page.table()).filter((header) => header.classList.contains("num"));
    const tasks = means.kept(page.table());
    const names = list.map(nameOf);
    const titles = [...names, ...names.slice(1).map((name) => `${name} − ${names[0]}`)];
    const gaps = list.slice(1).map((row) => gapsOf(own, list[0], row, tasks));
    const head = make("tr", {}, make("th", { scope: "col" }, "Task"), ...titles.map((name) => make("th", { scope: "col", class: "num" }, name)));
    const paired = gaps.every(([found]) => [...found.values()].every((gap) => !gap || !gap.known || gap.paired));
    dialog.replaceChildren(
      make("div", { class: "head" }, make("h2", { id: "comparison-title" }, names.join(" / ")), button("Close", close)),
      ...names.slice(1).map((name, at) => make("p", {}, tally(names[0], name, gaps[at][0]))),
      make("p", { class: "hint" }, `Differences in points on the same test images, with 95 % intervals for each alone${paired ? "" : " (≥ 95 %: longer than they have to be, since this page does not know which images both got right; vitbench compare does)"}; p-values are Holm-corrected for ${tasks.length === 1 ? "the task" : `the ${tasks.length} tasks that are ticked`}.`),
      make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Comparison, table" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...heads.map((header) => line(header, list, gaps))))),
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
