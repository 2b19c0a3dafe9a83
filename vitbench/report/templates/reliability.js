// The reliability curve of a cell: in each bin of confidence, how many of its images are right. Seeds are taken together.
const reliability = (() => {
  const [SIZE, LEFT, BASE, TOP] = [250, 34, 210, 8]; // pixels

  function drawn(bins, make) {
    const x = (share) => LEFT + share * (SIZE - LEFT - 12);
    const y = (share) => BASE - share * (BASE - TOP);
    const most = Math.max(...bins.map((bin) => bin.n));
    const svg = make("svg:svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, class: "sweep reliability", role: "img", "aria-label": "Accuracy by confidence; the table below has the numbers" });
    for (const share of [0, 0.5, 1]) svg.append(
      make("svg:line", { x1: x(0), x2: x(1), y1: y(share), y2: y(share) }),
      make("svg:text", { x: LEFT - 5, y: y(share) + 4, "text-anchor": "end" }, String(100 * share)),
      make("svg:text", { x: x(share), y: BASE + 16, "text-anchor": "middle" }, String(100 * share)),
    );
    svg.append(make("svg:text", { x: x(0.5), y: SIZE - 8, "text-anchor": "middle" }, "confidence, %"));
    svg.append(make("svg:path", { d: `M${x(0)} ${y(0)}L${x(1)} ${y(1)}`, class: "ideal" }));
    svg.append(make("svg:path", { d: "M" + bins.map((bin) => `${x(bin.confidence).toFixed(1)} ${y(bin.accuracy).toFixed(1)}`).join("L") }));
    for (const bin of bins) svg.append(make("svg:circle", { cx: x(bin.confidence).toFixed(1), cy: y(bin.accuracy).toFixed(1), r: (2 + 6 * Math.sqrt(bin.n / most)).toFixed(1) },
      make("svg:title", {}, `${drawing.percent(bin.accuracy)} of ${bin.n} images with ${drawing.percent(bin.confidence)} confidence are right`)));
    return svg;
  }

  // What the dialog shows; why there is no curve, if there is none. `make` makes elements, `table` tables.
  function parts(cell, make, table) {
    if (!cell.bins) return [];
    const title = make("h3", {}, "Calibration");
    if (!cell.bins.length) return [title, make("p", { class: "hint" }, "No curve kept: records of older versions have no bins of confidence.")];
    const bins = cell.bins.map(([n, confidence, right]) => ({ n, confidence, accuracy: right / n }));
    const over = cell.seeds.length > 1 ? `, ${cell.seeds.length} seeds together` : "";
    const rows = bins.map((bin) => [drawing.percent(bin.confidence), drawing.percent(bin.accuracy), String(bin.n)]);
    return [
      title,
      make("p", { class: "hint" }, `Accuracy in percent by confidence, the highest probability${over}. Dashed: perfectly calibrated; below it, overconfident. Larger points: more images.`),
      drawn(bins, make),
      make("details", {}, make("summary", {}, "All bins"), table(["Mean confidence", "Accuracy", "Images"], rows, "Bins of confidence")),
    ];
  }
  return { parts };
})();
