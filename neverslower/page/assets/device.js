"use strict";
// The devices, what became of them over the run, and the history of a layer over stored versions.
ns.drawDevice = function () {
  document.querySelector("#device .body").replaceChildren(...ns.data.sources.map(ns.deviceCard));
  ns.drawLooks();
};

ns.deviceCard = function (source) {
  const mine = ns.data.cases.filter((one) => one.source === source.number);
  const spread = (name) => {
    const values = mine.map((one) => one[name]).filter((value) => value !== undefined);
    return values.length ? `median ${ns.percent(ns.median(values))}, most ${ns.percent(Math.max(...values))}` : null;
  };
  const facts = [
    ["record", `${source.name} (${source.kind})`],
    ["evidence", ns.EVIDENCE[source.evidence]],
    ["build", source.build],
    ["clock", source.clock ? `${source.clock}, cache ${source.cache}` : source.cache],
    ["processes", source.processes || null],
    ["blocks dropped", source.processes && !["map", "grid"].includes(source.kind) ? String(source.discarded) : null],
    ["measuring took", source.seconds ? `${Math.floor(source.seconds / 60)} min ${Math.round(source.seconds % 60)} s` : null],
    ["noise floor", spread("noise_floor")],
    ["smallest slowdown that could be proved", spread("mde")],
  ];
  const held = source.calibration;
  const calibration = held ? [["calibrated", `${held.date.slice(0, 10)}, preset ${held.preset}`], ["noise floor", ns.percent(held.noise_floor)], [`smallest slowdown that ${held.blocks} blocks prove half of the time`, held.mde === undefined ? "none" : ns.percent(held.mde)], ["false SLOWER, before confirmation", `${held.slower} of ${held.comparisons}, so at most ${ns.percent(held.slower_bound)} with 95 % confidence`]] : [];
  const list = (title, pairs) => (pairs.length ? ns.el("div", { class: title.toLowerCase() }, ns.el("h4", {}, title), ns.el("dl", {}, pairs.flatMap(([name, value]) => [ns.el("dt", {}, name), ns.el("dd", {}, String(value))]))) : null);
  const against = (source.settings || {}).against;
  const role = source.before ? ` (the other library${against ? `, ${against}` : ""})` : source.secondary ? " (compared with)" : "";
  return ns.el(
    "article",
    { class: `device ${source.evidence}` },
    ns.el("h3", {}, source.title, role),
    ns.el("div", { class: "lists" }, list("Measured", facts.filter(([, value]) => value)), list("Calibration", calibration), list("Hardware", Object.entries(source.hardware || {})), list("State", Object.entries(source.state || {})), list("Software", Object.entries(source.software || {}))),
    source.differs ? ns.el("p", {}, ns.el("strong", {}, "Differs from what it is compared with: "), source.differs.join("; ")) : null,
    source.remarks ? ns.el("ul", {}, source.remarks.map((remark) => ns.el("li", {}, remark))) : null,
    ns.el("div", { class: "looks", "data-source": source.number }),
  );
};

// Readings over the run: each its own small chart with its own axis, and all of them as a table.
ns.drawLooks = function () {
  for (const chart of ns.looks || []) chart.destroy();
  ns.looks = [];
  for (const holder of document.querySelectorAll(".looks")) {
    const looks = ns.data.sources[holder.dataset.source].looks || [];
    const names = [...new Set(looks.flatMap((look) => Object.keys(look.readings || {})))];
    const troubles = [...new Set(looks.flatMap((look) => look.unsound || []))];
    holder.replaceChildren(...troubles.map((trouble) => ns.el("p", { class: "notice" }, trouble)));
    if (!names.length) continue;
    const charts = ns.el("div", { class: "small-charts" });
    holder.append(ns.el("h4", {}, `Looked at ${ns.many(looks.length, "time")}`), charts, ns.looksTable(looks, names));
    if (looks.length > 2) for (const name of names) ns.looks.push(ns.lookChart(looks, name, charts));
  }
};

ns.lookChart = function (looks, name, charts) {
  const holder = ns.el("figure", {}, ns.el("figcaption", {}, `${name}, over seconds`));
  charts.append(holder);
  const begin = looks[0].time, values = looks.map((look) => (look.readings || {})[name] ?? null);
  const known = values.filter((value) => value !== null), most = Math.max(...known), least = Math.min(...known);
  const pad = (most - least) * 0.1 || Math.abs(most) * 0.1 || 1;
  holder.setAttribute("role", "img");
  holder.setAttribute("aria-label", `${name} over the run: from ${least} to ${most}`);
  const options = { width: 250, height: 130, legend: { show: false }, cursor: { show: false }, scales: { x: { time: false }, y: { range: () => [least - pad, most + pad] } }, axes: [ns.axis(undefined, { space: 60, size: 26 }), ns.axis(undefined, { size: 52, space: 22 })], series: [{}, { stroke: ns.colour("--ok"), width: 1.5, points: { size: 5 } }] };
  return new uPlot(options, [looks.map((look) => look.time - begin), values], holder);
};

ns.looksTable = function (looks, names) {
  const begin = looks[0].time;
  const rows = looks.map((look) => ns.el("tr", {}, ns.el("th", { scope: "row" }, `${Math.round(look.time - begin)} s, ${look.when}`), names.map((name) => ns.el("td", {}, (look.readings || {})[name] === undefined ? "–" : String(look.readings[name])))));
  return ns.el("details", { class: "data" }, ns.el("summary", {}, "The same as a table"), ns.el("div", { class: "wide" }, ns.el("table", {}, ns.el("thead", {}, ns.el("tr", {}, ns.el("th", { scope: "col" }, "when"), names.map((name) => ns.el("th", { scope: "col" }, name)))), ns.el("tbody", {}, rows))));
};

// Versions that share device and evidence next to each other, for the layer that the staircase shows.
ns.drawHistory = function (cases) {
  const section = document.getElementById("history"), body = section.querySelector(".body");
  const key = ns.chosenStair(cases);
  const stair = key && ns.stairOf(key);
  const none = !stair || stair.layers.length < 2;
  section.hidden = none;
  document.querySelector('nav a[href="#history"]').hidden = none;
  if (none) return body.replaceChildren();
  const older = (layer) => (ns.data.sources[layer.number].secondary ? 0 : 1);
  const versions = [...stair.layers].sort((a, b) => older(a) - older(b) || a.number - b.number);
  const counts = [...new Set(versions.flatMap((layer) => [...layer.points.keys()]))].sort((a, b) => b - a);
  const cell = (layer, count) => {
    const made = layer.points.get(count);
    if (!made) return ns.el("td", {}, "–");
    return ns.el("td", { class: ns.WORSE.has(made.one.code) ? "is-worse" : "" }, ns.el("a", { href: ns.link({ case: made.one.key }) }, `${ns.amount(made.cost, stair.source.evidence)}, ${made.one.estimate === null ? ns.word(made.one.said) : ns.times(made.one.estimate)}`));
  };
  const whole = ns.el("tr", {}, ns.el("th", { scope: "row" }, `${versions[0].count} (unpruned)`), versions.map((layer) => ns.el("td", {}, ns.amount(layer.whole, stair.source.evidence))));
  const rows = counts.slice(0, 200).map((count) => ns.el("tr", {}, ns.el("th", { scope: "row" }, String(count)), versions.map((layer) => cell(layer, count))));
  const head = ns.el("tr", {}, ns.el("th", { scope: "col" }, "channels"), versions.map((layer) => ns.el("th", { scope: "col" }, ns.data.sources[layer.number].title)));
  return body.replaceChildren(ns.el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "History of the layer" }, ns.el("table", { class: "history" }, ns.el("caption", {}, ns.el("strong", {}, stair.first.layer), " what each version takes, and its ratio to unpruned"), ns.el("thead", {}, head), ns.el("tbody", {}, whole, rows))));
};
