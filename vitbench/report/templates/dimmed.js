// Charts that were drawn with the page: what belongs to rows that filters leave out is dimmed.
(() => {
  const parts = new Map(); // by name: the elements of charts that are about a backbone

  // Points and curves begin their tooltips with a name; axes and labels have it as their text.
  function collect(names) {
    const known = [...names].sort((a, b) => b.length - a.length);
    for (const element of all("figure .drawn:not([hidden]) svg:not(.scatter) :is(title, text)")) {
      const text = element.textContent;
      const name = known.find((one) => text === one || text.startsWith(`${one}:`) || text.startsWith(`${one} seed `));
      if (!name) continue;
      if (!parts.has(name)) parts.set(name, []);
      parts.get(name).push(element.tagName === "title" ? element.parentNode : element);
    }
  }

  let collected = false;
  view.onDraw(() => {
    const table = page.table();
    const [every, shown] = [rows.every(table), rows.shown(table)];
    if (!collected && shown.length === every.length) return;
    const nameOf = (row) => row.querySelector(".name").textContent;
    if (!collected) collect(new Set(all("table.board").flatMap(rows.every).map(nameOf)));
    collected = true;
    const kept = new Set(shown.map(nameOf));
    const here = new Set(every.map(nameOf));
    for (const [name, elements] of parts) for (const element of elements) element.classList.toggle("dim", here.has(name) && !kept.has(name));
  });
})();
