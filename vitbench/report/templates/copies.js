// The shown table as text: CSV with unrounded fractions, Markdown, LaTeX for booktabs. To copy, or as a file.
const copies = (() => {
  const RANGES = { rank: ["low", "high"], mean: ["low", "high"] };

  function text(cell) {
    const copy = cell.cloneNode(true);
    for (const extra of all(".facts, .unseen, .delta, .range, .choose", copy)) extra.remove();
    return copy.textContent.replace(/\s+/g, " ").trim();
  }

  // The shown cells: a line of headings, then the rows.
  function shown() {
    const across = page.active().querySelector("table.across");
    if (across) return [across.tHead.rows[0], ...across.tBodies[0].rows].map((row) => [...row.cells]);
    const table = page.table();
    const gone = columns.hidden(table);
    const heads = rows.heads(table);
    return [{ cells: heads }, ...rows.shown(table)].map((row) => [...row.cells].filter((_, i) => !gone.has(i)));
  }

  // The unformatted number of a cell, if it has one: a fraction, seconds, FLOPs.
  function plain(cell) {
    const { value } = cell.dataset;
    if (value !== undefined) return value;
    return cell.classList.contains("none") ? "" : text(cell).replace(/^–$/, "");
  }

  const spread = (cell) => { const found = /± ([\d.]+)/.exec(text(cell)); return found ? String(Number((found[1] / 100).toPrecision(6))) : ""; };
  const ends = (cell) => {
    const small = cell.querySelector(".range");
    if (cell.dataset.low) return [cell.dataset.low, cell.dataset.high];
    return small ? small.textContent.split("–") : ["", ""];
  };
  const csvText = (value) => (/[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);

  // Beside each column what its cells add in small print: ± over seeds, the ends of intervals.
  function csv(lines) {
    const [head, ...body] = lines;
    const written = head.map((header, i) => {
      const name = text(header);
      const cells = body.map((row) => row[i]);
      const found = [[name, ...cells.map(plain)]];
      if (cells.some((cell) => spread(cell))) found.push([`${name} ±`, ...cells.map(spread)]);
      if (RANGES[header.dataset.key] && cells.some((cell) => ends(cell)[0])) RANGES[header.dataset.key].forEach((end, k) => found.push([`${name} ${end}`, ...cells.map((cell) => ends(cell)[k])]));
      return found;
    }).flat();
    return lines.map((_, row) => written.map((column) => csvText(column[row])).join(",")).join("\n") + "\n";
  }

  const withRange = (cell, shown, between) => {
    const [low, high] = ends(cell);
    if (!low) return shown;
    return cell.dataset.low ? `${shown} (${(100 * low).toFixed(1)}${between}${(100 * high).toFixed(1)})` : `${shown} (${low}${between}${high})`;
  };
  const isBest = (cell) => cell.classList.contains("best") || "leads" in cell.dataset;
  const md = (value) => value.replace(/[|\\`*_<>[\]#]/g, "\\$&");
  const tex = (value) => value.replace(/[\\~^&%$#_{}]/g, (c) => ({ "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}" })[c] || "\\" + c).replaceAll("±", "$\\pm$").replaceAll("–", "--").replaceAll("†", "$\\dagger$").replaceAll("≈", "$\\approx$").replaceAll("≥", "$\\geq$").replaceAll("✓", "");

  function markdown(lines) {
    const written = lines.map((cells) => `| ${cells.map((cell) => { const own = withRange(cell, md(text(cell)), "–"); return isBest(cell) ? `**${own}**` : own; }).join(" | ")} |`);
    const rule = `| ${lines[0].map((cell) => (cell.classList.contains("num") ? "--:" : ":--")).join(" | ")} |`;
    return [written[0], rule, ...written.slice(1)].join("\n") + "\n";
  }

  function latex(lines) {
    const line = (cells) => cells.map((cell) => { const own = withRange(cell, tex(text(cell)), "--"); return isBest(cell) ? `\\textbf{${own}}` : own; }).join(" & ") + " \\\\";
    const layout = lines[0].map((cell) => (cell.classList.contains("num") ? "r" : "l")).join("");
    const [head, ...body] = lines.map(line);
    return [`\\begin{tabular}{${layout}}`, "\\toprule", head, "\\midrule", ...body, "\\bottomrule", "\\end{tabular}"].join("\n") + "\n";
  }

  const written = { csv, md: markdown, latex };

  // Browsers give pages over plain http no clipboard; they still copy what is selected.
  async function toClipboard(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const box = Object.assign(document.createElement("textarea"), { value: text, className: "unseen" });
      (document.querySelector("dialog[open]") || document.body).append(box);
      box.select();
      document.execCommand("copy");
      box.remove();
    }
  }

  async function copy(button, text) {
    const label = button.textContent;
    await toClipboard(text);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = label), 1500);
  }

  function save(name, content, type) {
    const blob = content instanceof Blob ? content : new Blob([content], { type });
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  const fileName = (ending) => `${(page.active().dataset.label || "all settings").replace(/[^\w]+/g, "-")}.${ending}`.toLowerCase();
  for (const button of all("[data-copy]")) button.addEventListener("click", () => copy(button, written[button.dataset.copy](shown())));
  for (const button of all("[data-save]")) {
    const kind = button.dataset.save;
    button.addEventListener("click", () => save(fileName({ latex: "tex" }[kind] || kind), written[kind](shown()), "text/plain"));
  }
  return { copy, save, fileName };
})();
