// Panels side by side with backbones as rows: values with their intervals, and seeds as ticks.
const rowPanels = (() => {
  const [ROW, TOP, BOTTOM, GAP, LEAST, MOST] = [17, 24, 24, 20, 150, 230]; // pixels

  function panel({ title, points }, names, left, top, wide) {
    const x = drawing.linear(points.flatMap((point) => [point.value, point.low, point.high, ...point.seeds].filter((value) => value !== null)), left, left + wide);
    const y = (name) => top + TOP + ROW * (names.indexOf(name) + 0.5);
    const base = top + TOP + ROW * names.length;
    const parts = [svgOf("text", { x: left + wide / 2, y: top + 14, "text-anchor": "middle", class: "panel-title" }, title)];
    for (const name of names) parts.push(svgOf("line", { x1: left, x2: left + wide, y1: y(name), y2: y(name), class: "grid" }));
    let last = -Infinity;
    for (const tick of x.ticks) {
      parts.push(svgOf("line", { x1: x.at(tick), x2: x.at(tick), y1: base, y2: base + 4, class: "axis" }));
      if (x.at(tick) - last < 32) continue;
      last = x.at(tick);
      parts.push(svgOf("text", { x: x.at(tick), y: base + 16, "text-anchor": "middle" }, drawing.inPercent(tick)));
    }
    parts.push(svgOf("line", { x1: left, x2: left + wide, y1: base, y2: base, class: "axis" }));
    return [...parts, ...points.map((point) => mark(point, x.at, y(point.name)))];
  }

  function mark(point, x, y) {
    const known = point.low !== null;
    const group = svgOf("g", { class: "point", "data-name": point.name });
    if (known) group.append(svgOf("line", { x1: x(point.low), x2: x(point.high), y1: y, y2: y, class: "reach" }));
    for (const seed of point.seeds) group.append(svgOf("line", { x1: x(seed), x2: x(seed), y1: y - 6, y2: y + 6, class: "seed" }));
    group.append(drawing.symbol(point.family, x(point.value), y, point.hollow, 0.8));
    const interval = known ? `, 95 % interval ${drawing.percent(point.low)} to ${drawing.percent(point.high)}` : "";
    group.append(svgOf("title", {}, `${point.name}: ${drawing.percent(point.value)}${interval}${point.hollow ? ". Published" : ""}`));
    return group;
  }

  // Panels [{ title, points }] of these names, in a box so wide.
  function drawn(panels, names, width) {
    const gutter = Math.min(Math.max(...names.map(labels.width)) + 12, 0.4 * width);
    const columns = Math.max(1, Math.min(panels.length, Math.floor((width - gutter) / (LEAST + GAP))));
    const wide = Math.min(MOST, (width - gutter) / columns - GAP);
    const height = TOP + ROW * names.length + BOTTOM;
    const lines = Math.ceil(panels.length / columns);
    const svg = svgOf("svg", { viewBox: `0 0 ${Math.ceil(gutter + columns * (wide + GAP))} ${lines * height + 4}`, class: "panels", style: `max-width:${Math.ceil(gutter + columns * (wide + GAP))}px` });
    for (let line = 0; line < lines; line++) {
      names.forEach((name, i) => svg.append(svgOf("text", { x: gutter - 8, y: line * height + TOP + ROW * (i + 0.5) + 4, "text-anchor": "end", class: "label" }, labels.cut(name, gutter - 10))));
    }
    panels.forEach((own, i) => svg.append(...panel(own, names, gutter + (i % columns) * (wide + GAP) + 4, Math.floor(i / columns) * height, wide)));
    return svg;
  }
  return { drawn };
})();
