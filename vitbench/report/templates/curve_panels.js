// Panels side by side with curves over a logarithmic axis, on which nothing at all has a place left of the others.
const curvePanels = (() => {
  const [HEIGHT, TOP, BOTTOM, LEFT, GAP, LEAST, MOST] = [250, 24, 34, 34, 22, 250, 420]; // pixels
  const APART = 13; // of names at the ends of curves

  function scales(curves, { ticks, height }, left, right, top) {
    const points = curves.flatMap((curve) => curve.points);
    const zero = points.some((point) => point.x === 0) ? 40 : 0;
    const [from, to] = [ticks[0], ticks[ticks.length - 1]].map(Math.log);
    const inner = right - left - zero - 16;
    const x = (value) => value > 0 ? left + 8 + zero + (to > from ? ((Math.log(value) - from) / (to - from)) * inner : inner / 2) : left + 14;
    const y = drawing.linear(points.flatMap((point) => [point.value, point.low, point.high].filter((value) => value !== null)), top + height - BOTTOM, top + TOP);
    return { x, y, zero };
  }

  function frame({ x, y, zero }, { title, ticks, nothing, height }, left, right, top) {
    const base = top + height - BOTTOM;
    const parts = [svgOf("text", { x: (left + right) / 2, y: top + 14, "text-anchor": "middle", class: "panel-title" }, labels.cut(title, right - left + LEFT))];
    for (const level of y.ticks) parts.push(
      svgOf("line", { x1: left, x2: right, y1: y.at(level), y2: y.at(level), class: "grid" }),
      svgOf("text", { x: left - 5, y: y.at(level) + 4, "text-anchor": "end" }, drawing.inPercent(level)),
    );
    let last = -Infinity;
    for (const [tick, text] of [...(zero ? [[0, nothing]] : []), ...ticks.map((tick) => [tick, drawing.written(tick)])]) {
      parts.push(svgOf("line", { x1: x(tick), x2: x(tick), y1: base, y2: base + 4, class: "axis" }));
      if (x(tick) - labels.width(text) / 2 < last + 5) continue;
      last = x(tick) + labels.width(text) / 2;
      parts.push(svgOf("text", { x: x(tick), y: base + 17, "text-anchor": "middle" }, text));
    }
    return [...parts, svgOf("line", { x1: left, x2: right, y1: base, y2: base, class: "axis" })];
  }

  function curve(own, x, y, shaded) {
    const [colour] = drawing.lookOf(own.family);
    const at = (point, value) => `${x(point.x).toFixed(1)} ${y(value).toFixed(1)}`;
    const group = svgOf("g", { class: "point", "data-name": own.name });
    const known = own.points.filter((point) => point.low !== null);
    if (shaded && known.length > 1) group.append(svgOf("path", { d: `M${known.map((point) => at(point, point.low)).join("L")}L${[...known].reverse().map((point) => at(point, point.high)).join("L")}Z`, fill: colour, class: "band" }));
    else for (const point of known) group.append(svgOf("line", { x1: x(point.x), x2: x(point.x), y1: y(point.low), y2: y(point.high), stroke: colour, class: "interval" }));
    if (own.points.length > 1) group.append(svgOf("path", { d: "M" + own.points.map((point) => at(point, point.value)).join("L"), stroke: colour, "stroke-dasharray": own.dash, class: "curve" }));
    for (const point of own.points) group.append(svgOf("g", {}, drawing.symbol(own.family, x(point.x), y(point.value), false, 0.7), svgOf("title", {}, point.said)));
    return group;
  }

  // Names beside the ends of curves, moved apart where they would overlap.
  function names(curves, x, y, most, top) {
    const ends = curves.map((own) => ({ own, end: own.points[own.points.length - 1] })).sort((a, b) => a.end.value - b.end.value);
    let last = Infinity;
    for (const each of ends) last = each.at = Math.min(y(each.end.value) + 4, last - APART);
    last = top - APART;
    for (const each of [...ends].reverse()) last = each.at = Math.max(each.at, last + APART);
    return ends.map(({ own, end, at }) => svgOf("text", { x: x(end.x) + 8, y: at, class: "label" }, labels.cut(own.name, most)));
  }

  function panel(own, look, left, right, top) {
    const room = look.named ? Math.min(Math.max(...own.curves.map((each) => labels.width(each.name))) + 10, 0.4 * (right - left)) : 0;
    const found = scales([...own.curves, ...own.rules.map((rule) => ({ points: [{ x: look.ticks[0], ...rule }] }))], look, left, right - room, top);
    const { x, y } = found;
    const parts = frame(found, { title: own.title, ...look }, left, right, top);
    for (const rule of own.rules) parts.push(svgOf("line", { x1: left, x2: right, y1: y.at(rule.value), y2: y.at(rule.value), class: "front" }, svgOf("title", {}, rule.said)));
    parts.push(...own.curves.map((each) => curve(each, x, y.at, look.shaded)));
    return look.named ? [...parts, ...names(own.curves, x, y.at, room, top + TOP + 8)] : parts;
  }

  // Panels [{ title, curves, rules }]; `look`: ticks, what nothing is called, whether curves are shaded between their ends and named.
  function drawn(panels, look, width) {
    const columns = Math.max(1, Math.min(panels.length, Math.floor(width / (LEAST + GAP + LEFT))));
    const wide = Math.min(MOST, width / columns - GAP);
    const whole = Math.ceil(columns * (wide + GAP));
    const height = Math.max(HEIGHT, look.named ? TOP + BOTTOM + APART * Math.max(...panels.map((own) => own.curves.length)) : 0);
    const svg = svgOf("svg", { viewBox: `0 0 ${whole} ${Math.ceil(panels.length / columns) * height + 4}`, class: "panels", style: `max-width:${whole}px` });
    panels.forEach((own, i) => {
      const left = (i % columns) * (wide + GAP) + LEFT;
      svg.append(...panel(own, { ...look, height }, left, left + wide - LEFT, Math.floor(i / columns) * height));
    });
    return svg;
  }
  return { drawn };
})();
