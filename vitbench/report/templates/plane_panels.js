// Panels side by side with points in a plane of two accuracies, a line through standard models, and where both are equal.
const planePanels = (() => {
  const [HEIGHT, TOP, BOTTOM, LEFT, GAP, LEAST, MOST] = [270, 24, 34, 34, 22, 250, 360]; // pixels

  function frame(x, y, title, left, right, top) {
    const base = top + HEIGHT - BOTTOM;
    const parts = [svgOf("text", { x: (left + right) / 2, y: top + 14, "text-anchor": "middle", class: "panel-title" }, labels.cut(title, right - left + LEFT))];
    for (const level of y.ticks) parts.push(
      svgOf("line", { x1: left, x2: right, y1: y.at(level), y2: y.at(level), class: "grid" }),
      svgOf("text", { x: left - 5, y: y.at(level) + 4, "text-anchor": "end" }, drawing.inPercent(level)),
    );
    let last = -Infinity;
    for (const tick of x.ticks) {
      parts.push(svgOf("line", { x1: x.at(tick), x2: x.at(tick), y1: base, y2: base + 4, class: "axis" }));
      if (x.at(tick) - last < 32) continue;
      last = x.at(tick);
      parts.push(svgOf("text", { x: x.at(tick), y: base + 17, "text-anchor": "middle" }, drawing.inPercent(tick)));
    }
    return [...parts, svgOf("line", { x1: left, x2: right, y1: base, y2: base, class: "axis" })];
  }

  function panel(own, left, right, top) {
    const every = [...own.points.map((point) => [point.x, point.value]), ...own.standard, ...own.line];
    const x = drawing.linear(every.map(([across]) => across), left, right);
    const y = drawing.linear(every.map(([, up]) => up), top + HEIGHT - BOTTOM, top + TOP);
    const path = (points) => "M" + points.map(([across, up]) => `${x.at(across).toFixed(1)} ${y.at(up).toFixed(1)}`).join("L");
    const parts = frame(x, y, own.title, left, right, top);
    const [low, high] = [Math.max(x.low, y.low), Math.min(x.high, y.high)];
    if (low < high) parts.push(svgOf("path", { d: path([[low, low], [high, high]]), class: "front" }));
    for (const [across, up] of own.standard) parts.push(svgOf("circle", { cx: x.at(across).toFixed(1), cy: y.at(up).toFixed(1), r: 1.5, class: "standard" }));
    if (own.line.length) parts.push(svgOf("path", { d: path(own.line), class: "expected" }));
    const places = own.points.map((point) => ({ x: x.at(point.x), y: y.at(point.value), name: labels.cut(point.name, 120) }));
    const boxes = labels.placed(places, { left, right, top: top + TOP, bottom: top + HEIGHT - BOTTOM }, []);
    own.points.forEach((point, i) => {
      const group = svgOf("g", { class: "point", "data-name": point.name });
      group.append(drawing.symbol(point.family, places[i].x, places[i].y, false, 0.8), svgOf("title", {}, point.said));
      if (boxes[i]) group.append(svgOf("text", { x: boxes[i].left, y: (boxes[i].top + boxes[i].bottom) / 2 + 4, class: "label" }, places[i].name));
      parts.push(group);
    });
    return parts;
  }

  // Panels [{ title, points, line, standard }] in a box so wide.
  function drawn(panels, width) {
    const columns = Math.max(1, Math.min(panels.length, Math.floor(width / (LEAST + GAP + LEFT))));
    const wide = Math.min(MOST, width / columns - GAP);
    const whole = Math.ceil(columns * (wide + GAP));
    const svg = svgOf("svg", { viewBox: `0 0 ${whole} ${Math.ceil(panels.length / columns) * HEIGHT + 4}`, class: "panels", style: `max-width:${whole}px` });
    panels.forEach((own, i) => {
      const left = (i % columns) * (wide + GAP) + LEFT;
      svg.append(...panel(own, left, left + wide - LEFT, Math.floor(i / columns) * HEIGHT));
    });
    return svg;
  }
  return { drawn };
})();
