// Which columns are shown: hidden ones, tasks that are not ticked, and groups of tasks that are folded.
const columns = (() => {
  const { state } = view;
  const sheet = document.head.appendChild(document.createElement("style"));
  const menu = document.querySelector("#columns > div");
  let listed = null;

  // A group is folded or not as the page opens, and turned by the reader.
  const folded = (table, group) => (table.dataset.folded === "1") !== state.turn.has(group);
  const groupOf = (header) => header.dataset.group || "tasks";

  // Positions of hidden columns.
  function hidden(table) {
    const found = new Set();
    const foldable = new Set(all("[data-fold-of]", table).map((button) => button.dataset.foldOf));
    rows.heads(table).forEach((header, i) => {
      const { key } = header.dataset;
      const group = header.dataset.of && groupOf(header);
      if (state.hide.has(key) || (group && (state.off.has(header.dataset.of) || (foldable.has(group) && folded(table, group))))) found.add(i);
    });
    return found;
  }

  function title(header) {
    return header.querySelector("button").textContent;
  }

  function list(table) {
    if (listed !== table) {
      listed = table;
      menu.replaceChildren(...rows.heads(table).filter((header) => header.dataset.key && !header.dataset.of && !["backbone", "rank"].includes(header.dataset.key)).map((header) => {
        const label = document.createElement("label");
        const box = Object.assign(document.createElement("input"), { type: "checkbox" });
        box.dataset.column = header.dataset.key;
        label.append(box, ` ${title(header)}`);
        return label;
      }));
    }
    for (const box of all("input", menu)) box.checked = !state.hide.has(box.dataset.column);
  }

  // Headings over columns span those that are shown.
  function span(table, gone) {
    const row = table.querySelector("tr.heads");
    if (!row) return;
    let [at, tasks] = [0, 0];
    for (const cell of row.cells) {
      if (!cell.dataset.width) cell.dataset.width = cell.colSpan;
      const width = Number(cell.dataset.width);
      let left = 0;
      for (let i = at; i < at + width; i++) left += gone.has(i) ? 0 : 1;
      at += width;
      cell.hidden = !left;
      if (left) cell.colSpan = left;
      if ("tasks" in cell.dataset) tasks += left;
    }
    row.hidden = !tasks;
  }

  function turn(table) {
    for (const button of all("[data-fold-of]", table)) button.setAttribute("aria-expanded", String(!folded(table, button.dataset.foldOf)));
  }

  function draw() {
    const table = page.table();
    const gone = hidden(table);
    const place = `#${page.active().id} .board tr:not(.heads, .space) >`;
    const chosen = [...gone].map((i) => `${place} :nth-child(${i + 1})`);
    const rule = gone.size ? `@media screen { ${chosen.join(",")} { display: none } }` : ""; // paper has all columns
    if (sheet.textContent !== rule) sheet.textContent = rule;
    span(table, gone);
    turn(table);
    list(table);
  }

  // All columns of all boards, on paper.
  function print(on) {
    if (on) page.each(() => span(page.table(), new Set()));
    else draw();
  }

  menu.addEventListener("change", (event) => view.commit((state) => view.toggle(state.hide, event.target.dataset.column)));
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-fold-of]");
    if (button) view.commit((state) => view.toggle(state.turn, button.dataset.foldOf));
  });
  view.onDraw(draw);
  return { hidden, title, print };
})();
