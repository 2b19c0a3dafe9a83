// Buttons under every chart that save it as SVG or PNG.
(() => {
  const STYLES = ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "font-size", "font-family", "font-weight", "color"];
  const SCALE = 3; // pixels of a PNG per pixel of the page

  // A copy that looks the same without the page's style sheet.
  function alone(svg) {
    const copy = svg.cloneNode(true);
    const originals = [svg, ...svg.querySelectorAll("*")];
    [copy, ...copy.querySelectorAll("*")].forEach((element, i) => {
      const style = getComputedStyle(originals[i]);
      element.setAttribute("style", STYLES.map((name) => `${name}:${style.getPropertyValue(name)}`).join(";"));
    });
    const { width, height } = svg.viewBox.baseVal;
    copy.setAttribute("width", width);
    copy.setAttribute("height", height);
    copy.style.background = getComputedStyle(document.documentElement).backgroundColor;
    return [new XMLSerializer().serializeToString(copy), width, height];
  }

  async function png([text, width, height]) {
    const image = new Image();
    image.src = `data:${"image"}/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
    await image.decode();
    const canvas = Object.assign(document.createElement("canvas"), { width: width * SCALE, height: height * SCALE });
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  }

  async function save(kind, place) {
    const svg = all("svg", place.closest("figure")).find((one) => one.getClientRects().length);
    if (!svg) return;
    const drawn = alone(svg);
    copies.save(copies.fileName(`${place.dataset.name}.${kind}`), kind === "svg" ? drawn[0] : await png(drawn), "image/svg+xml");
  }

  for (const place of all(".saves")) {
    for (const kind of ["svg", "png"]) {
      const button = Object.assign(document.createElement("button"), { className: "button", textContent: `Save ${kind.toUpperCase()}` });
      button.addEventListener("click", () => save(kind, place));
      place.append(button, " ");
    }
  }
})();
