"use strict";
// The staircase of a layer: what each channel count costs, by cause, with intervals; older versions of it are hollow.
ns.CAUSES = { "": ["circle", "--ok"], alignment: ["square", "--alignment"], "kernel change": ["triangle", "--kernel"], "tile or wave step": ["diamond", "--tile"], "heuristic miss": ["down", "--heuristic"], unknown: ["cross", "--unknown"] };

// The cause by which a count is marked, empty for what is not slower.
ns.markOf = (one) => (Object.hasOwn(ns.CAUSES, one.why) ? one.why : ns.WORSE.has(one.code) ? "unknown" : "");
ns.MANY = 120; // So many counts are a staircase without a line through them.

// Everything of one layer that may share axes with a source's: one kind of evidence, on one device.
ns.stairOf = function (key) {
  const [number, ...place] = key.split("|");
  const all = ns.data.cases.filter((one) => one.place === place.join("|"));
  const tested = all.filter((one) => one.tested && one.source === Number(number));
  const first = tested.find(ns.matches) || tested[0] || all[0];
  if (!first) return null;
  const source = ns.data.sources[first.source];
  const alike = (number) => number === source.compared || ns.comparable(ns.data.sources[number], source);
  const numbers = [first.source, ...new Set(all.map((one) => one.source).filter((number) => number !== first.source && alike(number)))];
  const layers = numbers.map((number) => ns.oneStair(all.filter((one) => one.source === number), number)).filter(Boolean);
  const advised = (ns.data.advised || []).filter((advice) => advice.unpruned === first.unpruned && advice.backend === source.backend && advice.device === source.device).flatMap((advice) => advice.counts || []);
  return { key, first, source, layers, advised: new Set(advised) };
};

// One version of a layer: its points by count. A time is the ratio times the unpruned layer's median, so drift cancels.
ns.oneStair = function (cases, number) {
  const whole = ns.median(cases.map((one) => one.reference_amount)) ?? ns.median(cases.filter((one) => one.itself).map((one) => one.amount));
  if (whole === null) return null;
  const point = (one) => {
    const scaled = one.ratio && one.evidence === "device_time";
    const low = scaled && one.ratio[1] > 1 / ns.UNPROVED ? one.ratio[1] * whole : null;
    const high = scaled && one.ratio[2] < ns.UNPROVED ? one.ratio[2] * whole : null;
    return { one, cost: scaled ? one.ratio[0] * whole : one.amount, low, high };
  };
  const points = new Map(cases.filter((one) => !one.itself).map((one) => [one.channels, point(one)]).filter(([, made]) => made.cost));
  return { number, whole, points, count: cases[0].whole };
};

ns.stairKeys = function (cases) {
  const seen = new Map();
  for (const one of cases) if (!seen.has(one.stair)) seen.set(one.stair, one);
  return [...seen.values()].sort((a, b) => ns.natural(a.layer, b.layer) || ns.natural(a.format, b.format) || a.source - b.source);
};

// The staircase to show: the one asked for, unless the filter hides it; else that of the worst case left.
ns.chosenStair = function (cases) {
  if (cases.some((one) => one.stair === ns.state.stair)) return ns.state.stair;
  let worst = null;
  for (const one of cases) if (!worst || ns.rank(one) > ns.rank(worst)) worst = one;
  return worst ? worst.stair : null;
};

ns.drawStairs = function (cases, afresh) {
  const body = document.querySelector("#stairs .body");
  const keys = ns.stairKeys(cases);
  const chosen = ns.chosenStair(cases);
  const stair = chosen && ns.stairOf(chosen);
  const drawn = [chosen, ...keys.map((one) => one.stair)].join();
  if (ns.chart && ns.chart.drawn === drawn && !afresh) return;
  if (ns.chart) ns.chart.destroy();
  ns.chart = null;
  if (!stair) return body.replaceChildren(ns.el("p", {}, "No case matches the filter."));
  const several = new Set(keys.map((one) => one.source)).size > 1;
  const option = (one) => ns.el("option", { value: one.stair, selected: one.stair === chosen }, `${one.rowName}, ${one.format}${one.side === "out" ? "" : `, ${one.side}`}${several ? `: ${ns.data.sources[one.source].title}` : ""}`);
  const pick = ns.el("select", { onchange: (event) => ns.ask({ stair: event.target.value }) }, keys.map(option));
  const step = (by) => () => ns.ask({ stair: keys[(keys.findIndex((one) => one.stair === chosen) + by + keys.length) % keys.length].stair });
  const controls = ns.el("div", { class: "controls" }, ns.el("label", {}, ns.el("span", {}, "Layer"), pick), ns.el("button", { type: "button", onclick: step(-1), "aria-label": "Previous layer" }, "←"), ns.el("button", { type: "button", onclick: step(1), "aria-label": "Next layer" }, "→"));
  const title = ns.el("p", { class: "caption" }, ns.el("strong", {}, stair.first.layer), ` ${stair.first.unpruned}, ${stair.source.title}`);
  const holder = ns.el("div", { class: "chart", tabindex: "0", role: "application", "aria-label": `Staircase of ${stair.first.layer}: left and right move through the channel counts, Enter opens the case` });
  const tip = ns.el("div", { class: "tip", "aria-live": "polite" });
  const drawable = stair.source.evidence !== "dispatch" && stair.layers.some((layer) => layer.points.size);
  const none = ns.el("p", { class: "note" }, stair.source.evidence === "dispatch" ? "A dispatch says which kernels are launched, and nothing about time: there is no cost to draw." : "Nothing of this layer was timed.");
  body.replaceChildren(controls, title, ...(drawable ? [ns.stairLegend(stair), holder, tip] : [none]), ns.stairTable(stair));
  if (!drawable) return;
  ns.chart = ns.stairChart(stair, holder, tip);
  ns.chart.drawn = drawn;
  const worst = [...stair.layers[0].points.values()].reduce((held, made) => (!held || ns.rank(made.one) > ns.rank(held.one) ? made : held), null);
  if (worst) queueMicrotask(() => ns.chart.stair.go(ns.chart.stair.xs.indexOf(worst.one.channels)));  // After its first drawing.
};

ns.stairLegend = function (stair) {
  const cases = [...stair.layers[0].points.values()].map((made) => made.one);
  const causes = new Set(cases.map(ns.markOf)), open = ns.openWords(cases);
  const other = cases.some((one) => one.said === "NOT_JUDGED") ? `below ${ns.TARGET}×` : "not slower";
  const mark = (cause) => ns.el("span", { class: "key" }, ns.shapeIcon(cause), ` ${cause || other}`);
  const items = Object.keys(ns.CAUSES).filter((cause) => causes.has(cause)).map(mark);
  if (open) items.push(ns.el("span", { class: "key" }, `○ ${open}`));
  for (const layer of stair.layers.slice(1)) items.push(ns.el("span", { class: "key" }, `┄ ${ns.data.sources[layer.number].title}`));
  items.push(ns.el("span", { class: "key" }, `╌ ${ns.before(stair.first)}`));
  if (stair.advised.size) items.push(ns.el("span", { class: "key" }, "▲ on the axis: advised"));
  return ns.el("p", { class: "legend" }, items);
};

ns.shapeIcon = function (cause) {
  const canvas = ns.el("canvas", { width: 24, height: 24, class: "shape", "aria-hidden": "true" });
  const [shape, colour] = ns.CAUSES[cause];
  const pen = canvas.getContext("2d");
  canvas.redraw = () => {
    pen.clearRect(0, 0, 24, 24);
    pen.fillStyle = pen.strokeStyle = ns.colour(colour);
    ns.shape(pen, shape, 12, 12, 9, true);
  };
  canvas.redraw();
  return canvas;
};

ns.shape = function (pen, shape, x, y, size, filled) {
  pen.beginPath();
  if (shape === "circle") pen.arc(x, y, size * 0.75, 0, 7);
  else {
    const corners = { square: [[-0.7, -0.7], [0.7, -0.7], [0.7, 0.7], [-0.7, 0.7]], triangle: [[0, -0.95], [0.9, 0.7], [-0.9, 0.7]], down: [[0, 0.95], [0.9, -0.7], [-0.9, -0.7]], diamond: [[0, -1], [0.85, 0], [0, 1], [-0.85, 0]], cross: [[-0.3, -0.9], [0.3, -0.9], [0.3, -0.3], [0.9, -0.3], [0.9, 0.3], [0.3, 0.3], [0.3, 0.9], [-0.3, 0.9], [-0.3, 0.3], [-0.9, 0.3], [-0.9, -0.3], [-0.3, -0.3]] }[shape];
    corners.forEach(([across, down], place) => (place ? pen.lineTo(x + across * size, y + down * size) : pen.moveTo(x + across * size, y + down * size)));
    pen.closePath();
  }
  if (filled) pen.fill();
  else pen.stroke();
};

ns.axis = (label, more) => ({ label, stroke: () => ns.colour("--text"), grid: { stroke: () => ns.colour("--line"), width: 1 }, ticks: { stroke: () => ns.colour("--line") }, font: "12px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif", labelSize: 22, ...more });

// A unit for an axis of costs: its name, and how many of it are one second or one instruction.
ns.unit = function (most, evidence) {
  if (evidence !== "device_time") return most >= 1e6 ? ["million instructions", 1e-6] : ["instructions", 1];
  return most >= 1 ? ["s a call", 1] : most >= 1e-3 ? ["ms a call", 1e3] : ["µs a call", 1e6];
};

ns.stairChart = function (stair, holder, tip) {
  const xs = [...new Set(stair.layers.flatMap((layer) => [...layer.points.keys(), layer.count]))].sort((a, b) => a - b);
  const top = Math.max(...stair.layers.flatMap((layer) => [layer.whole, ...[...layer.points.values()].map((made) => made.cost)]));
  // Intervals are inside as well, unless they would press the points down.
  const most = Math.max(top, ...[...stair.layers[0].points.values()].map((made) => Math.min(made.high ?? 0, 1.3 * top)));
  const [unit, scale] = ns.unit(most, stair.source.evidence);
  const costs = (layer) => xs.map((count) => (count === layer.count ? layer.whole : (layer.points.get(count) || {}).cost ?? null)).map((cost) => (cost === null ? null : cost * scale));
  const lines = stair.layers.map((layer, place) => ({ label: ns.data.sources[layer.number].title, stroke: () => ns.colour(place ? "--older" : "--thread"), dash: place ? [6, 4] : [], width: xs.length > ns.MANY || xs.length < 5 ? 0 : 1, points: { show: false }, spanGaps: true }));
  const width = () => Math.max(280, holder.clientWidth);
  const height = () => (window.innerWidth < 640 ? 260 : 360);
  const span = xs[xs.length - 1] - xs[0];
  const low = xs[0] - span * 0.03 < span * 0.2 ? 0 : xs[0] - span * 0.03;
  const chart = new uPlot(
    {
      width: width(),
      height: height(),
      legend: { show: false },
      cursor: { points: { show: false }, drag: { x: false, y: false }, y: false },
      scales: { x: { time: false, range: () => [low, xs[xs.length - 1] + span * 0.02 + 0.5] }, y: { range: () => [0, most * scale * 1.08] } },
      axes: [ns.axis("channels kept"), ns.axis(unit, { size: 56 })],
      series: [{}, ...lines],
      hooks: { draw: [(plot) => ns.drawPoints(plot, stair, scale)], setCursor: [(plot) => ns.showTip(plot, stair, xs, tip)] },
    },
    [xs, ...stair.layers.map(costs)],
    holder,
  );
  const main = stair.layers[0];
  const at = () => (chart.cursor.idx ?? 0);
  const go = (place) => chart.setCursor({ left: chart.valToPos(xs[place], "x"), top: chart.bbox.height / devicePixelRatio / 2 });
  const open = () => main.points.has(xs[at()]) && ns.ask({ case: main.points.get(xs[at()]).one.key }, true);
  holder.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
    if (event.key in moves) go(Math.min(xs.length - 1, Math.max(0, at() + moves[event.key])));
    else if (event.key === "Enter") open();
    else return;
    event.preventDefault();
  });
  chart.over.addEventListener("click", open);
  chart.stair = { xs, go };
  chart.fit = () => chart.setSize({ width: width(), height: height() });
  return chart;
};

ns.drawPoints = function (plot, stair, scale) {
  const pen = plot.ctx, ratio = devicePixelRatio;
  const x = (count) => plot.valToPos(count, "x", true), y = (cost) => plot.valToPos(cost * scale, "y", true);
  pen.save();
  pen.lineWidth = ratio;
  const line = (cost, colour) => {
    pen.strokeStyle = ns.colour(colour);
    pen.setLineDash([6 * ratio, 4 * ratio]);
    pen.beginPath();
    pen.moveTo(plot.bbox.left, y(cost));
    pen.lineTo(plot.bbox.left + plot.bbox.width, y(cost));
    pen.stroke();
    pen.setLineDash([]);
  };
  line(stair.layers[0].whole, "--text");
  const main = stair.layers[0];
  const size = (main.points.size > ns.MANY ? 2.6 : 4.6) * ratio;
  for (const layer of stair.layers.slice(1)) {
    pen.strokeStyle = ns.colour("--older");
    for (const [count, made] of layer.points) ns.shape(pen, "circle", x(count), y(made.cost), size, false);
  }
  for (const [count, made] of main.points) {
    const [shape, colour] = ns.CAUSES[ns.markOf(made.one)];
    pen.fillStyle = pen.strokeStyle = ns.colour(colour);
    if (made.low !== null || made.high !== null) {
      pen.globalAlpha = main.points.size > ns.MANY ? 0.14 : 0.45;
      pen.beginPath();
      pen.moveTo(x(count), y(made.low ?? made.cost));
      pen.lineTo(x(count), Math.max(plot.bbox.top, y(made.high ?? made.cost)));
      pen.stroke();
      pen.globalAlpha = 1;
    }
    ns.shape(pen, shape, x(count), y(made.cost), size, !ns.OPEN.has(made.one.code));
  }
  pen.fillStyle = ns.colour("--text");
  for (const count of stair.advised) ns.shape(pen, "triangle", x(count), plot.bbox.top + plot.bbox.height - 7 * ratio, 5 * ratio, true);
  pen.restore();
};

// What is known of the count under the cursor: verdict, time, plan, kernels, samples.
ns.showTip = function (plot, stair, xs, tip) {
  const place = plot.cursor.idx;
  if (place === null || place === undefined) return;
  const count = xs[place], main = stair.layers[0], made = main.points.get(count), kind = stair.source.evidence;
  const lines = [];
  if (made) {
    const one = made.one, plan = one.plan === undefined ? null : ns.data.plans[one.plan];
    lines.push([ns.el("strong", {}, ns.count(one)), " ", ns.chip(one.said), ` ${ns.interval(one.ratio)}, ${ns.amount(made.cost, kind)}${one.why ? `, ${one.why}` : ""}`]);
    if (plan) lines.push([`plan ${plan.name}${(plan.steps || []).length ? `: ${plan.steps.slice(0, 3).map((step) => ns.kernel(step).slice(0, 60)).join(" + ")}` : ""}`]);
    const samples = one.samples || [];
    if (samples.length) lines.push([`${samples.length} ${samples.length === 1 ? "process" : "processes"}: median ratios ${samples.filter((sample) => sample.ratio).map((sample) => sample.ratio[2].toFixed(3)).join(", ")}`]);
    if (stair.advised.has(count)) lines.push(["advised"]);
  } else if (count === main.count) lines.push([ns.el("strong", {}, `${count}: ${ns.before(stair.first)}`), ` ${ns.amount(main.whole, kind)}`]);
  for (const layer of stair.layers.slice(1)) {
    const other = count === layer.count ? layer.whole : (layer.points.get(count) || {}).cost;
    if (other) lines.push([`${ns.data.sources[layer.number].title}: ${ns.amount(other, kind)}`]);
  }
  tip.replaceChildren(...lines.map((line) => ns.el("div", {}, line)));
};

ns.stairTable = function (stair) {
  const points = [...(stair.layers[0] || { points: new Map() }).points.values()].sort((a, b) => b.one.channels - a.one.channels);
  const rows = () => points.map((made) => ns.el("tr", {}, ns.el("th", { scope: "row" }, ns.el("a", { href: ns.link({ case: made.one.key }) }, String(made.one.channels))), ns.el("td", {}, ns.word(made.one.said)), ns.el("td", {}, ns.interval(made.one.ratio)), ns.el("td", {}, ns.amount(made.cost, stair.source.evidence)), ns.el("td", {}, made.one.why || "–")));
  const held = ns.el("div", { class: "wide" });
  const fill = () => held.childElementCount || held.append(ns.el("table", {}, ns.el("thead", {}, ns.el("tr", {}, ["channels", "verdict", "ratio", "takes", "cause"].map((name) => ns.el("th", { scope: "col" }, name)))), ns.el("tbody", {}, rows())));
  return points.length ? ns.el("details", { class: "data", ontoggle: fill }, ns.el("summary", {}, `The same as a table: ${ns.many(points.length, "channel count")}`), held) : ns.el("p", {});
};
