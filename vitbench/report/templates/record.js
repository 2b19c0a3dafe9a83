// The dialog of a cell: scores by seed, trials of hyper-parameter selection, errors, and how to reproduce them.
(() => {
  const dialog = document.getElementById("record");
  let data = null; // unpacked when first asked for
  const textOf = (i) => data.texts[i];
  const percent = (share) => (100 * share).toFixed(1);
  const DRAWN_FROM = 3; // settings; fewer are shown as a table only
  const wide = () => Math.min(640, innerWidth - 64); // so that text is as large on a phone

  function make(tag, attributes = {}, ...children) {
    if (tag.startsWith("svg:")) return svgOf(tag.slice(4), attributes, ...children);
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  function table(heads, rows, label) {
    const numeric = (i) => (i ? { class: "num" } : {});
    const head = make("tr", {}, ...heads.map((text, i) => make("th", { scope: "col", ...numeric(i) }, text)));
    const body = rows.map((row) => make("tr", {}, ...row.map((text, i) => make("td", numeric(i), text))));
    return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...body)));
  }

  const number = (value) => (typeof value === "number" && value !== 0 ? Number(value.toPrecision(4)).toString() : String(value));
  // Options that differ between settings, in the order of the first setting.
  const varying = (grid) => Object.keys(grid[0]).filter((name) => new Set(grid.map((options) => JSON.stringify(options[name]))).size > 1);
  const setting = (options, names) => (names.length ? names : Object.keys(options)).map((name) => `${name} ${number(options[name])}`).join(", ");

  function curve(trials, grid, names) {
    const values = trials.values.map(Number);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const [width, height, left, base] = [wide(), 170, 46, 140];
    const x = (i) => left + ((width - left - 14) * i) / (values.length - 1);
    const y = (v) => base - (high > low ? ((v - low) / (high - low)) * 118 : 59);
    const figure = make("svg:svg", { viewBox: `0 0 ${width} ${height}`, class: "sweep", role: "img", "aria-label": "Score of every setting; the table below has the numbers" });
    for (const v of high > low ? [low, high] : [low]) {
      figure.append(make("svg:line", { x1: left, x2: width, y1: y(v), y2: y(v) }), make("svg:text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, percent(v)));
    }
    figure.append(make("svg:path", { d: "M" + values.map((v, i) => `${x(i).toFixed(1)} ${y(v).toFixed(1)}`).join("L") }));
    values.forEach((v, i) => figure.append(make("svg:circle", { cx: x(i), cy: y(v), r: 2.4, class: i === trials.chosen ? "chosen" : "" })));
    for (const [i, anchor] of [[0, "start"], [trials.chosen, "middle"], [values.length - 1, "end"]]) {
      if (i < 0 || (anchor === "middle" && Math.abs(i / (values.length - 1) - 0.5) > 0.3)) continue;
      figure.append(make("svg:text", { x: x(i), y: height - 10, "text-anchor": anchor }, setting(grid[i], names)));
    }
    return figure;
  }

  function losses(trials, names) {
    const curves = trials.curves.map(([steps, values]) => data.grids[steps].map((step, i) => [step, values[i]]).filter(([, v]) => v !== null));
    const all = curves.flat();
    if (!all.length) return [];
    const begun = Math.max(...curves.map((curve) => (curve.length ? curve[0][1] : 0)).filter(Number.isFinite).sort((a, b) => a - b).slice(0, Math.ceil(curves.length / 2)));
    // A diverged run must not flatten the others: losses are clipped at four times the median initial loss.
    const [most, top] = [Math.max(...all.map(([step]) => step)), Math.min(Math.max(...all.map(([, v]) => v)), 4 * begun)];
    const [width, height, left, base] = [wide(), 190, 46, 150];
    const figure = make("svg:svg", { viewBox: `0 0 ${width} ${height}`, class: "sweep losses", role: "img", "aria-label": "Training loss of every run by step" });
    const point = ([step, v]) => `${(left + ((width - left - 14) * step) / most).toFixed(1)} ${(base - Math.min(v / (top || 1), 1) * 138).toFixed(1)}`;
    for (const v of [0, top]) {
      const y = base - (v / (top || 1)) * 138;
      figure.append(make("svg:line", { x1: left, x2: width, y1: y, y2: y }), make("svg:text", { x: left - 6, y: y + 4, "text-anchor": "end" }, number(v)));
    }
    curves.forEach((curve, i) => {
      if (!curve.length) return;
      const last = i === curves.length - 1;
      const label = (last ? "final run: " : "") + setting(data.grids[trials.named[i]][0], names.length ? names : ["base_lr"]);
      figure.append(make("svg:path", { d: "M" + curve.map(point).join("L"), class: last ? "chosen" : "" }, make("svg:title", {}, label)));
    });
    figure.append(make("svg:text", { x: left, y: height - 12 }, "step 0"), make("svg:text", { x: width - 14, y: height - 12, "text-anchor": "end" }, `step ${most}`));
    return [make("p", { class: "hint" }, "Training loss; the bold line is the final run."), figure];
  }

  function sweep(seed) {
    const { trials } = seed;
    if (!trials || (trials.values.length < 2 && trials.values[0] === null && !trials.gap && !trials.curves)) return [];
    const grid = data.grids[trials.grid];
    const names = varying(grid);
    const whole = trials.values.every((value) => value !== null);
    const chosen = trials.chosen < 0 ? "" : ` Chosen: ${setting(grid[trials.chosen], names)}.`;
    const gap = trials.gap ? ` Relative optimality gap ≤ ${trials.gap}.` : "";
    const rows = grid.map((options, i) => [
      setting(options, names) + (i === trials.chosen ? " ← chosen" : ""),
      trials.values[i] === null ? "–" : textOf(trials.judged).endsWith("loss") ? number(trials.values[i]) : percent(trials.values[i]),
      trials.notes && i in trials.notes ? textOf(trials.notes[i]) : "",
    ]);
    return [
      make("h3", {}, `Trials of seed ${seed.seed}`),
      make("p", { class: "hint" }, (rows.length > 1 ? `${rows.length} settings, chosen by ${textOf(trials.judged)}.${chosen}` : "No hyper-parameters were tuned.") + gap),
      ...(whole && rows.length >= DRAWN_FROM && names.length === 1 ? [curve(trials, grid, names)] : []),
      ...(trials.curves ? losses(trials, names) : []),
      make("details", {}, make("summary", {}, "All trials"), table(["Setting", textOf(trials.judged), "Note"], rows, `Trials of seed ${seed.seed}`)),
    ];
  }

  // Metrics beside the task's own: fractions in percent, the negative log-likelihood in nats; a note where there is no value.
  function further(cell) {
    const rows = cell.seeds.filter((seed) => seed.further).flatMap((seed) => {
      const [kinds, ...values] = seed.further;
      return data.grids[kinds].map(([name, isFraction, note], i) => {
        const [value, low, high] = values[i];
        return [
          textOf(name), `seed ${seed.seed}`, value === null ? "–" : isFraction ? percent(value) : number(value),
          low === undefined ? "–" : `${percent(low)} – ${percent(high)}`, textOf(note),
        ];
      });
    });
    return rows.length ? [make("h3", {}, "Further metrics"), table(["Metric", "", "Value", "95 % interval", "Note"], rows, "Further metrics")] : [];
  }

  function seeds(cell) {
    const points = cell.seeds.filter((seed) => seed.scores.length).map((seed) => [seed.seed, ...seed.scores[0].slice(1, 4)]);
    if (points.length < 2) return [];
    const [low, high] = [Math.min(...points.map((p) => p[2])), Math.max(...points.map((p) => p[3]))];
    const [width, left] = [wide(), 70];
    const height = 22 * points.length + 26;
    const x = (v) => (left + ((width - left - 20) * (v - low)) / (high - low || 1)).toFixed(1);
    const figure = make("svg:svg", { viewBox: `0 0 ${width} ${height}`, class: "sweep", role: "img", "aria-label": "Score of every seed with its interval over test images; the table above has the numbers" });
    points.forEach(([seed, value, from, to], i) => {
      const y = 14 + 22 * i;
      figure.append(
        make("svg:text", { x: left - 10, y: y + 4, "text-anchor": "end" }, `seed ${seed}`),
        make("svg:line", { x1: x(from), x2: x(to), y1: y, y2: y, class: "interval" }),
        make("svg:circle", { cx: x(value), cy: y, r: 4 }, make("svg:title", {}, percent(value))),
      );
    });
    for (const [v, anchor] of [[low, "start"], [high, "end"]]) figure.append(make("svg:text", { x: x(v), y: height - 4, "text-anchor": anchor }, percent(v)));
    return [make("h3", {}, "Seeds"), figure];
  }

  // The confusion matrix of a few classes, or the most frequent errors among many.
  function mistakes(cell) {
    const { confusion } = cell;
    if (!confusion) return [];
    const title = make("h3", {}, `Confusion matrix, seed ${cell.seeds[0].seed}`);
    if (confusion.mistakes) {
      if (!confusion.mistakes.length) return [];
      const rows = confusion.mistakes.map(([label, predicted, n]) => [textOf(label), textOf(predicted), String(n)]);
      return [title, make("details", {}, make("summary", {}, "Most frequent errors"), table(["True class", "Predicted", "Count"], rows, "Errors"))];
    }
    const names = data.grids[confusion.classes];
    const most = Math.max(1, ...confusion.matrix.flatMap((row, i) => row.filter((_, j) => i !== j)));
    const percentOf = (right, row) => { const number = row.reduce((sum, n) => sum + n, 0); return number ? percent(right / number) : "–"; };
    const head = make("tr", {}, make("th", { scope: "col" }, "true ↓ predicted →"), ...names.map((name) => make("th", { scope: "col", class: "num" }, name)), make("th", { scope: "col", class: "num" }, "correct, %"));
    const body = confusion.matrix.map((row, i) => make("tr", {}, make("th", { scope: "row" }, names[i]), ...row.map((n, j) => {
      const place = make("td", { class: i === j ? "num right" : "num" }, n ? String(n) : "·");
      if (i !== j && n) place.style.setProperty("--wrong", `${Math.round((60 * n) / most)}%`);
      return place;
    }), make("td", { class: "num" }, percentOf(row[i], row))));
    return [title, make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Confusion matrix" }, make("table", { class: "confusion" }, make("thead", {}, head), make("tbody", {}, ...body)))];
  }

  function worst(cell) {
    if (!cell.worst) return [];
    const images = cell.worst.map(([image, label, predicted]) => make("figure", { class: "image" }, make("img", { src: image, alt: label }), make("figcaption", {}, make("b", {}, label), ` predicted ${predicted}`)));
    return [make("h3", {}, "Most confident errors"), make("div", { class: "images" }, ...images)];
  }

  function recipe(cell) {
    const [head, ...axes] = cell.recipe.map(textOf);
    const names = ["backbones", "tasks", "protocols"];
    return `${head}\n${axes.map((axis, i) => `${names[i]}:\n  - ${axis}\n`).join("")}`;
  }

  function copier(label, text) {
    const button = make("button", { class: "button" }, label);
    button.addEventListener("click", () => copies.copy(button, text));
    return button;
  }

  function show(name) {
    const cell = data.cells[name];
    const title = cell.title.map(textOf).join(" on ");
    const scores = cell.seeds.flatMap((seed) =>
      seed.scores.map(([metric, value, low, high, n]) => [
        `seed ${seed.seed}`, textOf(metric), percent(value), `${percent(low)} – ${percent(high)}`, String(n),
        seed.seconds === null ? "–" : `${seed.seconds.toFixed(1)} s`, textOf(seed.created), seed.key,
      ]));
    const notes = new Set(cell.seeds.flatMap((seed) => [...(seed.notes || []), ...("failure" in seed ? [seed.failure] : [])]).map(textOf));
    const facts = cell.facts.flatMap(([key, value]) => [make("dt", {}, textOf(key)), make("dd", {}, textOf(value))]);
    const close = make("button", { class: "button" }, "Close");
    close.addEventListener("click", () => dialog.close());
    const plain = { facts: cell.facts.map(([key, value]) => [textOf(key), textOf(value)]), keys: cell.seeds.map((seed) => seed.key) };
    const copies = [copier("Copy recipe", recipe(cell)), " ", copier("Copy as JSON", JSON.stringify(plain, null, 1))];
    dialog.replaceChildren(
      make("div", { class: "head" }, make("h2", { id: "record-title" }, title), make("div", {}, ...copies, " ", close)),
      ...(scores.length ? [table(["", "Metric", "Score", "95 % interval", "Test images", "Time", "Date", "Record"], scores, "Scores")] : []),
      ...(notes.size ? [make("h3", {}, "Notes"), make("ul", {}, ...[...notes].map((text) => make("li", {}, text)))] : []),
      ...seeds(cell),
      ...further(cell),
      ...reliability.parts(cell, make, table),
      ...cell.seeds.flatMap(sweep),
      ...mistakes(cell),
      ...worst(cell),
      make("h3", {}, "Details"),
      make("dl", { class: "facts-list" }, ...facts),
    );
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
  }

  let shown = "";
  async function draw(state) {
    if (state.cell === shown) return;
    shown = state.cell;
    data = await details();
    if (data.cells[shown]) show(shown);
    else if (dialog.open) dialog.close();
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.open");
    if (button) view.commit((state) => { state.cell = button.dataset.cell; });
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => { if (view.state.cell) view.commit((state) => { state.cell = ""; }); });
  view.onDraw(draw);
})();
