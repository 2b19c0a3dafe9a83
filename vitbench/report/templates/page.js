"use strict";
// The view: setting, filters and sort order. The URL fragment holds all of it, so views can be shared as links.
const page = (() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const tabs = all("[role=tab]");
  const panels = all("[role=tabpanel]");
  const inputs = ["filter", "family", "data", "kind"].map((id) => document.getElementById(id)).filter(Boolean);
  const shown = document.getElementById("shown");
  const more = document.getElementById("more");
  const FIRST_ROWS = 40;
  const listeners = [];
  const [wantedTab, wanted] = read();

  function read() {
    const [tab, query] = location.hash.replace(/^#\//, "").split("?");
    return [tab, new URLSearchParams(query || "")];
  }

  const state = { off: new Set(wanted.getAll("off")), across: wanted.has("across"), sort: wanted.get("sort") || "", whole: false };
  const active = () => panels.find((panel) => !panel.hidden) || document.body;

  function changed() {
    const query = new URLSearchParams();
    for (const input of inputs) if (input.value) query.append(input.id, input.value);
    for (const task of state.off) query.append("off", task);
    if (state.across) query.append("across", "1");
    if (state.sort) query.append("sort", state.sort);
    const text = query.toString();
    const tab = active().id || "";
    const plain = !text && tabs.length && tab === tabs[0].getAttribute("aria-controls");
    history.replaceState(null, "", plain ? location.pathname : `#/${tab}${text ? "?" + text : ""}`);
    for (const listener of listeners) listener();
  }

  function choose(tab) {
    for (const other of tabs) {
      other.setAttribute("aria-selected", String(other === tab));
      other.tabIndex = other === tab ? 0 : -1;
    }
    for (const panel of panels) panel.hidden = panel.id !== tab.getAttribute("aria-controls");
    state.sort = "";
    for (const table of all("table.board", active())) {
      const header = table.querySelector("thead [aria-sort=ascending], thead [aria-sort=descending]");
      if (header && !header.classList.contains("rank")) state.sort = `${header.cellIndex}${header.getAttribute("aria-sort")[0]}`;
    }
    count();
  }

  // Sorts again after means and ranks have changed.
  function reorder() {
    for (const header of all(".board thead [aria-sort=ascending], .board thead [aria-sort=descending]")) order(header, header.getAttribute("aria-sort"));
  }

  function order(header, direction) {
    const body = header.closest("table").tBodies[0];
    const column = header.cellIndex;
    const numeric = header.classList.contains("num");
    for (const other of header.parentNode.children) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1;
    const value = (row) => {
      const cell = row.cells[column];
      return numeric ? Number(cell.dataset.value) : cell.textContent.trim().toLowerCase();
    };
    const rows = [...body.rows].map((row) => [value(row), row]);
    rows.sort(([a], [b]) => (a < b ? -sign : a > b ? sign : 0));
    const sorted = rows.map(([, row]) => row);
    cut(sorted);
    body.append(...sorted);
  }

  // Long tables show their first rows, the rest on demand: a browser takes half a second for 500 rows of 30 columns.
  function cut(rows) {
    let left = rows[0] && rows[0].closest(".board") && !state.whole ? FIRST_ROWS : Infinity;
    for (const row of rows) {
      const later = !row.hidden && left-- <= 0;
      if (later !== row.classList.contains("later")) row.classList.toggle("later", later);
    }
  }

  function sort(header) {
    const now = header.getAttribute("aria-sort");
    const numeric = header.classList.contains("num") && !header.classList.contains("rank");
    const first = numeric ? "descending" : "ascending";
    const next = now === "none" ? first : now === "ascending" ? "descending" : "ascending";
    order(header, next);
    if (header.closest("table.board")) state.sort = `${header.cellIndex}${next[0]}`;
    changed();
  }

  function filter() {
    const words = inputs[0].value.toLowerCase().split(/\s+/).filter(Boolean);
    const exact = inputs.slice(1).filter((input) => input.value);
    for (const row of all("tr[data-search]")) {
      const text = row.dataset.search.toLowerCase();
      row.hidden = !(words.every((word) => text.includes(word)) && exact.every((input) => row.dataset[input.id] === input.value));
    }
    for (const table of all(".board")) cut([...table.tBodies[0].rows]);
    count();
  }

  function count() {
    const rows = all(".board tr[data-search]", active());
    const visible = rows.filter((row) => !row.hidden).length;
    const later = rows.filter((row) => row.classList.contains("later")).length;
    shown.textContent = visible < rows.length ? `${visible} of ${rows.length} rows` : "";
    more.hidden = !later;
    more.textContent = `Show ${later} more rows`;
  }

  for (const tab of tabs) {
    tab.addEventListener("click", () => {
      choose(tab);
      changed();
    });
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("thead button");
    if (button) sort(button.closest("th"));
  });
  for (const kind of ["input", "change"]) {
    document.querySelector(".filters").addEventListener(kind, () => {
      filter();
      changed();
    });
  }
  addEventListener("beforeprint", () => all("details").forEach((details) => (details.open = true)));
  document.querySelector("[role=tablist]").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length];
    next.focus();
    choose(next);
    changed();
  });
  for (const button of all("[data-show]")) {
    button.addEventListener("click", () => {
      const figure = button.closest("figure");
      for (const other of all("[data-show]", figure)) other.setAttribute("aria-pressed", String(other === button));
      for (const drawn of all("[data-variant]", figure)) drawn.hidden = drawn.dataset.variant !== button.dataset.show;
    });
  }

  more.addEventListener("click", () => {
    state.whole = true;
    filter();
  });

  if (tabs.length) choose(tabs.find((tab) => tab.getAttribute("aria-controls") === wantedTab) || tabs[0]);
  for (const input of inputs) if (wanted.has(input.id)) input.value = wanted.get(input.id);
  filter();
  const sorted = wanted.get("sort") || "";
  const head = active().querySelector(".board thead tr:last-child");
  const header = sorted && head && head.cells[parseInt(sorted, 10)];
  if (header && header.hasAttribute("aria-sort")) {
    state.sort = sorted;
    order(header, sorted.endsWith("a") ? "ascending" : "descending");
  }
  addEventListener("hashchange", () => location.reload()); // the user has pasted a link to another view
  return { all, active, changed, reorder, state, onChange: (listener) => listeners.push(listener) };
})();
