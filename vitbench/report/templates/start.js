// Shows the view of the address; prints all boards with all rows; takes a newer page while a run goes on.
(() => {
  const every = Number(document.body.dataset.reload || 0); // seconds
  let opened = [];

  function print(on) {
    if (on) opened = all("details:not(.menu):not([open])");
    for (const details of opened) details.open = on;
    rows.print(on);
    columns.print(on);
    if (on) page.each(() => { costChart.draw(); liveCharts.draw(); });
  }

  function place() {
    return { y: scrollY, boxes: all(".scroll").map((box) => [box.scrollLeft, box.scrollTop]) };
  }

  function restore({ y, boxes }) {
    scrollTo(0, y);
    all(".scroll").forEach((box, i) => boxes[i] && box.scrollTo(...boxes[i]));
  }

  // Not while one reads a dialog or types.
  function reload() {
    if (document.hidden || document.querySelector("dialog[open], details.menu[open]") || document.activeElement.matches("input, select")) return;
    history.replaceState(place(), "");
    location.reload();
  }

  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
  if (every) setInterval(reload, 1000 * every);
  view.draw();
  rows.load();
  if (history.state && history.state.boxes) restore(history.state);
})();
