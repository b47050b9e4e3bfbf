"use strict";
// What the page shows, unpacked; and how numbers, links and elements are made. Texts from outside become text nodes only.
const ns = {};

ns.unpack = async function () {
  const block = document.getElementById("data").textContent.trim();
  const bytes = Uint8Array.from(atob(block), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
};

// Make an element: el("td", {class: "x", onclick: f}, "text", child, …).
ns.el = function (tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
};

ns.WORSE = new Set(["SLOWER", "MORE", "CHANGED"]);
ns.FAILED = new Set(["INVALID", "CRASHED"]);
ns.OPEN = new Set(["UNDECIDED", "NO_BASELINE", "INCOMPARABLE"]);
ns.TOLERANCE = 1.01;
ns.TARGET = 1.03;
ns.UNPROVED = 1e5; // A bound beyond this proves nothing.
ns.EVIDENCE = { device_time: "time", instructions: "instructions", dispatch: "dispatch" };
ns.CODES = ["SLOWER", "MORE", "CHANGED", "UNCONFIRMED", "UNDECIDED", "LEFT_OUT", "NOT_JUDGED", "SAME", "FASTER", "FEWER", "UNSUPPORTED", "INVALID", "CRASHED", "INCOMPARABLE", "NO_BASELINE"];
// Why something undecided was never begun, and so left out.
ns.NEVER_BEGUN = new Set(["time_budget", "interrupted", "backend_unavailable"]);
ns.UNJUDGED = "not_judged"; // The reason of what was measured and not judged, as everything in a survey.
ns.counted = (one) => (one.proved ? "UNCONFIRMED" : one.reason === ns.UNJUDGED ? "NOT_JUDGED" : one.code === "UNDECIDED" && ns.NEVER_BEGUN.has(one.reason) ? "LEFT_OUT" : one.code);
ns.word = (code) => (code === "UNCONFIRMED" ? "slower, not confirmed" : code.replace(/_/g, " ").toLowerCase());

// What stands for cases without a decision, in a word; nothing where all are decided.
ns.openWords = (cases) => [...new Set(cases.filter((one) => ns.OPEN.has(one.code)).map((one) => (one.said === "NOT_JUDGED" ? ns.word(one.said) : "undecided")))].join(" or ");

// Give every case what the sections ask for again and again.
ns.prepare = function (data) {
  data.sources = data.sources || [];
  data.cases = data.cases || [];
  data.plans = data.plans || [];
  data.grids = data.grids || [];
  for (const one of data.grids) one.key = `${one.source}|${one.layer}`;
  const secondary = new Set(data.sources.map((source) => source.compared).filter((number) => number !== undefined));
  data.sources.forEach((source, number) => {
    source.number = number;
    source.secondary = secondary.has(number);
    source.title = `${source.backend} ${source.version} on ${source.device}`;
  });
  ns.tellApart(data.sources);
  const apart = ns.apart(data.cases);
  data.cases.forEach((one, number) => {
    const source = data.sources[one.source];
    one.number = number;
    one.said = ns.counted(one);  // As the first sentence counts it.
    one.backend = source.backend;
    one.evidence = source.evidence;
    one.itself = one.problem === one.unpruned;
    one.tested = !source.secondary && !one.itself;
    one.distance = one.whole - one.channels;
    one.format = [one.dtype, one.layout, ...one.problem.split(" ")[0].split("-").slice(3)].join(" ");
    one.group = `${one.source}|${one.format}|${one.side}`;
    one.rowName = apart.has(ns.layerKey(one)) ? `${one.layer}, ${ns.inputs(one.problem)} inputs` : one.layer;
    one.place = `${ns.layerKey(one)}|${one.rowName}`;
    one.stair = `${one.source}|${one.place}`;
    one.findings = [one.finding, ...(one.also || []).map((other) => other.finding)].filter(Boolean);
    one.why = one.cause ? one.cause.cause : "";
    one.change = one.since ? one.since.code : "";
    one.estimate = one.ratio ? one.ratio[0] : null;
    one.guess = one.estimate ?? (one.amount && one.reference_amount ? one.amount / one.reference_amount : null);
    one.key = `${one.source}/${one.unpruned}>${one.problem}`;
    one.text_ = [one.layer, one.id, one.why, ...one.findings, ns.planName(data, one.plan)].join(" ").toLowerCase();
  });
  ns.data = data;
  ns.byKey = new Map();
  for (const one of data.cases) {
    while (ns.byKey.has(one.key)) one.key += "'";  // Layers of a map may share a shape, and are measured apart.
    ns.byKey.set(one.key, one);
  }
  return data;
};

ns.layerKey = (one) => `${one.layer}|${one.unpruned}|${one.side}`;
// The layers whose outputs come with several numbers of inputs each: these need a row for each number of inputs.
ns.apart = function (cases) {
  const seen = new Map(), several = new Set();
  for (const one of cases) {
    const at = `${one.source}|${ns.layerKey(one)}|${one.channels}`;
    if (one.side === "together" && seen.has(at) && seen.get(at) !== one.problem) several.add(ns.layerKey(one));
    seen.set(at, one.problem);
  }
  return several;
};
ns.inputs = (problem) => (/ic(\d+)oc/.exec(problem) || [])[1];

// Sources of one title are told apart by their state, and by their file where that is the same too.
ns.tellApart = function (sources) {
  for (const words of [(source) => Object.entries(source.state || {}), (source) => [["file", source.name.split("/").pop()]]]) {
    const alike = new Map();
    for (const source of sources) (alike.get(source.title) || alike.set(source.title, []).get(source.title)).push(source);
    for (const group of alike.values()) {
      if (group.length < 2) continue;
      const all = group.map((source) => new Map(words(source)));
      const telling = [...new Set(all.flatMap((one) => [...one.keys()]))].filter((name) => new Set(all.map((one) => one.get(name))).size > 1);
      group.forEach((source, place) => {
        const said = telling.map((name) => all[place].get(name)).filter(Boolean).join(", ");
        if (said) source.title += `, ${said}`;
      });
    }
  }
};

// Only what was measured on one device in one state, as one kind of evidence, may share an axis.
ns.comparable = function (one, other) {
  const same = (name) => JSON.stringify(Object.entries(one[name] || {}).sort()) === JSON.stringify(Object.entries(other[name] || {}).sort());
  return one.evidence === other.evidence && one.backend === other.backend && one.device === other.device && same("hardware") && same("state");
};

ns.planName = (data, number) => (number === undefined ? "" : data.plans[number].name);

ns.seconds = function (value) {
  const [unit, scale] = [["s", 1], ["ms", 1e-3], ["µs", 1e-6]].find((one) => value >= one[1]) || ["ns", 1e-9];
  const scaled = value / scale;
  return `${scaled.toFixed(scaled < 10 ? 2 : scaled < 100 ? 1 : 0)} ${unit}`;
};
ns.amount = function (value, evidence) {
  if (value === null || value === undefined) return "–";
  return evidence === "device_time" ? ns.seconds(value) : `${Math.round(value).toLocaleString("en")} instructions`;
};
ns.times = (value) => `${value.toFixed(value < 9.995 ? 3 : 1)}×`;
ns.interval = function (ratio) {
  if (!ratio) return "";
  const [estimate, low, high] = ratio;
  if (low === high) return ns.times(estimate);
  const below = low > 1 / ns.UNPROVED, above = high < ns.UNPROVED;
  const bounds = below && above ? ` [${low.toFixed(3)}, ${high.toFixed(3)}]` : below ? ` [≥ ${low.toFixed(3)}]` : above ? ` [≤ ${high.toFixed(3)}]` : "";
  return ns.times(estimate) + bounds;
};
// Where a verdict has no ratio, that of both amounts; it has no interval, and so proves nothing.
ns.ratioWords = (one) => (one.ratio || one.guess === null || one.evidence === "dispatch" ? ns.interval(one.ratio) : `about ${ns.times(one.guess)}, without an interval`);
ns.many = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
ns.percent = (value) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(value < 0.001 ? 2 : 1)} %`);
ns.padded = (one) => one.channels > one.whole || (one.side === "together" && Number(ns.inputs(one.problem)) > Number(ns.inputs(one.unpruned)));
ns.before = (one) => (ns.padded(one) ? "not padded" : "unpruned");
ns.after = (one) => (ns.padded(one) ? "padded" : "pruned");
ns.count = (one) => `${one.channels} ${ns.padded(one) ? "padded from" : "of"} ${one.whole}`;
ns.channels = function (one) {
  if (one.side === "out") return `${ns.count(one)} channels`;
  if (one.side === "in") return `${ns.count(one)} input channels`;
  return `${ns.count(one)} output and ${ns.inputs(one.problem)} ${ns.padded(one) ? "padded from" : "of"} ${ns.inputs(one.unpruned)} input channels`;
};
ns.median = function (values) {
  const sorted = values.filter((value) => value !== null && value !== undefined).sort((a, b) => a - b);
  return sorted.length ? sorted[Math.floor(sorted.length / 2)] : null;
};
// Sort names so that L2 comes before L10.
ns.natural = new Intl.Collator("en", { numeric: true }).compare;
ns.chip = (code) => ns.el("span", { class: `chip ${code}` }, ns.word(code));
// A kernel's name without its launch.
ns.kernel = (step) => step.replace(/ (grid|block)=\S+/g, "");
ns.colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

ns.copyable = function (label, text) {
  const code = ns.el("code", { tabindex: "0" }, text);
  const said = ns.el("span", { class: "said", role: "status" });
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      said.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(code);
      said.textContent = "selected: copy it with the keyboard";
    }
  };
  return ns.el("div", { class: "copyable" }, ns.el("span", {}, label), code, ns.el("button", { type: "button", onclick: copy }, "Copy"), said);
};
