"use strict";
// The grid of a layer: what it costs over (input, output) channels. Estimates by one process, and never a verdict.
ns.drawGrids = function () {
  const section = document.getElementById("grids"), grids = ns.data.grids;
  section.hidden = !grids.length;
  document.querySelector('nav a[href="#grids"]').hidden = !grids.length;
  if (!grids.length) return;
  const chosen = grids.find((one) => one.key === ns.state.grid) || grids[0];
  const several = new Set(grids.map((one) => one.source)).size > 1;
  const option = (one) => ns.el("option", { value: one.key, selected: one === chosen }, `${one.layer}${several ? `: ${ns.data.sources[one.source].title}` : ""}`);
  const pick = ns.el("select", { onchange: (event) => ns.ask({ grid: event.target.value }) }, grids.map(option));
  const step = (by) => () => ns.ask({ grid: grids[(grids.indexOf(chosen) + by + grids.length) % grids.length].key });
  const controls = ns.el("div", { class: "controls" }, ns.el("label", {}, ns.el("span", {}, "Layer"), pick), ns.el("button", { type: "button", onclick: step(-1), "aria-label": "Previous grid" }, "←"), ns.el("button", { type: "button", onclick: step(1), "aria-label": "Next grid" }, "→"));
  const source = ns.data.sources[chosen.source];
  const title = ns.el("p", { class: "caption" }, ns.el("strong", {}, chosen.layer), ` ${chosen.unpruned}, ${source.title}: ${ns.EVIDENCE[source.evidence]} at each pair of (input, output) channels over that of the unpruned layer, ${ns.amount(ns.gridCost(chosen, ...chosen.whole), source.evidence)}`);
  const note = ns.el("p", { class: "note" }, "Each cell is an estimate by one process, not a verdict. The framed one is the unpruned layer; an empty one was not measured.");
  section.querySelector(".body").replaceChildren(controls, title, ns.el("p", { class: "legend" }, ns.heatScale(source.evidence, "pruned over unpruned")), note, ns.gridTable(chosen, source));
};

ns.gridCost = (grid, inputs, outputs) => grid.costs[grid.inputs.indexOf(inputs)][grid.outputs.indexOf(outputs)];

// Outputs to the right and inputs upwards, so that the unpruned layer is at the top right.
ns.gridTable = function (grid, source) {
  const whole = ns.gridCost(grid, ...grid.whole);
  const head = ns.el("tr", {}, ns.el("th", { scope: "col" }, "in \\ out"), grid.outputs.map((count) => ns.el("th", { scope: "col" }, String(count))));
  const cell = function (inputs, outputs) {
    const cost = ns.gridCost(grid, inputs, outputs), pair = `${inputs} input, ${outputs} output channels`;
    if (cost === null) return ns.el("td", { class: "none", title: `${pair}: not measured` });
    const ratio = cost / whole, step = ns.step(ratio), unpruned = inputs === grid.whole[0] && outputs === grid.whole[1];
    const tone = `s${step < 0 ? "m" : ""}${Math.abs(step)}`;
    return ns.el("td", {}, ns.el("span", { class: `cell ${source.evidence} ${tone}${unpruned ? " unpruned" : ""}`, title: `${pair}: ${ns.amount(cost, source.evidence)}, ${ns.times(ratio)}` }, ratio.toFixed(ratio < 9.95 ? 2 : 0)));
  };
  const rows = [...grid.inputs].reverse().map((inputs) => ns.el("tr", {}, ns.el("th", { scope: "row" }, String(inputs)), grid.outputs.map((outputs) => cell(inputs, outputs))));
  return ns.el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": `Grid of ${grid.layer}` }, ns.el("table", { class: `heat ${source.evidence}` }, ns.el("thead", {}, head), ns.el("tbody", {}, rows)));
};
