// The table with tasks as rows and backbones as columns, of the rows and columns that are shown.
const transposed = (() => {
  const { state } = view;
  const MOST = 40; // backbones: more make no table that can be read

  function cellOf(tag, source, scope) {
    const cell = document.createElement(tag);
    cell.className = source.className;
    if (scope) cell.scope = scope;
    if (source.title) cell.title = source.title;
    if (source.getAttribute("style")) cell.setAttribute("style", source.getAttribute("style"));
    for (const name of ["value", "done"]) if (!scope && name in source.dataset) cell.dataset[name] = source.dataset[name];
    const button = source.querySelector("button:not(.open, .fold)");
    for (const node of source.childNodes) {
      if (node === button) cell.append(...[...button.childNodes].map((child) => child.cloneNode(true)));
      else if (!(node.classList && (node.classList.contains("choose") || node.classList.contains("fold")))) cell.append(node.cloneNode(true));
    }
    return cell;
  }

  function flip(table) {
    const gone = columns.hidden(table);
    const shown = rows.shown(table).slice(0, MOST);
    const heads = rows.heads(table).filter((header, i) => !gone.has(i) && header.classList.contains("num") && header.dataset.key !== "rank");
    const made = Object.assign(document.createElement("table"), { className: "across" });
    const names = made.createTHead().insertRow();
    const corner = Object.assign(document.createElement("th"), { scope: "col", className: "name", textContent: "Task" });
    names.append(corner, ...shown.map((row) => cellOf("th", row.querySelector("th"), "col")));
    const body = made.createTBody();
    for (const header of heads) {
      const name = cellOf("th", header, "row");
      name.className = "";
      name.removeAttribute("title");
      body.insertRow().append(name, ...shown.map((row) => cellOf("td", row.cells[header.cellIndex])));
    }
    return made;
  }

  function draw() {
    const table = page.table();
    for (const old of all("table.across")) old.remove();
    if (table.hidden !== state.across) table.closest(".scroll").scrollTo(0, 0);
    table.hidden = state.across;
    if (state.across) table.after(flip(table));
  }

  view.onDraw(draw);
  return { MOST };
})();
