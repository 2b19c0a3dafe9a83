"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const tabs = all("[role=tab]");
  const panels = all("[role=tabpanel]");

  function choose(tab, remember) {
    for (const other of tabs) {
      other.setAttribute("aria-selected", String(other === tab));
      other.tabIndex = other === tab ? 0 : -1;
    }
    for (const panel of panels) panel.hidden = panel.id !== tab.getAttribute("aria-controls");
    if (remember) history.replaceState(null, "", "#/" + tab.getAttribute("aria-controls"));
    filter();
  }

  function sort(header) {
    const table = header.closest("table");
    const body = table.tBodies[0];
    const column = [...header.parentNode.children].indexOf(header);
    const numeric = header.classList.contains("num");
    const now = header.getAttribute("aria-sort");
    const first = numeric && !header.classList.contains("rank") ? "descending" : "ascending";
    const next = now === "none" ? first : now === "ascending" ? "descending" : "ascending";
    for (const other of header.parentNode.children) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", next);
    const sign = next === "ascending" ? 1 : -1;
    const value = (row) => {
      const cell = row.children[column];
      return numeric ? Number(cell.dataset.value) : cell.textContent.trim().toLowerCase();
    };
    const rows = [...body.rows].map((row) => [value(row), row]);
    rows.sort(([a], [b]) => (a < b ? -sign : a > b ? sign : 0));
    body.append(...rows.map(([, row]) => row));
  }

  const input = document.getElementById("filter");
  const shown = document.getElementById("shown");

  function filter() {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of all("tr[data-search]")) {
      const text = row.dataset.search.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    const rows = all("tr[data-search]", panels.find((panel) => !panel.hidden) || document);
    const visible = rows.filter((row) => !row.hidden).length;
    shown.textContent = words.length ? `${visible} of ${rows.length} rows` : "";
  }

  for (const tab of tabs) tab.addEventListener("click", () => choose(tab, true));
  for (const button of all("thead button")) {
    button.addEventListener("click", () => sort(button.closest("th")));
  }
  input.addEventListener("input", filter);
  addEventListener("beforeprint", () => all("details").forEach((details) => (details.open = true)));
  document.querySelector("[role=tablist]").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length];
    next.focus();
    choose(next, true);
  });
  const wanted = tabs.find((tab) => "#/" + tab.getAttribute("aria-controls") === location.hash);
  if (tabs.length) choose(wanted || tabs[0], false);
})();
