"use strict";
// The heat map: layers by pruning distance, the ratio as colour and as a number.
ns.MOST_COLUMNS = 24;
ns.BINS = 20;
ns.AT_ONCE = 40;

// The step of a colour scale that a ratio has: -4 (half the time or less) to 4 (twice or more), 0 within the tolerance.
ns.step = function (ratio) {
  if (ratio > 1 / ns.TOLERANCE && ratio < ns.TOLERANCE) return 0;
  const size = Math.min(4, Math.max(1, Math.ceil(Math.abs(Math.log2(ratio)) * 4)));
  return ratio > 1 ? size : -size;
};

ns.drawHeat = function (cases) {
  const body = document.querySelector("#heat .body");
  const groups = new Map();
  for (const one of cases) (groups.get(one.group) || groups.set(one.group, []).get(one.group)).push(one);
  ns.caseLink = ns.caseLinks();
  ns.rowsLeft = [];
  const tables = [...groups.values()].map(ns.heatTable);
  const legend = groups.size ? ns.heatLegend(cases, cases.every(ns.padded) ? "padded over not padded" : "pruned over unpruned") : ns.el("p", {}, "No case matches the filter.");
  body.replaceChildren(legend, ...tables);
  clearTimeout(ns.drawingRows);
  ns.drawRowsLeft();
};

// Rows beyond the first ones follow in slices, so that a filter answers at once however many layers there are.
ns.drawRowsLeft = function () {
  for (const [held, row, columns] of ns.rowsLeft.splice(0, ns.AT_ONCE)) held.append(ns.heatRow(row, columns));
  if (ns.rowsLeft.length) ns.drawingRows = setTimeout(ns.drawRowsLeft);
};

// A kind of evidence with its colours, from half of the other amount or less to twice as much or more.
ns.heatScale = function (kind, over) {
  const cells = [-4, -2, -1, 0, 1, 2, 4].map((step) => ns.el("span", { class: `cell ${kind} s${step < 0 ? "m" : ""}${Math.abs(step)}` }, { "-4": "≤ 0.5×", "-2": "0.7×", "-1": "0.9×", 0: "1×", 1: "1.1×", 2: "1.4×", 4: "≥ 2×" }[step]));
  return ns.el("span", { class: "scale" }, `${ns.EVIDENCE[kind]}, ${over} `, ...cells);
};

ns.heatLegend = function (cases, over) {
  const kinds = new Set(cases.map((one) => one.evidence)), open = ns.openWords(cases);
  const items = ["device_time", "instructions"].filter((kind) => kinds.has(kind)).map((kind) => ns.heatScale(kind, over));
  if (kinds.has("dispatch")) items.push(ns.el("span", { class: "scale" }, "dispatch, no time ", ns.el("span", { class: "cell dispatch CHANGED" }, "≠"), " differs ", ns.el("span", { class: "cell dispatch SAME" }, "="), " the same"));
  if (cases.some((one) => ns.WORSE.has(one.code))) items.push(ns.el("span", { class: "scale" }, ns.el("span", { class: "cell device_time s2 worse" }, "▲"), " proved worse"));
  if (open) items.push(ns.el("span", { class: "scale" }, ns.el("span", { class: "cell device_time s1 open" }, "1.1"), ` ${open}`));
  return ns.el("p", { class: "legend" }, items);
};

ns.heatTable = function (cases) {
  const first = cases[0], source = ns.data.sources[first.source];
  const distances = [...new Set(cases.map((one) => one.distance))].sort((a, b) => a - b);
  const binned = distances.length > ns.MOST_COLUMNS;
  const place = binned ? (one) => Math.min(ns.BINS - 1, Math.floor((one.distance / one.whole) * ns.BINS)) : (one) => one.distance;
  const columns = [...new Set(cases.map(place))].sort((a, b) => a - b);
  const rows = new Map();
  for (const one of cases) {
    const row = rows.get(one.stair) || rows.set(one.stair, { one, cells: new Map() }).get(one.stair);
    const held = row.cells.get(place(one));
    if (!held || ns.rank(one) > ns.rank(held)) row.cells.set(place(one), one);
  }
  const head = columns.map((column) => ns.el("th", { scope: "col" }, binned ? `${(100 * column) / ns.BINS} %` : column < 0 ? `+${-column}` : `−${column}`));
  const what = { device_time: "time", instructions: "instructions", dispatch: "dispatch" }[source.evidence];
  const side = first.side === "out" ? "" : first.side === "in" ? ", input channels" : ", output and input channels together";
  const change = cases.some(ns.padded) ? "channels added by padding" : "channels removed";
  const how = binned ? `the worst in each 5 % of the ${change}` : change;
  const held = ns.el("tbody", {});
  const sorted = [...rows.values()].sort((a, b) => ns.natural(a.one.rowName, b.one.rowName));
  ns.rowsLeft.push(...sorted.map((row) => [held, row, columns]));
  return ns.el(
    "div",
    {},
    ns.el("p", { class: "caption" }, ns.el("strong", {}, source.title), ` ${first.format}${side}: ${what}, ${how}`),
    ns.el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": `Heat map of ${source.title}, ${first.format}` },
    ns.el("table", { class: `heat ${source.evidence}` }, ns.el("thead", {}, ns.el("tr", {}, ns.el("th", { scope: "col" }, "layer"), head)), held)),
  );
};

// Of several cases in a cell the worst is shown: proved worse, then failed, then undecided, then the largest ratio.
ns.rank = (one) => (ns.WORSE.has(one.code) ? 3e6 : ns.FAILED.has(one.code) ? 2e6 : ns.OPEN.has(one.code) ? 1e6 : 0) + Math.min(one.guess || 0, 1e5);

ns.heatRow = function (row, columns) {
  const layer = ns.el("th", { scope: "row" }, ns.el("a", { href: ns.link({ stair: row.one.stair, case: null }), title: "Show its staircase" }, row.one.rowName));
  return ns.el("tr", {}, layer, columns.map((column) => ns.heatCell(row.cells.get(column))));
};

ns.heatCell = function (one) {
  if (!one) return ns.el("td", { class: "none" });
  const worse = ns.WORSE.has(one.code), open = ns.OPEN.has(one.code);
  const step = one.guess === null ? "none" : ns.step(one.guess);
  const tone = one.guess === null ? one.code : `s${step < 0 ? "m" : ""}${Math.abs(step)}`;
  const shown = one.evidence === "dispatch" ? (worse ? "≠" : one.code === "SAME" ? "=" : "?") : one.guess === null ? "?" : one.guess.toFixed(one.guess < 9.95 ? 2 : 0);
  const label = `${one.layer}, ${ns.channels(one)}: ${ns.word(one.said)} ${ns.ratioWords(one)}`;
  return ns.el("td", {}, ns.el("a", { class: `cell ${one.evidence} ${one.evidence === "dispatch" ? one.code : tone}${worse ? " worse" : ""}${open ? " open" : ""}`, href: ns.caseLink(one), title: label }, (worse && one.evidence !== "dispatch" ? "▲" : "") + shown));
};
