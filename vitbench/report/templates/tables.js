// Transposes the visible table, and copies it as text, with the current ticks and filters.
(() => {
  const { all, active, state } = page;
  const toggle = document.getElementById("across");
  const visible = (cells) => [...cells].filter((cell) => !cell.hidden);

  function text(cell) {
    const copy = cell.cloneNode(true);
    for (const extra of all(".facts, .unseen, .delta", copy)) extra.remove();
    return copy.textContent.replace(/\s+/g, " ").trim();
  }

  function flip(table) {
    const head = table.tHead.rows[table.tHead.rows.length - 1];
    const rows = visible(table.tBodies[0].rows);
    const columns = visible(head.cells).filter((header) => !header.classList.contains("rank") && header.classList.contains("num"));
    const made = document.createElement("table");
    made.className = "across";
    const names = made.createTHead().insertRow();
    const corner = document.createElement("th");
    corner.scope = "col";
    corner.textContent = "Task";
    names.append(corner, ...rows.map((row) => cellOf("th", row.querySelector("th"), "col")));
    const body = made.createTBody();
    for (const header of columns) {
      const line = body.insertRow();
      const place = header.cellIndex;
      const name = cellOf("th", header, "row");
      name.className = "";
      line.append(name, ...rows.map((row) => cellOf("td", row.cells[place])));
    }
    return made;
  }

  function cellOf(tag, source, scope) {
    const cell = document.createElement(tag);
    cell.className = source.className;
    if (scope) cell.scope = scope;
    else for (const name of ["value", "done"]) if (name in source.dataset) cell.dataset[name] = source.dataset[name];
    if (source.title) cell.title = source.title;
    const button = source.querySelector("button:not(.open)");
    for (const node of source.childNodes) {
      if (node === button) cell.append(...[...button.childNodes].map((child) => child.cloneNode(true)));
      else cell.append(node.cloneNode(true));
    }
    return cell;
  }

  function turn() {
    toggle.setAttribute("aria-pressed", String(state.across));
    for (const old of all("table.across")) old.remove();
    for (const table of all("table.board")) {
      table.hidden = state.across;
      if (state.across && active().contains(table)) table.after(flip(table));
    }
  }

  function shown() {
    const table = active().querySelector("table.across") || active().querySelector("table.board");
    const head = table.tHead.rows[table.tHead.rows.length - 1];
    const rows = [head, ...visible(table.tBodies[0].rows)].map((row) => visible(row.cells));
    return rows;
  }

  // The unformatted number of a cell, if it has one: a fraction, seconds, FLOPs.
  function plain(cell) {
    const { value } = cell.dataset;
    if (cell.tagName !== "TD" || value === undefined || cell.classList.contains("rank")) return text(cell).replace(/^–$/, "");
    return value === "-1" ? "" : value;
  }

  const csv = (value) => (/[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const md = (value) => value.replace(/[|\\`*_<>[\]#]/g, "\\$&");
  const tex = (value) => value.replace(/[\\~^&%$#_{}]/g, (c) => ({ "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}" })[c] || "\\" + c).replaceAll("±", "$\\pm$").replaceAll("–", "--").replaceAll("†", "$\\dagger$").replaceAll("≈", "$\\approx$").replaceAll("✓", "");

  const written = {
    csv: (rows) => rows.map((cells) => cells.map((cell) => csv(plain(cell))).join(",")).join("\n") + "\n",
    md: (rows) => {
      const lines = rows.map((cells) => `| ${cells.map((cell) => md(text(cell))).join(" | ")} |`);
      const rule = `| ${rows[0].map((cell) => (cell.classList.contains("num") ? "--:" : ":--")).join(" | ")} |`;
      return [lines[0], rule, ...lines.slice(1)].join("\n") + "\n";
    },
    latex: (rows) => {
      const [head, ...body] = rows.map((cells) => cells.map((cell) => tex(text(cell))).join(" & ") + " \\\\");
      const columns = rows[0].map((cell) => (cell.classList.contains("num") ? "r" : "l")).join("");
      return [`\\begin{tabular}{${columns}}`, "\\toprule", head, "\\midrule", ...body, "\\bottomrule", "\\end{tabular}"].join("\n") + "\n";
    },
  };

  for (const button of all("[data-copy]")) {
    const label = button.textContent;
    button.addEventListener("click", () => {
      navigator.clipboard.writeText(written[button.dataset.copy](shown())).then(() => {
        button.textContent = "Copied";
        setTimeout(() => (button.textContent = label), 1500);
      });
    });
  }
  toggle.addEventListener("click", () => {
    state.across = !state.across;
    page.changed();
  });
  page.onChange(turn);
  if (state.across) turn();
})();
