"use strict";
// One case: verdict, samples by process against both thresholds, both plans, cause, remedy, reproduction.
ns.showCase = function () {
  const dialog = document.getElementById("case");
  const one = ns.state.case ? ns.byKey.get(ns.state.case) : null;
  if (ns.strip) ns.strip.destroy();
  ns.strip = null;
  if (!one) {
    if (dialog.open) dialog.close();
    return;
  }
  const source = ns.data.sources[one.source];
  const strip = ns.el("div", { class: "chart" });
  const close = ns.el("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => ns.ask({ case: null }) }, "×");
  const title = ns.el("h2", { id: "case-title" }, one.layer, ns.el("small", {}, ` ${ns.channels(one)}`));
  dialog.replaceChildren(
    ...[
      close,
      title,
      ns.el("p", {}, ns.chip(one.said), ns.el("strong", {}, ` ${ns.ratioWords(one)}`), one.text ? ` ${one.text}` : ""),
      ns.el("p", { class: "note" }, `${source.title}, ${one.format}. ${one.findings.length ? `${one.findings.join("; ")}. ` : ""}${one.marked ? `Measured after the device's state changed: ${one.marked}. ` : ""}`, one.noise_floor === undefined ? "" : `Noise floor ${ns.percent(one.noise_floor)}, smallest slowdown that could be proved ${ns.percent(one.mde)}.`),
      ns.since(one),
      one.samples ? ns.el("h3", {}, "Samples by process") : null,
      one.samples ? strip : null,
      one.samples ? ns.samplesTable(one) : null,
      ns.el("h3", {}, "Both plans"),
      ns.el("div", { class: "sides" }, ns.side(ns.before(one), one.whole, one.reference_plan, one.reference_amount, one, one.plan), ns.side(ns.after(one), one.channels, one.plan, one.amount, one, one.reference_plan)),
      ...ns.causeLines(one),
      ns.el("h3", {}, "Again"),
      one.again ? ns.copyable("measure it again", one.again) : ns.el("p", { class: "note" }, "No option leads to this case alone: run the same command again."),
      one.alone ? ns.copyable("a script without never-slower", one.alone) : null,
      ns.el("p", { class: "note" }, `${ns.before(one)} `, ns.el("code", {}, one.unpruned), `, ${ns.after(one)} `, ns.el("code", {}, one.problem)),
    ].filter(Boolean),
  );
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  if (one.samples) ns.strip = ns.stripChart(one, strip);
};

ns.since = function (one) {
  if (!one.since) return null;
  const then = ns.data.sources[ns.data.sources[one.source].compared];
  const was = one.since.was ? `; pruned over unpruned was ${ns.word(one.since.was)} ${ns.interval(one.since.was_ratio)}` : "";
  return ns.el("p", {}, `Against ${then ? then.title : "before"}: `, ns.chip(one.since.code), ns.el("strong", {}, ` ${ns.interval(one.since.ratio)}`), ` ${one.since.text}${was}`, one.since.what ? `. ${one.since.what}` : "");
};

// A column for each process, its blocks' ratios from least to greatest, and the verdict's interval at the end.
ns.stripChart = function (one, holder) {
  const samples = one.samples.filter((sample) => sample.ratio);
  const inside = (value) => value > 1 / ns.UNPROVED && value < ns.UNPROVED;
  const bounds = (one.ratio || []).filter(inside);
  const all = [...samples.flatMap((sample) => sample.ratio), ...bounds, 1, ns.TARGET];
  const low = Math.min(...all), high = Math.max(...all), pad = (high - low) * 0.06;
  const names = [...samples.map((sample) => `process ${sample.process}`), "interval"];
  const labels = samples.length > 8 ? names.map((name, place) => (place === samples.length ? name : String(samples[place].process))) : names.map((name) => name.replace("process ", "p"));
  const size = () => ({ width: Math.max(260, holder.clientWidth), height: 220 });
  const xs = names.map((_, place) => place);
  const chart = new uPlot(
    {
      ...size(),
      legend: { show: false },
      cursor: { show: false },
      scales: { x: { time: false, range: () => [-0.6, names.length - 0.4] }, y: { range: () => [low - pad, high + pad] } },
      axes: [ns.axis(undefined, { splits: () => xs, values: () => labels, grid: { show: false } }), ns.axis(`${ns.after(one)} / ${ns.before(one)}`, { size: 56 })],
      series: [{}, { show: true, stroke: "transparent", points: { show: false } }],
      hooks: { draw: [(plot) => ns.drawStrip(plot, one, samples)] },
    },
    [xs, xs.map(() => 1)],
    holder,
  );
  holder.setAttribute("role", "img");
  holder.setAttribute("aria-label", `Ratios of ${samples.length} processes: ${samples.map((sample) => sample.ratio[2].toFixed(3)).join(", ")}; interval ${ns.interval(one.ratio)}; thresholds ${ns.TOLERANCE} and ${ns.TARGET}`);
  chart.fit = () => chart.setSize(size());
  return chart;
};

ns.drawStrip = function (plot, one, samples) {
  const pen = plot.ctx, ratio = devicePixelRatio;
  const x = (place) => plot.valToPos(place, "x", true), y = (value) => Math.min(plot.bbox.top + plot.bbox.height, Math.max(plot.bbox.top, plot.valToPos(value, "y", true)));
  const stroke = (x0, y0, x1, y1, colour, width, dash) => {
    pen.strokeStyle = ns.colour(colour);
    pen.lineWidth = width * ratio;
    pen.setLineDash((dash || []).map((part) => part * ratio));
    pen.beginPath();
    pen.moveTo(x0, y0);
    pen.lineTo(x1, y1);
    pen.stroke();
  };
  pen.save();
  const left = plot.bbox.left, right = left + plot.bbox.width;
  pen.font = `${11 * ratio}px system-ui, sans-serif`;
  for (const [value, colour, dash] of [[1, "--line", []], [ns.TOLERANCE, "--tolerance", [2, 3]], [ns.TARGET, "--target", [6, 4]]]) stroke(left, y(value), right, y(value), colour, 1.2, dash);
  pen.fillStyle = ns.colour("--text");
  pen.textAlign = "left";
  pen.textBaseline = "alphabetic";
  pen.fillText(`from ${ns.TARGET}× on it must be found`, left + 6 * ratio, y(ns.TARGET) - 4 * ratio);
  const half = Math.min(14 * ratio, (x(1) - x(0)) * 0.3);
  samples.forEach((sample, place) => {
    const [least, lower, middle, upper, most] = sample.ratio;
    stroke(x(place), y(least), x(place), y(most), "--ok", 1);
    pen.fillStyle = ns.colour("--box");
    pen.fillRect(x(place) - half, y(upper), 2 * half, Math.max(ratio, y(lower) - y(upper)));
    stroke(x(place) - half, y(middle), x(place) + half, y(middle), "--ok", 2);
  });
  if (one.ratio) {
    const [estimate, low, high] = one.ratio, at = x(samples.length), colour = ns.WORSE.has(one.code) ? "--kernel" : "--text";
    stroke(at, y(low), at, y(high), colour, 3);
    stroke(at - half, y(estimate), at + half, y(estimate), colour, 3);
  }
  pen.restore();
};

ns.samplesTable = function (one) {
  const rows = one.samples.map((sample) => ns.el("tr", {}, ns.el("th", { scope: "row" }, `process ${sample.process}`), ns.el("td", {}, String(sample.blocks)), ns.el("td", {}, sample.reference ? ns.seconds(sample.reference[2]) : "–"), ns.el("td", {}, sample.candidate ? ns.seconds(sample.candidate[2]) : "–"), ns.el("td", {}, sample.ratio ? ns.times(sample.ratio[2]) : "–"), ns.el("td", {}, String(sample.discarded || 0))));
  return ns.el("details", { class: "data" }, ns.el("summary", {}, "The same as a table"), ns.el("div", { class: "wide" }, ns.el("table", {}, ns.el("thead", {}, ns.el("tr", {}, ["process", "blocks", ns.before(one), ns.after(one), "ratio", "dropped"].map((name) => ns.el("th", { scope: "col" }, name)))), ns.el("tbody", {}, rows))));
};

// A side's plan with its steps; those that the other side does not run stand out.
ns.side = function (what, count, number, amount, one, other) {
  const plan = number === undefined ? null : ns.data.plans[number];
  const theirs = new Set(other === undefined ? [] : (ns.data.plans[other].steps || []).map(ns.kernel));
  const heading = ns.el("h4", {}, `${what}, ${count} channels`, one.evidence === "dispatch" ? "" : `: ${ns.amount(amount, one.evidence)}`);
  if (!plan) return ns.el("div", {}, heading, ns.el("p", { class: "note" }, "The record does not hold this plan."));
  const known = [plan.rank === undefined ? "" : `rank ${plan.rank} of ${plan.offered}`, plan.workspace ? `workspace ${(plan.workspace / 1024).toFixed(0)} KiB` : ""].filter(Boolean).join(", ");
  const steps = (plan.steps || []).map((step, place) => {
    const share = (plan.shares || [])[place];
    const launch = step.slice(ns.kernel(step).length).trim();
    const bar = share === undefined ? null : ns.el("meter", { min: 0, max: 1, value: share, title: `${Math.round(100 * share)} % of the time` });
    return ns.el("li", { class: theirs.size && !theirs.has(ns.kernel(step)) ? "only" : "" }, ns.el("code", {}, ns.kernel(step)), launch ? ns.el("small", {}, ` ${launch}`) : "", bar, share === undefined ? "" : ns.el("small", {}, ` ${Math.round(100 * share)} %`));
  });
  return ns.el("div", {}, heading, ns.el("p", {}, ns.el("code", {}, plan.name), known ? ns.el("small", {}, ` ${known}`) : ""), steps.length ? ns.el("ol", { class: "steps-of" }, steps) : ns.el("p", { class: "note" }, "The library does not say what it launches."));
};

ns.causeLines = function (one) {
  if (!one.cause) return ns.WORSE.has(one.code) && one.evidence === "device_time" ? [ns.el("h3", {}, "Cause"), ns.el("p", { class: "note" }, "It was not looked for.")] : [];
  const evidence = (one.cause.evidence || []).map((line) => ns.el("li", {}, line));
  const remedy = one.cause.remedy ? ns.el("p", {}, ns.el("strong", {}, "Remedy: "), one.cause.remedy) : null;
  return [ns.el("h3", {}, `Cause: ${one.cause.cause}`), ns.el("ul", {}, evidence), remedy].filter(Boolean);
};
