// Means and ranks over other tasks than all: the ticked ones, or those that all rows have. Rows with gaps have no mean.
const means = (() => {
  const { state } = view;
  const percent = (share) => (100 * share).toFixed(1);
  const written = new WeakMap(); // cells as generated, with all tasks ticked
  const altered = new Set(); // tables
  const MOST_WITH_GROUPS = 200; // rows: of more, group means over ticked tasks have no intervals, to answer in 100 ms

  function restore(cell) {
    if (!written.has(cell)) return;
    const { html, value, low, high, leads, name, title } = written.get(cell);
    cell.innerHTML = html;
    cell.className = name;
    cell.title = title;
    for (const [key, own] of Object.entries({ value, low, high, leads })) if (own === undefined) delete cell.dataset[key]; else cell.dataset[key] = own;
  }

  function keep(cell) {
    if (!written.has(cell)) written.set(cell, { html: cell.innerHTML, name: cell.className, title: cell.title, value: cell.dataset.value, low: cell.dataset.low, high: cell.dataset.high, leads: cell.dataset.leads });
  }

  function say(cell, value, otherwise, [low, high] = []) {
    keep(cell);
    for (const name of ["value", "low", "high", "leads"]) delete cell.dataset[name];
    cell.title = "";
    cell.className = value === null ? "num mean none" : "num mean";
    if (value !== null) cell.dataset.value = String(value);
    const text = value === null ? otherwise : percent(value);
    if (value !== null && cell.childNodes.length === 1 && cell.firstChild.localName === "b") cell.firstChild.textContent = text;
    else {
      const mark = document.createElement(value === null ? "span" : "b");
      if (value === null) mark.className = "chip";
      mark.textContent = text;
      cell.replaceChildren(mark);
    }
    if (value === null || low === undefined || low === "") return;
    Object.assign(cell.dataset, { low, high });
    cell.title = `95 % interval: ${percent(low)}–${percent(high)}`;
    if (cell.dataset.mean === "all") cell.append(range(`${percent(low)}–${percent(high)}`));
  }

  function range(text) {
    const small = document.createElement("small");
    small.className = "range";
    small.textContent = text;
    return small;
  }

  function sayRank(cell, rank, low, high) {
    keep(cell);
    cell.replaceChildren(rank ? Object.assign(document.createElement("b"), { textContent: rank }) : "–");
    if (rank) cell.dataset.value = rank;
    else delete cell.dataset.value;
    if (low && low !== high) cell.append(range(`${low}–${high}`));
  }

  const mean = (cells) => cells.length && cells.every((cell) => "done" in cell.dataset) ? cells.reduce((sum, cell) => sum + Number(cell.dataset.value), 0) / cells.length : null;

  function over(row, ticked, withGroups) {
    const groups = [];
    for (const cell of all("td[data-mean]", row)) {
      const kind = cell.dataset.mean;
      if (kind === "group mean") {
        say(cell, groups.length === 3 && groups.every(([value]) => value !== null) ? groups.reduce((sum, [value]) => sum + value, 0) / 3 : null, "–", (withGroups && estimates.ofGroups(groups.map(([, own]) => own))) || []);
        continue;
      }
      const own = ticked.filter(([group]) => kind === "all" || group === kind).map(([, i]) => row.cells[i]);
      const value = mean(own);
      if (kind !== "all" && own.length) groups.push([value, own]);
      say(cell, value, kind === "all" ? `${own.filter((each) => "done" in each.dataset).length}/${own.length}` : "–", ((withGroups || kind === "all") && estimates.ofCells(own)) || []);
    }
  }

  function rank(table, list) {
    // Equal counts of correct images are ties, whatever the order of sums.
    const at = rows.place(table, "mean");
    const value = (row) => row.cells[at].dataset.value === undefined ? -1 : Number(Number(row.cells[at].dataset.value).toFixed(10));
    const sorted = list.map(value).filter((mean) => mean >= 0).sort((a, b) => b - a);
    const first = new Map(sorted.map((mean, i) => [mean, i + 1]).reverse());
    for (const row of list) {
      const place = first.get(value(row));
      sayRank(row.cells[0], place);
      if (place === 1) row.cells[at].dataset.leads = "";
    }
  }

  // As the page was made: means over the tasks that all rows have, with intervals.
  function common(table) {
    const at = rows.place(table, "mean");
    for (const row of rows.every(table)) {
      if (!row.dataset.common) continue;
      const [value, low, high, place, rankLow, rankHigh] = row.dataset.common.split(",");
      say(row.cells[at], Number(value), "", [low, high]);
      sayRank(row.cells[0], place, rankLow, rankHigh);
      if (place === "1") row.cells[at].dataset.leads = "";
    }
  }

  const tasksOf = (table) => rows.heads(table).filter((header) => header.dataset.task);
  const isShared = (tasks) => state.common && tasks.some((header) => header.dataset.common);
  const keptOf = (tasks) => tasks.filter((header) => !state.off.has(header.dataset.of) && (!isShared(tasks) || header.dataset.common));

  function draw() {
    const panel = page.active();
    const table = page.table();
    const tasks = tasksOf(table);
    if (!tasks.length) return;
    const shared = isShared(tasks);
    const kept = keptOf(tasks);
    for (const box of all(".ticks input", panel)) box.checked = !state.off.has(box.dataset.task);
    for (const text of all(".ticked", panel)) text.textContent = kept.length === tasks.length ? `all ${tasks.length}` : `${kept.length} of ${tasks.length}`;
    for (const note of all(".over", panel)) note.textContent = kept.length === tasks.length ? note.dataset.text || note.textContent : `over ${kept.length} tasks`;
    for (const button of all("[data-common-tasks]", panel)) button.setAttribute("aria-pressed", String(shared));
    if (kept.length === tasks.length && !altered.has(table)) return;
    const asMade = kept.length === tasks.length || (shared && !state.off.size);
    for (const row of rows.every(table)) {
      if (asMade && altered.has(table)) for (const cell of row.cells) restore(cell);
      rows.forget(row);
    }
    altered.delete(table);
    if (kept.length === tasks.length) return;
    altered.add(table);
    if (asMade) return common(table);
    const ticked = kept.map((header) => [header.dataset.group, header.cellIndex]);
    for (const row of rows.every(table)) over(row, ticked, rows.every(table).length <= MOST_WITH_GROUPS);
    rank(table, rows.every(table).filter((row) => row.dataset.kind === "measured"));
  }

  for (const note of all(".over")) note.dataset.text = note.textContent;
  document.addEventListener("change", (event) => {
    const box = event.target.closest(".ticks input");
    if (box) view.commit((state) => { if (box.checked) state.off.delete(box.dataset.task); else state.off.add(box.dataset.task); });
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-only]");
    if (!button) return;
    const { only } = button.dataset;
    view.commit((state) => {
      for (const box of all("input", button.closest("fieldset"))) {
        if (only && box.dataset.group !== only) state.off.add(box.dataset.task);
        else state.off.delete(box.dataset.task);
      }
    });
  });
  view.onDraw(draw);
  view.onDraw(rows.draw);
  // A row's mean over the tasks that are ticked, also of a board that is not shown: value, low and high, as far as known.
  function of(table, row) {
    const tasks = tasksOf(table);
    const kept = keptOf(tasks);
    const cell = row.cells[rows.place(table, "mean")];
    if (kept.length === tasks.length) return written.get(cell) || cell.dataset;
    if (isShared(tasks) && !state.off.size && row.dataset.common) {
      const [value, low, high] = row.dataset.common.split(",");
      return { value, low, high };
    }
    const cells = kept.map((header) => row.cells[header.cellIndex]);
    const [value, bounds] = [mean(cells), estimates.ofCells(cells)];
    return value === null ? {} : { value, ...(bounds && { low: bounds[0], high: bounds[1] }) };
  }
  return { of, kept: (table) => keptOf(tasksOf(table)) };
})();
