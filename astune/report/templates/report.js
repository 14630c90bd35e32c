(() => {
  "use strict";
  const tip = document.getElementById("tip");
  let marked = null;

  function show(text, x, y) {
    tip.textContent = text;
    tip.hidden = false;
    tip.style.left = "0"; // so that its natural width is measured, not what fits at the old place
    const left = Math.min(Math.max(8, x - tip.offsetWidth / 2), document.documentElement.clientWidth - tip.offsetWidth - 8);
    const above = y - tip.offsetHeight - 10;
    tip.style.left = left + scrollX + "px";
    tip.style.top = (above > 4 ? above : y + 26) + scrollY + "px";
  }

  function hide() {
    tip.hidden = true;
    if (marked) marked.classList.remove("on");
    marked = null;
    document.querySelectorAll(".cross").forEach((line) => { line.style.visibility = "hidden"; });
  }

  function describe(tile) {
    const lines = ["“" + tile.textContent + "”", "id " + tile.dataset.id + ", position " + tile.dataset.n];
    if (tile.dataset.lp === undefined) return lines.concat("masked: read, not trained").join("\n");
    const logprob = Number(tile.dataset.lp);
    const probability = 100 * Math.exp(logprob);
    lines.push("trained: log-prob " + logprob.toFixed(4) + ", probability " + probability.toPrecision(3) + " %");
    return lines.join("\n");
  }

  function pointTile(tile) {
    hide();
    marked = tile;
    tile.classList.add("on");
    const box = tile.getBoundingClientRect();
    show(describe(tile), box.left + box.width / 2, box.top);
  }

  function pointChart(svg, event) {
    const chart = svg.chart || (svg.chart = JSON.parse(svg.dataset.chart));
    const [left, right, low, high] = chart.plot;
    const box = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / box.width;
    const wanted = low + (((event.clientX - box.left) * scale - left) / (right - left)) * (high - low);
    const steps = [...new Set(chart.rows.flatMap((row) => row.x))];
    if (!steps.length) return;
    const step = steps.reduce((a, b) => (Math.abs(b - wanted) < Math.abs(a - wanted) ? b : a));
    const at = left + ((step - low) / (high - low || 1)) * (right - left);
    const cross = svg.querySelector(".cross");
    cross.setAttribute("x1", at);
    cross.setAttribute("x2", at);
    cross.style.visibility = "visible";
    const format = (y) => (chart.percent ? (100 * y).toFixed(1) + " %" : y.toFixed(3));
    const rows = chart.rows
      .filter((row) => row.x.includes(step))
      .map((row) => row.name + "  " + format(row.y[row.x.indexOf(step)]));
    show(["step " + step, ...rows].join("\n"), box.left + at / scale, Math.max(box.top + 30, 60));
  }

  function point(event) {
    const tile = event.target.closest(".trace .t");
    if (tile) return tile === marked ? undefined : pointTile(tile);
    const svg = event.target.closest("svg[data-chart]");
    return svg ? pointChart(svg, event) : hide();
  }

  document.addEventListener("pointermove", point);
  document.addEventListener("pointerdown", point);
  document.addEventListener("pointerleave", hide);
  const ids = document.getElementById("ids");
  if (ids) ids.addEventListener("change", () => document.body.classList.toggle("no-ids", !ids.checked));
})();
