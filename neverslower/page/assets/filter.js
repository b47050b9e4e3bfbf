"use strict";
// The filter: what it asks for lies in the address, so that a link shows what its sender saw.
ns.FIELDS = ["q", "source", "backend", "layer", "verdict", "cause", "dtype", "change", "finding"];
ns.state = {};

ns.fromAddress = function () {
  const given = new URLSearchParams(location.hash.slice(1));
  ns.state = Object.fromEntries([...given].filter(([name]) => [...ns.FIELDS, "case", "stair", "grid", "sort"].includes(name)));
};

// Change a part of what the address asks for; null leaves it out.
ns.ask = function (changes, push) {
  const next = { ...ns.state, ...changes };
  const words = new URLSearchParams(Object.entries(next).filter(([, value]) => value !== null && value !== "" && value !== undefined));
  const hash = words.toString() ? `#${words}` : location.pathname + location.search;
  history[push ? "pushState" : "replaceState"](null, "", hash);
  const before = ns.state;
  ns.fromAddress();
  ns.changed(before);
};

ns.link = (changes) => `#${new URLSearchParams(Object.entries({ ...ns.state, ...changes }).filter(([, value]) => value !== null && value !== ""))}`;

// The links to many cases: what the address asks for besides is written once.
ns.caseLinks = function () {
  const rest = ns.link({ case: null }).slice(1);
  return (one) => `#${rest ? `${rest}&` : ""}case=${encodeURIComponent(one.key)}`;
};

// What a case has in a field of the filter, as the address writes it.
ns.fieldOf = function (name, one) {
  const held = { source: String(one.source), backend: one.backend, layer: one.layer, verdict: one.said, cause: one.why, change: one.change, dtype: one.dtype };
  return name === "finding" ? one.findings : [held[name]];
};

ns.matches = function (one) {
  const asked = ns.state;
  return (
    one.tested &&
    (!asked.source || String(one.source) === asked.source) &&
    (!asked.backend || one.backend === asked.backend) &&
    (!asked.layer || one.layer === asked.layer) &&
    (!asked.verdict || one.said === asked.verdict) &&
    (!asked.cause || one.why === asked.cause) &&
    (!asked.change || one.change === asked.change) &&
    (!asked.finding || one.findings.includes(asked.finding)) &&
    (!asked.dtype || one.dtype === asked.dtype) &&
    (!asked.q || one.text_.includes(asked.q.toLowerCase()))
  );
};

ns.drawFilter = function () {
  const form = document.getElementById("filter");
  const tested = ns.data.cases.filter((one) => one.tested);
  const distinct = (pick) => [...new Set(tested.flatMap(pick))].filter((value) => value !== "").sort(ns.natural);
  const choice = (name, label, values, shown) => {
    if (values.length < 2 && !ns.state[name]) return null;
    const options = values.map((value) => ns.el("option", { value }, shown ? shown(value) : value));
    return ns.el("label", {}, ns.el("span", {}, label), ns.el("select", { name }, ns.el("option", { value: "" }, "all"), options));
  };
  const search = ns.el("label", {}, ns.el("span", {}, "Search"), ns.el("input", { name: "q", type: "search", placeholder: "layer, plan, cause" }));
  const sources = distinct((one) => String(one.source));
  form.replaceChildren(
    ...[
      search,
      sources.length > 1 ? choice("source", "Record", sources, (value) => ns.data.sources[value].title) : null,
      choice("backend", "Backend", distinct((one) => one.backend)),
      choice("layer", "Layer", distinct((one) => one.layer)),
      choice("verdict", "Verdict", distinct((one) => one.said), ns.word),
      choice("cause", "Cause", distinct((one) => one.why)),
      choice("change", "Change", distinct((one) => one.change), ns.word),
      choice("finding", "Finding", distinct((one) => one.findings)),
      choice("dtype", "Dtype", distinct((one) => one.dtype)),
      ns.el("button", { type: "reset" }, "Clear"),
      ns.el("output", { id: "shown", "aria-live": "polite" }),
    ].filter(Boolean),
  );
  form.addEventListener("input", (event) => ns.ask({ [event.target.name]: event.target.value }));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    ns.ask(Object.fromEntries([...ns.FIELDS, "stair", "grid"].map((name) => [name, null])));
    ns.showFilter();
  });
  ns.showFilter();
};

// Put what the address asks for into the fields.
ns.showFilter = function () {
  for (const field of document.querySelectorAll("#filter [name]")) field.value = ns.state[field.name] || "";
};
