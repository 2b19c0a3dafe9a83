// Shades scores by where they are between the lowest and the highest of their task, among the rows that are shown.
(() => {
  const shaded = new WeakMap(); // tables, with the rows among which they are

  function shade(table) {
    const every = rows.shown(table);
    const those = new Set(every);
    const before = shaded.get(table);
    if (before && before.size === those.size && every.every((row) => before.has(row))) return;
    shaded.set(table, those);
    rows.heads(table).forEach((header, i) => {
      if (!header.dataset.of) return;
      const known = every.map((row) => rows.value(row, i)).filter((value) => value !== null);
      const [low, high] = [Math.min(...known), Math.max(...known)];
      for (const row of every) {
        const value = rows.value(row, i);
        if (value !== null) row.cells[i].style.setProperty("--place", (high > low ? (value - low) / (high - low) : 0.5).toFixed(3));
      }
    });
  }

  view.onDraw((state) => {
    document.body.classList.toggle("heat", state.heat);
    if (state.heat) shade(page.table());
  });
})();
