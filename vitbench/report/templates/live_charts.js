// Charts below the tables, of the rows that are shown and the tasks that are ticked.
const liveCharts = (() => {
  const { state } = view;
  const nameOf = (row) => row.querySelector(".name").textContent;
  const ends = (low, high) => (low === undefined || low === "" ? { low: null, high: null } : { low: Number(low), high: Number(high) });
  const isHollow = (row) => row.dataset.kind === "published";
  const point = (row, value, bounds, seeds = []) => ({ name: nameOf(row), family: row.dataset.family, value: Number(value), ...bounds, seeds, hollow: isHollow(row) });

  // Means over the ticked tasks, and over those of each group.
  function groups(table) {
    const shown = rows.shown(table);
    const [first] = rows.every(table);
    const cells = [...first.cells].filter((cell) => cell.dataset.mean && cell.dataset.mean !== "group mean");
    return cells.map((cell) => {
      const kind = cell.dataset.mean;
      const number = means.kept(table).length;
      const title = kind === "all" ? `${number === 19 ? "VTAB, 19" : number} tasks` : kind[0].toUpperCase() + kind.slice(1);
      const own = shown.map((row) => [row, row.cells[cell.cellIndex].dataset]).filter(([, data]) => data.value !== undefined);
      return { title, points: own.map(([row, { value, low, high }]) => point(row, value, ends(low, high))) };
    });
  }

  // Each measured score with its seeds.
  function seeds(table) {
    const shown = rows.shown(table).filter((row) => !isHollow(row));
    const heads = rows.heads(table).filter((header) => header.dataset.of && !state.off.has(header.dataset.of));
    return heads.map((header) => {
      const own = shown.map((row) => [row, row.cells[header.cellIndex].dataset]).filter(([, data]) => data.value !== undefined);
      return { title: columns.title(header), points: own.map(([row, { value, e, seeds }]) => point(row, value, ends(...(e || "").split(",")), seeds ? seeds.split(",").map(Number) : [])) };
    });
  }

  function rowChart(place, panels) {
    const filled = panels.filter((panel) => panel.points.length);
    const shown = new Set(filled.flatMap((panel) => panel.points.map((each) => each.name)));
    const names = rows.shown(page.table()).map(nameOf).filter((name) => shown.has(name));
    return [filled, names.length, (width) => rowPanels.drawn(filled, names, width)];
  }

  // Mean accuracy against counted pre-training, a curve for each family and a panel for each board; raw pixels are a rule.
  function pretraining(data) {
    const tables = data.boards.map((key) => document.querySelector(`#board-${key} table.board`));
    const panels = tables.map((table) => {
      const [byFamily, rules] = [new Map(), []];
      for (const row of rows.matching(table)) {
        const cost = row.dataset.costs.split(",")[3];
        const { value, low, high } = means.of(table, row);
        if (isHollow(row) || cost === "" || value === undefined) continue;
        const said = `${nameOf(row)}: ${drawing.percent(value)}`;
        const own = { x: Number(cost), value: Number(value), ...ends(low, high), said };
        const { family } = row.dataset;
        if (family === data.baseline) rules.push(own);
        else byFamily.set(family, [...(byFamily.get(family) || []), own]);
      }
      const curves = [...byFamily].sort().map(([family, points]) => ({ name: family, family, dash: "none", points: points.sort((a, b) => a.x - b.x) }));
      return { title: table.closest(".panel").dataset.label, curves, rules };
    }).filter((panel) => panel.curves.length);
    const costs = panels.flatMap((panel) => panel.curves.flatMap((curve) => curve.points.map(({ x }) => x))).filter((x) => x > 0);
    const ticks = costs.length ? drawing.logTicks(Math.min(...costs), Math.max(...costs)) : [1];
    return [panels, panels.reduce((sum, panel) => sum + panel.rules.length + panel.curves.reduce((most, curve) => most + curve.points.length, 0), 0),
      (width) => curvePanels.drawn(panels, { ticks, nothing: "untrained", shaded: false, named: false }, width)];
  }

  // Whether filters leave a backbone: those of the board that is shown, if it is there.
  function keeps(name) {
    const table = page.table();
    const is = (row) => nameOf(row) === name || nameOf(row) === name.replace(/ #\w{4}$/, "");
    const here = rows.every(table).find(is);
    if (here) return rows.shown(table).includes(here);
    const elsewhere = all("table.board").flatMap(rows.every).find(is);
    return !elsewhere || rows.passes(elsewhere);
  }

  // Accuracy against examples per class: a panel for each task and protocol.
  function shots(data) {
    const kept = data.names.map(keeps);
    const panels = data.panels.filter((panel) => !state.off.has(panel.task)).map((panel) => ({
      title: panel.title,
      rules: [],
      curves: panel.curves.filter(([i]) => kept[i]).map(([i, family, ...points]) => ({
        name: data.names[i], family, dash: drawing.dashOf(i),
        points: points.map(([x, value, low, high]) => ({ x, value, low, high, said: `${data.names[i]}: ${drawing.percent(value)} (${drawing.percent(low)} to ${drawing.percent(high)}) with ${x} per class` })),
      })),
    })).filter((panel) => panel.curves.length);
    return [panels, kept.filter(Boolean).length, (width) => curvePanels.drawn(panels, { ticks: data.ticks, nothing: "", shaded: true, named: true }, width)];
  }

  // Accuracy on further test sets against that in distribution: a panel for each set.
  function robustness(data) {
    const points = (panel) => panel.points.filter(([name]) => keeps(name)).map(([name, family, x, value, effective]) => {
      const known = effective === null ? "" : `, effective robustness ${(100 * effective).toFixed(1)} points`;
      return { name, family, x, value, said: `${name}: ${drawing.percent(value)}, in distribution ${drawing.percent(x)}${known}` };
    });
    const panels = data.panels.map((panel) => ({ ...panel, points: points(panel) })).filter((panel) => panel.points.length);
    return [panels, new Set(panels.flatMap((panel) => panel.points.map((each) => each.name))).size, (width) => planePanels.drawn(panels, width)];
  }

  const CHARTS = {
    robustness: (place, data) => robustness(data),
    groups: (place) => rowChart(place, groups(page.table())),
    seeds: (place) => rowChart(place, seeds(page.table())),
    pretraining: (place, data) => pretraining(data),
    shots: (place, data) => shots(data),
  };
  const drawn = new WeakMap();

  // How many of how many are shown, where some are not.
  function note(count, panels, data) {
    const tasks = means.kept(page.table()).length;
    const every = rows.heads(page.table()).filter((header) => header.dataset.task).length;
    const parts = [...(count < data.count ? [`${count} of ${data.count} ${data.what}`] : []), ...(tasks < every ? [`${tasks} of ${every} tasks`] : [])];
    return parts.length ? `Shown: ${parts.join(", ")}.` : "";
  }

  function draw() {
    for (const figure of [...all("figure.live", page.active()), ...all("#curves figure.live")]) {
      const data = JSON.parse(figure.dataset.points);
      const [panels, count, make] = CHARTS[figure.dataset.chart](figure, data);
      const room = figure.closest("section").clientWidth || document.querySelector("main").clientWidth; // 0: not shown, but printed
      const width = Math.max(280, room - 4);
      const key = JSON.stringify([width, panels]);
      if (drawn.get(figure) === key) continue;
      drawn.set(figure, key);
      const svg = panels.length ? make(width) : "Nothing that is shown has a place in this chart.";
      figure.querySelector(".drawn").replaceChildren(svg);
      const families = panels.flatMap((panel) => (panel.points || panel.curves).map((each) => each.family));
      figure.querySelector(".key").replaceChildren(...drawing.key(families), data.axis, " ", note(count, panels, data));
    }
  }

  view.onDraw(draw);
  return { draw };
})();
