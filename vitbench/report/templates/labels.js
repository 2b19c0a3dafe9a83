// Places names beside points so that none overlaps another name, a point or a line; those without room are left to the tooltip.
const labels = (() => {
  const HEIGHT = 13;
  const AWAY = [8, 16, 28, 44];
  const measure = document.createElement("canvas").getContext("2d");

  function width(text) {
    measure.font = "11px system-ui, sans-serif";
    return measure.measureText(text).width + 2;
  }

  // A name that is no longer than so many pixels.
  function cut(name, most) {
    if (width(name) <= most) return name;
    let kept = name;
    while (kept.length > 1 && width(`${kept}…`) > most) kept = kept.slice(0, -1);
    return `${kept}…`;
  }

  // Around a point: right, left, above, below and between, near ones first.
  function candidates(x, y, wide) {
    return AWAY.flatMap((d) => [[x + d, y], [x - d - wide, y], [x + d * 0.7, y - d * 0.8], [x + d * 0.7, y + d * 0.8], [x - d * 0.7 - wide, y - d * 0.8], [x - d * 0.7 - wide, y + d * 0.8], [x - wide / 2, y - d - 3], [x - wide / 2, y + d + 3]]
      .map(([left, middle]) => ({ left, top: middle - HEIGHT / 2, right: left + wide, bottom: middle + HEIGHT / 2, far: d > AWAY[1] })));
  }

  const apart = (a, b) => a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;

  // Boxes for the names of points [{x, y, name}], the most important first, off a line; null where there is no room.
  function placed(points, bounds, line) {
    const taken = points.map(({ x, y }) => ({ left: x - 5, right: x + 5, top: y - 5, bottom: y + 5 }));
    for (let i = 1; i < line.length; i++) {
      const steps = Math.ceil(Math.hypot(line[i].x - line[i - 1].x, line[i].y - line[i - 1].y) / 6);
      for (let k = 0; k <= steps; k++) {
        const [x, y] = ["x", "y"].map((way) => line[i - 1][way] + ((line[i][way] - line[i - 1][way]) * k) / steps);
        taken.push({ left: x - 1, right: x + 1, top: y - 1, bottom: y + 1 });
      }
    }
    return points.map(({ x, y, name }) => {
      const box = candidates(x, y, width(name)).find((one) =>
        one.left >= bounds.left && one.right <= bounds.right && one.top >= bounds.top && one.bottom <= bounds.bottom && taken.every((other) => apart(one, other)));
      if (box) taken.push(box);
      return box || null;
    });
  }
  return { placed, width, cut };
})();
