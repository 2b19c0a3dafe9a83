// Which board is shown, and the controls: each mirrors a part of the view.
const page = (() => {
  const { state } = view;
  const panels = all(".panel");
  const method = document.getElementById("protocol");
  const budget = document.getElementById("budget");
  const inputs = ["filter", "family", "data", "kind", "conformant", "front"].map((id) => document.getElementById(id)).filter(Boolean);
  const opened = document.getElementById(`board-${document.body.dataset.opened}`) || panels[0];
  let instead = null; // of the chosen board, while each is drawn for print
  const active = () => instead || panels.find((panel) => panel.id === state.tab) || opened;
  const table = () => active().querySelector("table.board");

  const of = (method, budget) => panels.find((panel) => panel.dataset.method === method && (!budget || panel.dataset.budget === budget));

  // The board of the chosen protocol with the chosen budget, or the nearest that there is.
  function choose(kept) {
    const chosen = of(method.value, budget.value) || (kept === method ? of(method.value) : panels.find((panel) => panel.dataset.budget === budget.value));
    if (chosen) view.commit((state) => { state.tab = chosen === opened ? "" : chosen.id; state.cell = ""; state.pair.clear(); });
  }

  function show() {
    const shown = active();
    for (const panel of panels) panel.hidden = panel !== shown;
    for (const input of inputs) if (input.value !== state[input.id]) input.value = state[input.id];
    for (const box of all("[data-bound]")) {
      const value = state[box.dataset.bound][Number(box.dataset.end)];
      if (box.value !== value) box.value = value;
    }
    for (const id of ["heat", "across"]) document.getElementById(id).setAttribute("aria-pressed", String(state[id]));
    if (!method) return;
    method.value = shown.dataset.method;
    budget.disabled = shown.dataset.method === "overview";
    if (budget.disabled) return (budget.value = "");
    budget.value = shown.dataset.budget;
    for (const option of budget.options) option.disabled = !of(method.value, option.value);
  }

  if (method) {
    method.addEventListener("change", () => choose(method));
    budget.addEventListener("change", () => choose(budget));
  }
  for (const input of inputs) {
    const typing = input.type === "search";
    input.addEventListener(typing ? "input" : "change", () => view.commit((state) => { state[input.id] = input.value; }, { typing }));
  }
  for (const box of all("[data-bound]")) {
    box.addEventListener("input", () => view.commit((state) => { state[box.dataset.bound][Number(box.dataset.end)] = box.value; }, { typing: true }));
  }
  document.getElementById("clear").addEventListener("click", () => view.commit((state) => {
    for (const input of inputs) state[input.id] = "";
    for (const name of view.BOUNDS) state[name] = ["", ""];
  }));
  for (const id of ["heat", "across"]) {
    document.getElementById(id).addEventListener("click", () => view.commit((state) => { state[id] = !state[id]; }));
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-common-tasks]");
    if (button) view.commit((state) => { state.common = !state.common; });
    // A link within the page scrolls, and leaves the address to the view.
    const link = event.target.closest("a[href^='#']");
    const target = link && document.getElementById(link.hash.slice(1));
    if (target) {
      event.preventDefault();
      target.scrollIntoView();
    }
    for (const menu of all("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  });
  document.addEventListener("keydown", (event) => {
    const menu = event.key === "Escape" && document.activeElement.closest("details.menu[open]");
    if (!menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
  // A menu stays inside the window, from the moment that it opens: its `toggle` event comes later.
  const opening = new MutationObserver((changes) => {
    for (const { target } of changes) {
      if (!target.open) continue;
      const box = target.lastElementChild;
      box.style.left = "";
      const over = box.getBoundingClientRect().right - document.documentElement.clientWidth + 8;
      if (over > 0 && getComputedStyle(box).position === "absolute") box.style.left = `${-over}px`;
    }
  });
  for (const menu of all("details.menu")) opening.observe(menu, { attributes: true, attributeFilter: ["open"] });
  function each(act) {
    for (instead of panels) act();
    instead = null;
  }

  view.onDraw(show);
  return { active, each, table };
})();
