// Unticked tasks are hidden, and means and ranks are recomputed over the others. Rows with missing cells have no mean.
(() => {
  const { all, state } = page;
  const percent = (share) => (100 * share).toFixed(1);
  const written = new WeakMap(); // cells as generated, with all tasks ticked

  function restore(cell) {
    if (!written.has(cell)) written.set(cell, [cell.innerHTML, cell.dataset.value, cell.className]);
    const [html, value, name] = written.get(cell);
    cell.innerHTML = html;
    cell.dataset.value = value;
    cell.className = name;
  }

  function say(cell, value, otherwise) {
    cell.dataset.value = String(value === null ? -1 : value);
    cell.className = value === null ? "num mean none" : "num mean";
    const mark = document.createElement(value === null ? "span" : "b");
    if (value === null) mark.className = "chip";
    mark.textContent = value === null ? otherwise : percent(value);
    cell.replaceChildren(mark);
  }

  function mean(cells) {
    if (!cells.length || !cells.every((cell) => cell.dataset.done)) return null;
    return cells.reduce((sum, cell) => sum + Number(cell.dataset.value), 0) / cells.length;
  }

  function means(row, ticked) {
    const cells = new Map(all("td[data-column]", row).map((cell) => [cell.dataset.column, cell]));
    const chosen = ticked.map((header) => [header.dataset.group, cells.get(header.dataset.column)]);
    const groups = [];
    for (const place of all("td[data-mean]", row)) {
      const kind = place.dataset.mean;
      if (kind === "group mean") {
        say(place, groups.length === 3 && !groups.includes(null) ? groups.reduce((a, b) => a + b, 0) / 3 : null, "–");
        continue;
      }
      const own = chosen.filter(([group]) => kind === "all" || group === kind).map(([, cell]) => cell);
      const value = mean(own);
      if (kind !== "all" && own.length) groups.push(value);
      say(place, value, kind === "all" ? `${own.filter((cell) => cell.dataset.done).length}/${own.length}` : "–");
    }
  }

  function ranks(rows) {
    // Equal counts of correct images are ties, whatever the order of sums.
    const value = (row) => Number(Number(row.querySelector("[data-mean=all]").dataset.value).toFixed(12));
    const sorted = rows.map(value).filter((mean) => mean >= 0).sort((a, b) => b - a);
    for (const row of rows) {
      const rank = sorted.indexOf(value(row)) + 1;
      const cell = row.querySelector(".rank");
      cell.textContent = rank || "–";
      cell.dataset.value = rank || 100000;
    }
  }

  function apply(panel) {
    const headers = all("thead th[data-of]", panel);
    if (!headers.length) return;
    const isOff = (header) => state.off.has(header.dataset.of);
    const ticked = headers.filter((header) => header.dataset.task && !isOff(header));
    const number = headers.filter((header) => header.dataset.task).length;
    const places = new Set(headers.filter(isOff).map((header) => header.dataset.column));
    for (const cell of all("[data-column]", panel)) cell.hidden = places.has(cell.dataset.column);
    for (const heads of all("tr.heads", panel)) heads.hidden = places.size > 0;
    for (const box of all(".ticks input", panel)) box.checked = !state.off.has(box.dataset.task);
    for (const text of all(".ticked", panel)) text.textContent = ticked.length === number ? `all ${number}` : `${ticked.length} of ${number}`;
    for (const note of all(".over", panel)) note.textContent = `over ${ticked.length} tasks`;
    const rows = all(".board tbody tr", panel);
    for (const cell of all("td[data-mean], td.rank", panel)) restore(cell);
    if (ticked.length === number) return;
    for (const row of rows) means(row, ticked);
    ranks(rows.filter((row) => row.dataset.kind === "measured"));
  }

  function every() {
    for (const panel of all("[role=tabpanel]")) apply(panel);
    page.reorder();
  }

  document.addEventListener("change", (event) => {
    const box = event.target.closest(".ticks input");
    if (!box) return;
    if (box.checked) state.off.delete(box.dataset.task);
    else state.off.add(box.dataset.task);
    every();
    page.changed();
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-only]");
    if (!button) return;
    const { only } = button.dataset;
    for (const box of all("input", button.closest("fieldset"))) {
      if (only && box.dataset.group !== only) state.off.add(box.dataset.task);
      else state.off.delete(box.dataset.task);
    }
    every();
    page.changed();
  });
  if (state.off.size) every();
})();
