// What charts are drawn with: SVG elements, the looks of families, ticks, and numbers as text.
const svgOf = (() => {
  const holder = document.createElement("div");
  holder.innerHTML = "<svg></svg>";
  const space = holder.firstChild.namespaceURI; // not written as text: the page must not contain URLs
  return (tag, attributes = {}, ...children) => {
    const element = document.createElementNS(space, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
})();

const drawing = (() => {
  const looks = JSON.parse(document.body.dataset.looks);
  const DASHES = JSON.parse(document.body.dataset.dashes);
  const SHAPES = {
    circle: "M5 0A5 5 0 1 1 -5 0A5 5 0 1 1 5 0Z", square: "M-4.5 -4.5H4.5V4.5H-4.5Z", "triangle-up": "M0 -5.5L5.5 4.5H-5.5Z",
    diamond: "M0 -6L6 0L0 6L-6 0Z", cross: "M-2 -6H2V-2H6V2H2V6H-2V2H-6V-2H-2Z", "triangle-down": "M0 5.5L5.5 -4.5H-5.5Z",
  };
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const inPercent = (share) => String(Number((100 * share).toFixed(6)));
  const lookOf = (family) => looks[family] || Object.values(looks)[0];

  function symbol(family, x, y, hollow = false, size = 1) {
    const [colour, shape] = lookOf(family);
    return svgOf("path", { d: SHAPES[shape], transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})${size === 1 ? "" : ` scale(${size})`}`, fill: hollow ? "var(--bg)" : colour, stroke: colour, "stroke-width": 2 });
  }

  // Ticks of a logarithmic axis all along the values: powers of ten, with 2 and 5 or all times these on a short axis.
  function logTicks(low, high) {
    const decades = Math.log10(high / low);
    const steps = decades > 0 && decades < 0.6 ? [1, 2, 3, 4, 5, 6, 7, 8, 9] : decades < 2.5 ? [1, 2, 5] : [1];
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) for (const step of steps) found.push(step * 10 ** power);
    const from = Math.max(...found.filter((tick) => tick <= low * 1.001));
    const to = Math.min(...found.filter((tick) => tick >= high * 0.999));
    return found.filter((tick) => tick >= from && tick <= to);
  }

  function linearTicks(low, high) {
    const size = 10 ** Math.floor(Math.log10(high - low));
    const step = [0.1, 0.2, 0.5, 1, 2].map((part) => part * size).find((each) => (high - low) / each <= 7) || size;
    const found = [];
    for (let tick = Math.ceil(low / step) * step; tick <= high + 1e-12; tick += step) found.push(tick);
    return found;
  }

  const written = (value) => (value >= 1e6 ? `${Number((value / 1e6).toPrecision(3))} M` : value >= 1e3 ? `${Number((value / 1e3).toPrecision(3))} k` : String(Number(value.toPrecision(3))));

  // Families by name, each with its symbol.
  function key(families) {
    return [...new Set(families)].sort().map((family) => {
      const item = Object.assign(document.createElement("span"), { className: "family" });
      const [colour, shape] = lookOf(family);
      item.append(svgOf("svg", { viewBox: "-7 -7 14 14", width: 12, height: 12, "aria-hidden": "true" }, svgOf("path", { d: SHAPES[shape], fill: colour })), ` ${family}`);
      return item;
    });
  }

  // The place of a value along an axis with some room at both ends.
  function linear(values, from, to, room = 0.06) {
    const pad = Math.max((Math.max(...values) - Math.min(...values)) * room, 0.002);
    const [low, high] = [Math.min(...values) - pad, Math.max(...values) + pad];
    return { low, high, at: (value) => from + ((value - low) / (high - low)) * (to - from), ticks: linearTicks(low, high) };
  }

  const dashOf = (i) => DASHES[i % DASHES.length].join(" ");
  return { percent, inPercent, lookOf, symbol, logTicks, linearTicks, written, key, linear, dashOf };
})();
