"use strict";
// Bring the page to life: unpack, draw, and follow the address.
// Name what a link asks for and this page does not have; hide the notice where there is no such thing.
ns.sayMissing = function () {
  const { case: asked, stair, grid } = ns.state;
  const known = (name) => !ns.state[name] || ns.data.cases.some((one) => one.tested && ns.fieldOf(name, one).includes(ns.state[name]));
  const missing = [
    asked && !ns.byKey.has(asked) ? `no case ${asked}` : "",
    stair && !ns.data.cases.some((one) => one.stair === stair) ? `no staircase of ${stair.split("|").slice(1, 2)}` : "",
    grid && !ns.data.grids.some((one) => one.key === grid) ? `no grid of ${grid.split("|").slice(1)}` : "",
    ...ns.FIELDS.filter((name) => name !== "q" && !known(name)).map((name) => `no ${name} ${ns.state[name]}`),
  ].filter(Boolean);
  const notice = document.getElementById("missing");
  notice.hidden = !missing.length;
  notice.textContent = missing.length ? `The link asks for what this page does not have: ${missing.join("; ")}.` : "";
};

ns.shownCases = () => ns.data.cases.filter(ns.matches);

// Draw again what depends on what changed in the address.
ns.changed = function (before) {
  const differs = (names) => names.some((name) => ns.state[name] !== before[name]);
  ns.sayMissing();
  const cases = ns.shownCases();
  if (differs([...ns.FIELDS, "sort"])) ns.drawTable(cases);
  if (differs(ns.FIELDS)) {
    cancelAnimationFrame(ns.later);
    ns.later = requestAnimationFrame(() => ns.drawHeat(cases));
  }
  if (differs(["stair", ...ns.FIELDS])) {
    ns.drawStairs(cases);
    ns.drawHistory(cases);
  }
  if (differs(["grid"])) ns.drawGrids();
  if (differs(["case"])) ns.showCase();
};

// Without a case there is nothing to draw: say so, and leave the empty sections out.
ns.hideEmpty = function () {
  document.getElementById("filter").hidden = true;
  for (const name of ["heat", "stairs", "cases", "history"]) {
    document.getElementById(name).hidden = true;
    document.querySelector(`nav a[href="#${name}"]`).hidden = true;
  }
};

ns.drawAll = function () {
  ns.drawGrids();
  if (!ns.tested) {
    ns.hideEmpty();
    return ns.drawDevice();
  }
  const cases = ns.shownCases();
  ns.drawHeat(cases);
  ns.drawTable(cases);
  ns.drawStairs(cases, true);
  ns.drawHistory(cases);
  ns.drawDevice();
  ns.showCase();
};

ns.follow = function () {
  const before = ns.state;
  ns.fromAddress();
  ns.showFilter();
  ns.changed(before);
  if (ns.state.stair !== before.stair && ns.state.stair) document.getElementById("stairs").scrollIntoView();
};

ns.charts = () => [ns.chart, ns.strip].filter(Boolean);

ns.listen = function () {
  addEventListener("hashchange", ns.follow);
  addEventListener("resize", () => ns.charts().forEach((chart) => chart.fit()));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", ns.drawAll);
  addEventListener("beforeprint", () => ns.print(true));
  addEventListener("afterprint", () => ns.print(false));
  const dialog = document.getElementById("case");
  dialog.addEventListener("close", () => ns.state.case && ns.ask({ case: null }));
  let began = false;  // A selection that begins inside and ends outside is no click on what lies behind.
  const outside = (event) => {
    const box = dialog.getBoundingClientRect();
    return event.clientX < box.left || event.clientX > box.right || event.clientY < box.top || event.clientY > box.bottom;
  };
  dialog.addEventListener("mousedown", (event) => (began = event.target === dialog && outside(event)));
  dialog.addEventListener("click", (event) => began && event.target === dialog && outside(event) && dialog.close());
  for (const link of document.querySelectorAll("nav a, .skip")) {
    link.addEventListener("click", (event) => {  // Not by the address, which holds the filter.
      event.preventDefault();
      const target = document.querySelector(link.getAttribute("href"));
      target.scrollIntoView();
      target.setAttribute("tabindex", "-1");
      target.focus({ preventScroll: true });
    });
  }
};

// Show for paper what a screen leaves out, and back again.
ns.print = function (begins) {
  ns.table.all = begins;
  document.documentElement.toggleAttribute("data-print", begins);  // On paper everything is light, the charts too.
  ns.charts().forEach((chart) => chart.redraw());
  for (const icon of document.querySelectorAll("canvas.shape")) icon.redraw();
  ns.drawLooks();
  ns.drawRows();
  for (const details of document.querySelectorAll("details:not(.data)")) details.open = begins;
};

(async function () {
  try {
    ns.prepare(await ns.unpack());
    ns.tested = ns.data.cases.filter((one) => one.tested).length;
    ns.fromAddress();
    ns.drawFilter();
    ns.makeTable();
    ns.drawAll();
    ns.sayMissing();
    ns.listen();
    document.documentElement.dataset.ready = "yes";
  } catch (error) {
    const trouble = document.getElementById("trouble");
    trouble.textContent = `The tables can't be shown: ${error}. A browser of 2023 or newer is needed.`;
    trouble.hidden = false;
    console.error(error);
  }
})();
