(() => {
  "use strict";
  // Everything on these pages works without this: it only tells values where a pointer rests on a chart.
  const tip = document.getElementById("tip");

  function show(text, x, y) {
    tip.textContent = text;
    tip.hidden = false;
    tip.style.left = "0"; // so that its natural width is measured, not what fits at the old place
    const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = Math.min(Math.max(8, x + 14), room) + scrollX + "px";
    tip.style.top = Math.max(y - tip.offsetHeight - 14, 4) + scrollY + "px";
  }

  function hide() {
    tip.hidden = true;
    document.querySelectorAll(".cross").forEach((line) => { line.style.visibility = "hidden"; });
  }

  function valueAt(row, x) {
    let index = -1;
    row.x.forEach((start, place) => { if (start <= x + 1e-9) index = place; });
    return index < 0 ? null : row.y[index];
  }

  function pointChart(svg, event) {
    const chart = svg.chart || (svg.chart = JSON.parse(svg.dataset.chart));
    const [left, right, low, high] = chart.plot;
    const box = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / box.width;
    const at = Math.min(Math.max((event.clientX - box.left) * scale, left), right);
    const x = low + ((at - left) / (right - left)) * (high - low);
    const cross = svg.querySelector(".cross");
    cross.setAttribute("x1", at);
    cross.setAttribute("x2", at);
    cross.style.visibility = "visible";
    const rows = chart.rows
      .map((row) => [row.name, valueAt(row, x)])
      .filter(([, y]) => y !== null)
      .map(([name, y]) => name + "  " + (100 * y).toFixed(1) + " %");
    show([x.toFixed(1), ...rows].join("\n"), box.left + at / scale, event.clientY);
  }

  function point(event) {
    const svg = event.target.closest("svg[data-chart]");
    return svg ? pointChart(svg, event) : hide();
  }

  document.addEventListener("pointermove", point);
  document.addEventListener("pointerdown", point);
  document.addEventListener("pointerleave", hide);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
})();
