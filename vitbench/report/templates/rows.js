// The rows of boards: filtered, sorted, and laid out where they can be seen. A browser takes half a second for 500 rows.
const rows = (() => {
  const { state } = view;
  const MOST = 80; // rows that are laid out together
  const AROUND = 8; // rows laid out above and below those in view
  const UNITS = { params: 1e6, flops: 1e9, core_days: 1 };
  const every = new Map(all("table.board").map((table) => [table, [...table.tBodies[0].rows]]));
  const shownOf = new Map([...every.keys()].map((table) => [table, every.get(table)]));
  const places = new Map([...every].map(([table, own]) => [table, new Map(own.map((row, i) => [row, i]))]));
  const numbers = new WeakMap();
  const texts = new WeakMap();
  const counter = document.getElementById("shown");
  let printing = false;

  const heads = (table) => [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  const place = (table, key) => heads(table).findIndex((header) => header.dataset.key === key);

  // What a row sorts and filters by in a column: a number, a name in lower case, or null where it is unknown.
  function value(row, i) {
    if (!numbers.has(row)) numbers.set(row, []);
    const own = numbers.get(row);
    if (own[i] === undefined) {
      const cell = row.cells[i];
      const name = cell.querySelector(".name");
      own[i] = name ? name.textContent.toLowerCase() : cell.dataset.value === undefined ? (cell.classList.contains("num") ? null : cell.textContent.trim().toLowerCase()) : Number(cell.dataset.value);
    }
    return own[i];
  }

  function textOf(row) {
    if (!texts.has(row)) texts.set(row, row.dataset.search.toLowerCase());
    return texts.get(row);
  }

  function test(table) {
    const words = state.filter.toLowerCase().split(/\s+/).filter(Boolean);
    const exact = ["family", "data", "kind", "conformant"].filter((name) => state[name] && (table || name !== "conformant"));
    const bounds = table ? view.BOUNDS.filter((name) => state[name].some(Boolean) && place(table, name) >= 0).map((name) => {
      const [low, high] = state[name];
      return [place(table, name), low === "" ? -Infinity : low * UNITS[name], high === "" ? Infinity : high * UNITS[name]];
    }) : [];
    const front = table && place(table, "front") >= 0 ? state.front : "";
    return (row) => {
      if (!words.every((word) => textOf(row).includes(word)) || !exact.every((name) => row.dataset[name] === state[name])) return false;
      if (front && !row.dataset.front.includes(front)) return false;
      return bounds.every(([i, low, high]) => { const own = value(row, i); return own !== null && own >= low && own <= high; });
    };
  }

  function sorted(table, found) {
    const [key, way] = (state.sort || "rank.a").split(/\.(?=[ad]$)/);
    const i = place(table, key);
    for (const header of heads(table)) {
      const next = header.dataset.key !== key ? "none" : way === "d" ? "descending" : "ascending";
      if (header.hasAttribute("aria-sort") && header.getAttribute("aria-sort") !== next) header.setAttribute("aria-sort", next);
    }
    if (i < 0) return found;
    const sign = way === "d" ? -1 : 1;
    const order = places.get(table);
    // What is unknown comes last, whichever way.
    return found.map((row) => [value(row, i), row]).sort(([a, one], [b, two]) =>
      a === null || b === null ? (a === null) - (b === null) || order.get(one) - order.get(two)
        : a < b ? -sign : a > b ? sign : order.get(one) - order.get(two)).map(([, row]) => row);
  }

  function space(height, columns) {
    const row = document.createElement("tr");
    const cell = row.insertCell();
    row.className = "space";
    row.setAttribute("aria-hidden", "true");
    cell.colSpan = columns;
    cell.style.height = `${height}px`;
    return row;
  }

  function lay(table) {
    const shown = shownOf.get(table);
    const body = table.tBodies[0];
    const focused = document.activeElement;
    if (shown.length <= MOST || printing) {
      const same = body.rows.length === shown.length && shown.every((row, i) => row === body.rows[i]);
      if (!same) body.replaceChildren(...shown);
    } else {
      const box = table.closest(".scroll");
      const height = (body.querySelector("tr:not(.space)") || {}).offsetHeight || 46;
      const first = Math.max(0, Math.min(Math.floor(box.scrollTop / height) - AROUND, shown.length - 2 * AROUND));
      const last = Math.min(shown.length, first + Math.ceil((box.clientHeight || 800) / height) + 2 * AROUND);
      const columns = heads(table).length;
      body.replaceChildren(space(first * height, columns), ...shown.slice(first, last), space((shown.length - last) * height, columns));
      shown.slice(first, last).forEach((row, i) => row.setAttribute("aria-rowindex", first + i + 3));
      table.laid = [first, last, height];
    }
    if (focused !== document.activeElement && body.contains(focused)) focused.focus({ preventScroll: true });
  }

  function arrange(table) {
    shownOf.set(table, sorted(table, every.get(table).filter(test(table))));
    lay(table);
  }

  function draw() {
    const table = page.table();
    arrange(table);
    const matches = test(null);
    for (const row of all("tr[data-search]")) if (!row.closest(".board")) row.hidden = !matches(row);
    const [shown, known] = [shownOf.get(table).length, every.get(table).length];
    counter.textContent = shown < known ? `${shown} of ${known} rows` : "";
  }

  for (const table of every.keys()) {
    table.closest(".scroll").addEventListener("scroll", (event) => {
      if (!table.laid || shownOf.get(table).length <= MOST) return;
      const [first, last, height] = table.laid;
      const from = event.target.scrollTop / height;
      if ((from < first + 3 && first > 0) || (from + event.target.clientHeight / height > last - 3 && last < shownOf.get(table).length)) lay(table);
    }, { passive: true });
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("thead th[data-key] > button:not(.fold)");
    if (!button) return;
    const header = button.parentElement;
    const { key } = header.dataset;
    const first = header.classList.contains("num") && key !== "rank" ? "d" : "a";
    const now = header.getAttribute("aria-sort");
    const next = now === "none" ? first : now === "ascending" ? "d" : "a";
    view.commit((state) => { state.sort = `${key}.${next}`; });
  });
  // Plain tables sort in place.
  document.addEventListener("click", (event) => {
    const button = event.target.closest("thead th:not([data-key]) > button");
    if (!button || button.closest(".board, .across")) return;
    const header = button.parentElement;
    const way = header.getAttribute("aria-sort") === (header.classList.contains("num") ? "descending" : "ascending") ? -1 : 1;
    const sign = way * (header.classList.contains("num") ? -1 : 1);
    for (const other of header.parentNode.children) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", sign < 0 ? "descending" : "ascending");
    const body = header.closest("table").tBodies[0];
    const key = (row) => value(row, header.cellIndex);
    body.append(...[...body.rows].sort((a, b) => key(a) === null || key(b) === null ? (key(a) === null) - (key(b) === null) : key(a) < key(b) ? -sign : key(a) > key(b) ? sign : 0));
  });

  // The further rows of large boards, which the page holds compressed.
  async function load() {
    for (const script of all("script.rows")) {
      const table = document.querySelector(`#board-${script.dataset.board} table.board`);
      const holder = document.createElement("template");
      holder.innerHTML = (await unpacked(script)).join("");
      const own = every.get(table);
      for (const row of [...holder.content.children]) {
        places.get(table).set(row, own.length);
        own.push(row);
      }
      script.remove();
      view.draw();
    }
  }

  function print(on) {
    printing = on;
    for (const table of every.keys()) arrange(table);
  }

  return {
    heads, place, value, load, print, draw,
    every: (table) => every.get(table),
    matching: (table) => every.get(table).filter(test(table)),
    passes: (row) => test(null)(row),
    shown: (table) => shownOf.get(table),
    forget: (row) => numbers.delete(row),
  };
})();
