"use strict";
// The view as data. The address holds all of it: views are shared as links, and Back and Forward go through them.
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const view = (() => {
  const TEXTS = ["filter", "family", "data", "kind", "conformant", "front", "sort", "cost", "cell"];
  const FLAGS = ["across", "heat", "common", "compared"];
  const SETS = ["off", "hide", "turn", "pair"]; // unticked tasks, hidden columns, groups folded or unfolded, chosen rows
  const BOUNDS = ["params", "flops", "core_days"];
  const state = {};
  const drawers = [];

  function read() {
    const [tab, query] = location.hash.startsWith("#/") ? location.hash.slice(2).split("?") : ["", ""];
    const wanted = new URLSearchParams(query || "");
    state.tab = tab;
    for (const name of TEXTS) state[name] = wanted.get(name) || "";
    for (const name of FLAGS) state[name] = wanted.has(name);
    for (const name of SETS) state[name] = new Set(wanted.getAll(name));
    for (const name of BOUNDS) state[name] = (wanted.get(name) || "..").split("..").concat("").slice(0, 2);
  }

  function address() {
    const query = new URLSearchParams();
    for (const name of TEXTS) if (state[name]) query.append(name, state[name]);
    for (const name of FLAGS) if (state[name]) query.append(name, "1");
    for (const name of SETS) for (const value of state[name]) query.append(name, value);
    for (const name of BOUNDS) if (state[name].some(Boolean)) query.append(name, state[name].join(".."));
    const text = query.toString();
    return state.tab || text ? `#/${state.tab}${text ? "?" + text : ""}` : location.pathname + location.search;
  }

  function draw() {
    for (const drawer of drawers) drawer(state);
  }

  // Shows the changed state; while one types, the address changes without a step that Back would go through.
  function commit(change, { typing = false } = {}) {
    change(state);
    const next = address();
    const now = location.hash || location.pathname + location.search;
    if (next !== now) history[typing ? "replaceState" : "pushState"](null, "", next);
    draw();
  }

  function toggle(set, value) {
    if (!set.delete(value)) set.add(value);
  }

  addEventListener("popstate", () => {
    if (location.hash && !location.hash.startsWith("#/")) return;
    read();
    draw();
  });
  read();
  return { state, commit, draw, toggle, BOUNDS, onDraw: (drawer) => drawers.push(drawer) };
})();

// Unpacks what large pages hold compressed.
async function unpacked(script) {
  const found = JSON.parse(script.textContent);
  if (!found || !found.gzip) return found;
  const bytes = Uint8Array.from(atob(found.gzip), (c) => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

// What dialogs show, unpacked when it is first asked for.
let detailsFound = null;
const details = () => (detailsFound = detailsFound || unpacked(document.getElementById("details")));
