"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const palette = ["#3f86cc", "#e0752d", "#3a9e68", "#cc4b72", "#8b6fd0", "#a88a1f", "#2c9fa6", "#858b94"];
  const dashes = ["solid", "dash", "dot", "dashdot"];
  const colour = (series) => palette[series % palette.length];
  const hidden = new Set();
  const axis = document.getElementById("axis");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(pointer: coarse)").matches;
  let printing = false;

  for (const one of document.querySelectorAll("i[data-series], .bar span[data-series]")) {
    one.style.background = colour(Number(one.dataset.series));
  }

  // Tables: the buttons in their heads sort them; empty cells stay last.
  const compare = (one, other) => {
    const [a, b] = [Number(one), Number(other)];
    return Number.isNaN(a) || Number.isNaN(b) ? one.localeCompare(other, undefined, { numeric: true }) : a - b;
  };
  for (const button of document.querySelectorAll(".sort")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const body = head.closest("table").tBodies[0];
      const descends = head.getAttribute("aria-sort") === "descending";
      const next = descends || (!head.hasAttribute("aria-sort") && !head.classList.contains("num"));
      for (const each of head.parentElement.children) each.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", next ? "ascending" : "descending");
      const value = (row) => row.cells[head.cellIndex].dataset.value;
      const rows = [...body.rows].sort((one, other) => {
        const [a, b] = [value(one), value(other)];
        if (a === "" || b === "") return (a === "") - (b === "");
        return (next ? 1 : -1) * compare(a, b);
      });
      body.append(...rows);
    });
  }

  // The filter keeps rows of leaderboards whose name has every word; one for all boards, if there is a choice.
  const filter = document.getElementById("filter");
  const competitors = [...document.querySelectorAll(".board tbody tr")];
  if (filter && competitors.length > 3) {
    const box = filter.querySelector("input");
    const keep = () => {
      const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of competitors) {
        const name = row.cells[0].dataset.value.toLowerCase();
        row.hidden = !words.every((word) => name.includes(word));
      }
      const kept = competitors.filter((row) => !row.hidden).length;
      filter.querySelector("output").textContent = words.length ? `${kept} of ${competitors.length}` : "";
    };
    box.addEventListener("input", keep);
    box.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      box.value = "";
      keep();
    });
    filter.hidden = false;
    keep(); // a browser that goes back restores the words
  }

  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const layout = (title) => {
    const lines = { gridcolor: style("--line"), zerolinecolor: style("--line"), linecolor: style("--line"), automargin: true };
    return {
      margin: { l: 46, r: 12, t: 8, b: 40 }, showlegend: false, hovermode: "closest", font: { color: style("--ink"), size: 12 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: touch ? false : "zoom",
      xaxis: { ...lines, title: { text: title, standoff: 6 } }, yaxis: { ...lines },
      hoverlabel: { bgcolor: style("--card"), bordercolor: style("--line"), font: { color: style("--ink") } },
    };
  };
  const shows = (trace) => !hidden.has(trace.series);

  // Curves over epochs, steps or minutes; a run without epochs is left out there.
  const curves = (place) => {
    const traces = data.charts[place].map((trace) => {
      const x = trace[axis.value];
      const common = { x, y: trace.y.slice(0, x.length), name: trace.name, visible: shows(trace) };
      if (trace.kind === "alarm") {
        return { ...common, mode: "markers", text: trace.text.map(wrapped), hovertemplate: "<b>%{fullData.name}</b><br>%{text}<extra></extra>",
          marker: { symbol: "triangle-up", size: 13, color: style("--warn"), line: { width: 1.5, color: style("--card") } } };
      }
      const dash = dashes[Math.floor(trace.series / palette.length) % dashes.length];
      return { ...common, mode: x.length < 20 ? "lines+markers" : "lines", customdata: trace.steps, line: { color: colour(trace.series), width: 2, dash },
        hovertemplate: "<b>%{fullData.name}</b><br>%{y:.5g} at step %{customdata:,}<extra></extra>" };
    });
    return [traces, layout(axis.value)];
  };
  const wrapped = (text) => text.replace(/(.{1,60})(\s|$)/g, "$1<br>");

  const overK = (place) => {
    const traces = data.over_k[place].map((trace) => ({
      x: trace.x, y: trace.y, name: trace.name, visible: shows(trace), mode: "lines+markers", line: { color: colour(trace.series), width: 2 },
      error_y: { type: "data", symmetric: false, array: trace.up, arrayminus: trace.down, color: colour(trace.series), thickness: 1 },
      hovertemplate: "<b>%{fullData.name}</b><br>%{y:.2f} at k=%{x}<extra></extra>",
    }));
    const found = layout("k");
    const ticks = [...new Set(data.over_k[place].flatMap((trace) => trace.x))];
    Object.assign(found.xaxis, { type: "log", tickvals: ticks, ticktext: ticks.map(String) });
    return [traces, found];
  };

  // A map has one trace for each class, so that its legend switches classes off.
  const map = (place) => {
    const one = data.maps[place];
    const classes = [...new Set(one.class)].sort((a, b) => a - b);
    const traces = classes.map((number, order) => {
      const at = one.class.flatMap((each, index) => (each === number ? [index] : []));
      const hue = (360 * order) / classes.length;
      const name = number < 0 ? "no label" : one.classes[number] ?? String(number);
      return { x: at.map((index) => one.x[index]), y: at.map((index) => one.y[index]), text: at.map((index) => one.text[index]), name,
        mode: "markers", marker: { size: 5, opacity: 0.75, color: number < 0 ? colour(0) : `hsl(${hue}, 62%, ${dark.matches && !printing ? 62 : 46}%)` },
        hovertemplate: "<b>%{fullData.name}</b><br>%{text}<extra></extra>" };
    });
    const found = layout(one.axes[0]);
    found.yaxis.title = { text: one.axes[1], standoff: 4 };
    if (classes.length > 1 && classes.length <= 20) Object.assign(found, { showlegend: true, legend: { orientation: "h", y: -0.18, itemsizing: "constant" } });
    return [traces, found];
  };

  const kinds = { charts: curves, over_k: overK, maps: map };
  const draw = (element) => {
    if (!element.isConnected || element.closest("details:not([open])")) return;
    const [traces, found] = kinds[element.dataset.kind](Number(element.dataset.place));
    if (printing) found.width = 330;
    Plotly.react(element, traces, found, { responsive: true, displayModeBar: false });
  };
  const all = () => document.querySelectorAll(".chart").forEach(draw);

  if (axis && !data.charts.some((traces) => traces.some((trace) => trace.epochs.length))) {
    axis.querySelector("[value=epochs]").remove();
  }
  axis?.addEventListener("change", all);
  for (const box of document.querySelectorAll(".toggle")) {
    box.addEventListener("change", () => {
      hidden[box.checked ? "delete" : "add"](Number(box.dataset.series));
      all();
    });
    if (!box.checked) hidden.add(Number(box.dataset.series)); // a browser that goes back restores boxes
  }
  for (const one of document.querySelectorAll("details")) {
    one.addEventListener("toggle", () => one.querySelectorAll(".chart").forEach(draw));
  }
  dark.addEventListener("change", all);
  addEventListener("beforeprint", () => { printing = true; all(); });
  addEventListener("afterprint", () => { printing = false; all(); });
  all();
})();
