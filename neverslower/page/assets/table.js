"use strict";
// The table of cases: sorted by any column, and only the rows in sight are on the page.
ns.ROW = 34;
ns.SPARE = 8;
ns.PRINTED = 300;
ns.ratioCell = function (one) {
  if (!one.ratio) return "–";
  const whole = ns.interval(one.ratio), estimate = whole.split(" ")[0];
  return [estimate, ns.el("span", { class: "wideonly" }, whole.slice(estimate.length))];
};
ns.COLUMNS = [
  { name: "verdict", title: "Verdict", value: (one) => ns.CODES.indexOf(one.said), cell: (one) => ns.chip(one.said) },
  { name: "ratio", title: "Ratio", number: true, falls: true, value: (one) => -(one.estimate ?? -1), cell: (one) => ns.ratioCell(one) },
  { name: "change", title: "Change", falls: true, value: (one) => (one.since ? -(one.since.ratio || [0])[0] : 9), cell: (one) => (one.since ? ns.el("span", {}, ns.chip(one.since.code), one.since.ratio ? ` ${ns.times(one.since.ratio[0])}` : "") : "–"), only: (one) => one.since },
  { name: "layer", title: "Layer", value: (one) => one.layer, cell: (one) => ns.el("a", { href: ns.link({ case: one.key }), class: "row" }, one.layer) },
  { name: "channels", title: "Channels", number: true, value: (one) => one.channels, cell: (one) => ns.count(one) },
  { name: "format", title: "Format", value: (one) => one.format, cell: (one) => one.format, wide: true },
  { name: "cause", title: "Cause", value: (one) => one.why || "~", cell: (one) => one.why || "–", wide: true },
  { name: "amount", title: "Pruned takes", number: true, value: (one) => one.amount ?? Infinity, cell: (one) => (one.evidence === "dispatch" ? "–" : ns.amount(one.amount, one.evidence)), wide: true },
  { name: "plan", title: "Plan", value: (one) => ns.planName(ns.data, one.plan), cell: (one) => ns.planName(ns.data, one.plan) || "–", wide: true },
  { name: "finding", title: "Finding", value: (one) => one.finding || "~", cell: (one) => one.findings.join("; ") || "–", wide: true, only: (one) => one.finding },
  { name: "record", title: "Record", value: (one) => one.source, cell: (one) => ns.data.sources[one.source].title, wide: true, several: true },
];

ns.makeTable = function () {
  const columns = ns.COLUMNS.filter((column) => !column.only || ns.data.cases.some(column.only)).filter((column) => !column.several || ns.data.sources.filter((source) => !source.secondary).length > 1);
  const head = columns.map((column) => ns.el("th", { scope: "col", class: [column.wide ? "wideonly" : "", column.number ? "number" : ""].join(" "), "data-column": column.name }, ns.el("button", { type: "button", onclick: () => ns.sortBy(column.name) }, column.title)));
  const rows = ns.el("tbody", {});
  const table = ns.el("table", { class: "cases" }, ns.el("caption", { class: "hidden" }, "Cases, sorted by the chosen column"), ns.el("thead", {}, ns.el("tr", {}, head)), rows);
  const scroller = ns.el("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": "Table of cases: arrow keys move, Enter opens a case" }, table);
  scroller.addEventListener("scroll", () => requestAnimationFrame(ns.drawRows), { passive: true });
  scroller.addEventListener("keydown", ns.moveInTable);
  document.querySelector("#cases .body").replaceChildren(ns.el("p", { class: "note", id: "printed" }), scroller);
  ns.table = { columns, scroller, rows, table, cases: [], all: false };
};

ns.sortBy = function (name) {
  const [now, order] = (ns.state.sort || "verdict").split("-");
  ns.ask({ sort: now === name && order !== "down" ? `${name}-down` : name });
};

ns.drawTable = function (cases) {
  const [name, order] = (ns.state.sort || "verdict").split("-");
  const column = ns.COLUMNS.find((one) => one.name === name) || ns.COLUMNS[0];
  const keyed = cases.map((one) => [column.value(one), one]);
  const compare = typeof (keyed[0] || [0])[0] === "string" ? (a, b) => ns.natural(a[0], b[0]) : (a, b) => a[0] - b[0];
  const flip = order === "down" ? -1 : 1;
  keyed.sort((a, b) => flip * compare(a, b) || (b[1].estimate || 0) - (a[1].estimate || 0) || a[1].number - b[1].number);
  ns.table.cases = keyed.map((pair) => pair[1]);
  for (const head of ns.table.table.querySelectorAll("th[data-column]")) {
    head.setAttribute("aria-sort", head.dataset.column !== column.name ? "none" : (order === "down") !== Boolean(column.falls) ? "descending" : "ascending");
  }
  ns.table.table.setAttribute("aria-rowcount", cases.length + 1);
  document.getElementById("shown").textContent = `${cases.length.toLocaleString("en")} of ${ns.many(ns.tested, "case")}`;
  ns.table.scroller.scrollTop = 0;
  ns.drawRows();
};

// Put the rows in sight on the page, between two empty ones as high as all the others.
ns.drawRows = function () {
  const { scroller, rows, cases, columns, all } = ns.table;
  const seen = Math.ceil(Math.max(scroller.clientHeight, 560) / ns.ROW);
  const first = all ? 0 : Math.max(0, Math.floor(scroller.scrollTop / ns.ROW) - ns.SPARE);
  const last = all ? Math.min(cases.length, ns.PRINTED) : Math.min(cases.length, first + seen + 2 * ns.SPARE);
  const focused = document.activeElement && rows.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const spacer = (count) => {
    const cell = ns.el("td", { colspan: columns.length });
    cell.style.height = `${count * ns.ROW}px`;
    return ns.el("tr", { class: "spacer", "aria-hidden": "true" }, cell);
  };
  const made = cases.slice(first, last).map((one, place) => {
    const cells = columns.map((column) => ns.el("td", { class: [column.wide ? "wideonly" : "", column.number ? "number" : "", column.name].join(" ") }, column.cell(one)));
    const row = ns.el("tr", { "aria-rowindex": first + place + 2, class: ns.WORSE.has(one.code) ? "is-worse" : "" }, cells);
    const link = row.querySelector("a.row");
    link.dataset.key = one.key;
    link.dataset.place = first + place;
    return row;
  });
  rows.replaceChildren(...(all || !first ? [] : [spacer(first)]), ...made, ...(all || last >= cases.length ? [] : [spacer(cases.length - last)]));
  document.getElementById("printed").textContent = all && cases.length > ns.PRINTED ? `The first ${ns.PRINTED} of ${cases.length} cases; the page on a screen has them all.` : "";
  if (focused) {
    const again = [...rows.querySelectorAll("a.row")].find((link) => link.dataset.key === focused);
    if (again) again.focus({ preventScroll: true });
  }
};

ns.moveInTable = function (event) {
  const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };
  if (!(event.key in moves) || !ns.table.cases.length) return;
  event.preventDefault();
  const { scroller, rows, cases } = ns.table;
  const now = rows.contains(document.activeElement) ? Number(document.activeElement.dataset.place) : -1;
  const next = Math.min(cases.length - 1, Math.max(0, now + moves[event.key]));
  const top = next * ns.ROW;
  if (top < scroller.scrollTop || top > scroller.scrollTop + scroller.clientHeight - 3 * ns.ROW) scroller.scrollTop = Math.max(0, top - scroller.clientHeight / 2);
  ns.drawRows();
  const link = rows.querySelector(`a.row[data-place="${next}"]`);
  if (link) link.focus({ preventScroll: true });
};
