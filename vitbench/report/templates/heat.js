// Shades scores by where they are between the lowest and the highest of their task.
(() => {
  const shaded = new WeakSet(); // tables

  function shade(table) {
    shaded.add(table);
    const every = rows.every(table);
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
    if (state.heat && !shaded.has(page.table())) shade(page.table());
  });
})();
