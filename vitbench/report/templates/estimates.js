// Means with the variances that other images and other seeds give them, combined as vitbench/report/statistics.py does.
const estimates = (() => {
  const TAIL = 0.025; // of a 95 % interval, on each side
  const MOST_FREEDOM = 1e4; // Student's t is the normal distribution by then, to 0.02 %
  const LEAST_TAIL = 1e-9; // p-values below 0.001 are shown as that, whatever Holm makes of them
  const reaches = new Map();
  const read = new WeakMap();

  // What a cell of the table says of its score: the ends of its interval, and its variances; null where none is known.
  function ofCell(cell) {
    if (!read.has(cell)) {
      const { e, done, value } = cell.dataset;
      const [low, high, ...parts] = e && done !== undefined ? e.split(",").map(Number) : [];
      read.set(cell, low === undefined ? null : { ...ofParts([Number(value), ...parts]), low, high });
    }
    return read.get(cell);
  }

  function ofParts([mean, images, imageNoise = 0, seeds = 0, seedNoise = 0]) {
    return { mean, images, imageNoise, seeds, seedNoise };
  }

  // The weighted sum of independent estimates.
  function combined(list, weights) {
    const found = ofParts([0, 0]);
    list.forEach((each, i) => {
      const squared = weights[i] ** 2;
      found.mean += weights[i] * each.mean;
      found.images += squared * each.images;
      found.imageNoise += squared ** 2 * each.imageNoise;
      found.seeds += squared * each.seeds;
      found.seedNoise += squared ** 2 * each.seedNoise;
    });
    return found;
  }

  const meanOf = (list) => combined(list, list.map(() => 1 / list.length));

  // The logarithm of the gamma function (Lanczos, g = 7, nine terms).
  function logGamma(x) {
    const terms = [676.5203681218851, -1259.1392167224028, 771.3234287776531, -176.6150291621406, 12.507343278686905, -0.13857109526572012, 9.984369578019572e-6, 1.5056327351493116e-7];
    const sum = terms.reduce((total, term, i) => total + term / (x + i), 0.9999999999998099);
    return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(x + 6.5) - (x + 6.5) + Math.log(sum);
  }

  // The continued fraction of the incomplete beta function (DLMF 8.17.22), by Lentz's method.
  function fraction(x, a, b) {
    let [c, d] = [1, 1 / (1 - ((a + b) * x) / (a + 1))];
    let value = d;
    for (let m = 1; m < 1000; m++) {
      const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
      const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
      d = 1 / (1 + even * d);
      c = 1 + even / c;
      value *= c * d;
      d = 1 / (1 + odd * d);
      c = 1 + odd / c;
      value *= c * d;
      if (Math.abs(c * d - 1) < 1e-12) break;
    }
    return value;
  }

  // The probability that Student's t with so many degrees of freedom is above t > 0.
  function tailOf(t, free) {
    const [a, b, x] = [free / 2, 0.5, free / (free + t * t)];
    const front = Math.exp(a * Math.log(x) + b * Math.log1p(-x) + logGamma(a + b) - logGamma(a) - logGamma(b));
    return x < (a + 1) / (a + b + 2) ? (front * fraction(x, a, b)) / a / 2 : (1 - (front * fraction(1 - x, b, a)) / b) / 2;
  }

  // Where a falling function of a logarithm reaches a value.
  function solved(falling, wanted, low, high, steps = 60) {
    for (let i = 0; i < steps; i++) {
      const middle = (low + high) / 2;
      if (falling(Math.exp(middle)) > wanted) low = middle;
      else high = middle;
    }
    return Math.exp((low + high) / 2);
  }

  function quantile(free, tail) {
    if (tail !== TAIL) return solved((t) => tailOf(t, free), tail, -6, 30);
    const near = Number(free.toPrecision(5));
    if (!reaches.has(near)) reaches.set(near, solved((t) => tailOf(t, near), tail, Math.log(1.9), Math.log(12.8), 28)); // 12.7 with one
    return reaches.get(near);
  }

  const freedom = (variance, noise) => (noise > 0 && variance > 0 ? Math.min(Math.max(variance ** 2 / noise, 1), MOST_FREEDOM) : MOST_FREEDOM);

  function squaredReach(own, tail) {
    const part = (variance, noise) => (variance > 0 ? quantile(freedom(variance, noise), tail) ** 2 * variance : 0);
    return part(own.images, own.imageNoise) + part(own.seeds, own.seedNoise);
  }

  function interval(own) {
    const reach = Math.sqrt(squaredReach(own, TAIL));
    return [own.mean - reach, own.mean + reach];
  }

  // The two-sided p-value for a mean of zero: below 0.05 exactly where the interval excludes zero.
  function p(own) {
    if (own.mean === 0) return 1;
    if (squaredReach(own, LEAST_TAIL) <= own.mean ** 2) return 2 * LEAST_TAIL;
    return Math.min(1, 2 * solved((tail) => squaredReach(own, tail), own.mean ** 2, Math.log(LEAST_TAIL), Math.log(0.5)));
  }

  // Holm's step-down procedure, in the order given.
  function holm(values) {
    const order = values.map((_, i) => i).sort((i, j) => values[i] - values[j]);
    const adjusted = [];
    let highest = 0;
    order.forEach((i, place) => { adjusted[i] = highest = Math.max(highest, Math.min(1, (values.length - place) * values[i])); });
    return adjusted;
  }

  // The mean of these cells with its interval, as the page has it: that of the score if there is one; null where none is known.
  function ofCells(cells) {
    const list = cells.map(ofCell);
    if (!list.length || list.includes(null)) return null;
    if (list.length === 1) return [list[0].low, list[0].high];
    const [low, high] = interval(meanOf(list));
    return [Math.max(low, 0), Math.min(high, 1)];
  }

  // The same of the mean of means over several lists of cells.
  function ofGroups(groups) {
    const lists = groups.map((cells) => cells.map(ofCell));
    if (lists.some((list) => !list.length || list.includes(null))) return null;
    const [low, high] = interval(meanOf(lists.map(meanOf)));
    return [Math.max(low, 0), Math.min(high, 1)];
  }

  return { ofCell, ofCells, ofGroups, ofParts, combined, meanOf, interval, p, holm };
})();
