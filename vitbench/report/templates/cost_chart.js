// Accuracy against compute, of the rows that are shown, by the means that are shown.
const costChart = (() => {
  const { state } = view;
  const LETTERS = "ABCPT";
  const SIDE = { left: 44, right: 16, top: 10, bottom: 44 };
  const HEIGHT = 380;
  const MOST_NAMED = 60; // of many points, the front and the first
  const { percent, logTicks, linearTicks, written } = drawing;

  function pointsOf(table, letter) {
    const at = rows.place(table, "mean");
    const [points, without] = [[], []];
    for (const row of rows.shown(table)) {
      const { value, low, high } = row.cells[at].dataset;
      if (value === undefined) continue;
      const name = row.querySelector(".name").textContent;
      const cost = row.dataset.costs.split(",")[LETTERS.indexOf(letter)];
      if (cost === "") without.push(name);
      else points.push({ row, name, cost: Number(cost), score: Number(value), low: low && Number(low), high: high && Number(high), family: row.dataset.family, hollow: row.dataset.kind === "published", range: letter === "A" && row.dataset.range ? row.dataset.range.split(",").map(Number) : null });
    }
    return [points, without];
  }

  // The points without another that scores as much at the same cost or less, cheapest first.
  function frontOf(points) {
    let best = -Infinity;
    return [...points].sort((a, b) => a.cost - b.cost || b.score - a.score).filter((point) => point.score > best && ((best = point.score), true));
  }

  function scales(points, width) {
    const costs = points.flatMap((point) => [point.cost, ...(point.range || [])]).filter((cost) => cost > 0);
    const ticks = logTicks(Math.min(...costs), Math.max(...costs));
    const [from, to] = [ticks[0], ticks[ticks.length - 1]].map(Math.log);
    const zero = points.some((point) => point.cost === 0) ? 40 : 0; // room for a cost of nothing, left of the axis
    const inner = width - SIDE.left - SIDE.right - zero - 16;
    const x = (cost) => cost > 0 ? SIDE.left + 8 + zero + (to > from ? ((Math.log(cost) - from) / (to - from)) * inner : inner / 2) : SIDE.left + 12;
    const ends = points.flatMap((point) => [point.score, ...(point.low ? [point.low, point.high] : [])]);
    const pad = Math.max((Math.max(...ends) - Math.min(...ends)) * 0.06, 0.005);
    const [low, high] = [Math.min(...ends) - pad, Math.max(...ends) + pad];
    const y = (score) => HEIGHT - SIDE.bottom - ((score - low) / (high - low)) * (HEIGHT - SIDE.top - SIDE.bottom);
    return { x, y, ticks: zero ? [0, ...ticks] : ticks, levels: linearTicks(low, high) };
  }

  function frame({ x, y, ticks, levels }, width, title) {
    const base = HEIGHT - SIDE.bottom;
    const texts = [];
    const parts = levels.flatMap((level) => [
      svgOf("line", { x1: SIDE.left, x2: width - SIDE.right, y1: y(level), y2: y(level), class: "grid" }),
      svgOf("text", { x: SIDE.left - 6, y: y(level) + 4, "text-anchor": "end" }, String(Number((100 * level).toFixed(6)))),
    ]);
    parts.push(svgOf("line", { x1: SIDE.left, x2: width - SIDE.right, y1: base, y2: base, class: "axis" }));
    let last = -Infinity;
    for (const tick of ticks) {
      parts.push(svgOf("line", { x1: x(tick), x2: x(tick), y1: base, y2: base + 4, class: "axis" }));
      if (x(tick) - last < 34) continue;
      last = x(tick);
      texts.push(svgOf("text", { x: x(tick), y: base + 17, "text-anchor": "middle" }, written(tick)));
    }
    texts.push(svgOf("text", { x: (SIDE.left + width - SIDE.right) / 2, y: HEIGHT - 6, "text-anchor": "middle", class: "title" }, title.length * 6 > width ? title.split(" (")[0] : title));
    return [...parts, ...texts];
  }

  function mark(point, { x, y }) {
    const [colour] = drawing.lookOf(point.family);
    const group = svgOf("g", { class: "point", "data-name": point.name });
    if (point.range) group.append(svgOf("line", { x1: x(point.range[0]), x2: x(point.range[1]), y1: y(point.score), y2: y(point.score), class: "range" }));
    if (point.low) group.append(svgOf("line", { x1: x(point.cost), x2: x(point.cost), y1: y(point.low), y2: y(point.high), stroke: colour, class: "interval" }));
    group.append(drawing.symbol(point.family, x(point.cost), y(point.score), point.hollow));
    const interval = point.low ? ` (95 % interval ${percent(point.low)} to ${percent(point.high)})` : "";
    const facts = point.row.querySelector(".facts");
    group.append(svgOf("title", {}, `${point.name}: ${percent(point.score)}${interval}, cost ${written(point.cost)}. ${facts ? facts.textContent : ""}${point.hollow ? ". Published" : ""}`));
    return group;
  }

  function named(points, front, found, width) {
    const order = [...front].reverse().concat(points.filter((point) => !front.includes(point)).slice(0, Math.max(0, MOST_NAMED - front.length)));
    const at = order.map((point) => ({ x: found.x(point.cost), y: found.y(point.score), name: point.name }));
    const boxes = labels.placed(at, { left: SIDE.left, right: width - 2, top: 0, bottom: HEIGHT - SIDE.bottom }, front.map((point) => ({ x: found.x(point.cost), y: found.y(point.score) })));
    return boxes.flatMap((box, i) => box ? [
      ...(box.far ? [svgOf("line", { x1: at[i].x, y1: at[i].y, x2: box.left > at[i].x ? box.left : box.right < at[i].x ? box.right : at[i].x, y2: (box.top + box.bottom) / 2, class: "leader" })] : []),
      svgOf("text", { x: box.left + 1, y: box.bottom - 3, class: "label" }, at[i].name),
    ] : []);
  }

  const drawn = new WeakMap(); // by place: what its chart shows

  function draw() {
    const place = page.active().querySelector(".chart");
    if (!place) return;
    const buttons = all("[data-cost]", place);
    const usual = ["P", "B"].map((letter) => buttons.find((button) => button.dataset.cost === letter)).find(Boolean) || buttons[0];
    const chosen = buttons.find((button) => button.dataset.cost === state.cost) || usual;
    for (const button of buttons) button.setAttribute("aria-pressed", String(button === chosen));
    const [points, without] = pointsOf(page.table(), chosen.dataset.cost);
    const box = place.querySelector(".drawn");
    const width = Math.max(300, Math.floor(box.clientWidth || 460));
    points.sort((a, b) => b.score - a.score || (a.name < b.name ? -1 : 1));
    const shown = JSON.stringify([chosen.dataset.cost, width, without.length, points.map((point) => [point.name, point.score, point.low])]);
    if (drawn.get(place) === shown) return;
    drawn.set(place, shown);
    const hint = place.querySelector(".key");
    const hidden = without.length ? ` Cost not known or not comparable: ${without.slice(0, 5).join(", ")}${without.length > 5 ? ` and ${without.length - 5} more` : ""}.` : "";
    const hollow = points.some((point) => point.hollow) ? " Hollow: published." : "";
    hint.replaceChildren(...drawing.key(points.map((point) => point.family)), ` Bars: 95 % intervals${points.some((point) => point.range) ? ", and ranges estimated from exaFLOPs" : ""}. Dashed: Pareto front.${hollow}${hidden}`);
    if (!points.some((point) => point.cost > 0)) return box.replaceChildren("No row that is shown has a mean and a known cost.");
    const found = scales(points, width);
    const front = frontOf(points);
    const svg = svgOf("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", class: "scatter", "aria-label": `Mean accuracy in percent against ${chosen.dataset.title}, ${points.length} rows; on the Pareto front: ${front.map((point) => point.name).join(", ")}. The table has the numbers.` });
    svg.append(...frame(found, width, chosen.dataset.title));
    svg.append(svgOf("path", { d: "M" + front.map((point) => `${found.x(point.cost).toFixed(1)} ${found.y(point.score).toFixed(1)}`).join("L"), class: "front" }));
    svg.append(...points.map((point) => mark(point, found)), ...named(points, front, found, width));
    box.replaceChildren(svg);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-cost]");
    if (button) view.commit((state) => { state.cost = button.dataset.cost; });
  });
  let waiting = 0;
  addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(draw, 150); });
  view.onDraw(draw);
  return { draw };
})();
