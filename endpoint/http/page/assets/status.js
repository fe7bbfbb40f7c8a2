// The status page: asks the server for its state every ten seconds, and shows it. Names of accounts and lines of the log come from
// strangers: they become text, and nothing else.

import { $, bits, bytes, cell, clock, count, duration, element, figure, follow, offerCluster, percent, perMinute, plural, row, say } from "./show.js";

function showSessions({ sessions, sessionCount, now }) {
  $("sessions").replaceChildren(
    ...sessions.map((s) =>
      row(
        s.account || "unknown",
        cell("Client", `${s.client} over ${s.transport}`),
        cell("Relayed address", s.relayed),
        figure("Age", duration(now - s.made)),
        figure("Peers", count(s.peers)),
        figure("Sent", bytes(s.toPeer)),
        figure("Received", bytes(s.toClient)),
        figure("Dropped", percent(s.packets + s.dropped ? (100 * s.dropped) / (s.packets + s.dropped) : 0)),
      ),
    ),
  );
  $("sessions-note").textContent =
    sessionCount === 0
      ? "There are no calls."
      : sessions.length < sessionCount
        ? `The ${sessions.length} of ${count(sessionCount)} relayed addresses that have relayed the most. mailturn ctl sessions lists all.`
        : `${plural(sessionCount, "relayed address", "relayed addresses")}, those that have relayed the most first. A call has one or two.`;
}

const soon = 14 * 86400; // seconds: most certificates are renewed 30 days before their end

function showCertificates({ certificates, now }) {
  $("certificates").replaceChildren(
    ...certificates.map((c) => {
      const left = c.ends - now;
      const state = c.ends === 0 || left <= 0 ? "bad" : left < soon ? "fair" : "good";
      const text = c.ends === 0 ? "Not obtained yet" : left <= 0 ? "Expired" : `In ${duration(left)}`;
      const date = c.ends === 0 ? "" : `, ${new Date(c.ends * 1000).toLocaleDateString()}`;
      const expires = cell("Expires", "");
      const words = element("span", "");
      words.append(element("span", text, { class: "state", "data-state": state }), date);
      expires.append(words);
      return row(`${c.kind} ${c.endpoint}`, cell("File", c.file, { class: "path" }), expires);
    }),
  );
  $("certificates-note").textContent = certificates.length === 0 ? "No endpoint uses TLS." : "";
}

function showWarnings({ warnings }) {
  $("warnings").replaceChildren(
    ...warnings.map((w) =>
      row(
        new Date(w.time * 1000).toLocaleString(),
        cell("Level", w.level.toLowerCase(), { class: "state", "data-state": w.level === "ERROR" ? "bad" : "fair" }),
        cell("Line", w.text),
      ),
    ),
  );
  $("warnings-note").textContent = warnings.length === 0 ? "The log has no warnings since mailturn was started." : "The last 100 warnings and errors of the log, the newest first.";
}

// Plots. Each has a table of the same values for people who cannot see it.

const firstRefusal = 5; // in the values that the server sends: see sample.go

// least is the smallest value at the top of the axis: below it, differences mean nothing.
function plotsOf(state) {
  const refusals = state.reasons.map((reason, i) => ({ label: reason.replaceAll("_", " "), at: firstRefusal + i }));
  const seen = refusals.filter(({ at }) => [state.hour, state.day].some(({ values }) => values[at].some((v) => v > 0)));
  return [
    { title: "Calls (relayed addresses in use)", format: count, least: 4, series: [{ label: "calls", at: 0 }] },
    { title: "Throughput", format: bits, least: 1e5, series: [{ label: "to peers", at: 1 }, { label: "to clients", at: 2 }] },
    { title: "Packets lost in the relay", format: percent, least: 1, series: [{ label: "lost", at: 3 }] },
    { title: "Refused calls, by reason", format: perMinute, least: 1, series: seen.length ? seen : [{ label: "refused", at: firstRefusal }] },
    { title: "CPU (100 % is one processor)", format: percent, least: 10, series: [{ label: "CPU", at: 4 }] },
  ];
}

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const seriesColor = (i) => color(`--series-${(i % 6) + 1}`);
const height = 150; // pixels
let drawn = []; // the uPlot objects, with the elements that they are in

function draw(state) {
  for (const plot of drawn) {
    plot.chart.destroy();
  }
  const opened = [...document.querySelectorAll("#plots details")].map((details) => details.open);
  const period = document.querySelector("input[name=period]:checked").value;
  const { times, values } = state[period];
  drawn = [];
  $("plots").replaceChildren();
  for (const [number, { title, format, least, series }] of plotsOf(state).entries()) {
    const box = element("figure", "", { class: "plot" });
    const caption = element("figcaption", title);
    box.append(caption);
    const legend = element("span", "", { class: "legend note" });
    for (const [i, { label, at }] of series.entries()) {
      const last = values[at].at(-1);
      if (series.length > 1) {
        const key = element("span", "", { class: "key", "aria-hidden": "true" });
        key.style.background = seriesColor(i);
        legend.append(key, `${label} `);
      }
      legend.append(last === undefined || last === null ? "" : format(last));
    }
    caption.append(legend);
    const area = element("div", "", { "aria-hidden": "true" });
    box.append(area, tableOf(title, format, series, times, values, opened[number]));
    $("plots").append(box);
    const width = () => area.clientWidth;
    const axis = { stroke: color("--soft"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line"), width: 1 } };
    const chart = new uPlot(
      {
        width: width(),
        height,
        legend: { show: false },
        cursor: { show: false },
        scales: { x: { time: true, range: [state.now - (period === "hour" ? 3600 : 86400), state.now] }, y: { range: (_, __, max) => [0, Math.max(max * 1.1, least)] } },
        axes: [{ ...axis, size: 32, space: 60, values: (_, ticks) => ticks.map(clock) }, { ...axis, size: 75, space: 35, values: (_, ticks) => ticks.map((v) => (format === count && v % 1 ? "" : format(v))) }],
        series: [{}, ...series.map((_, i) => ({ stroke: seriesColor(i), width: 2, points: { show: false } }))],
      },
      [times, ...series.map(({ at }) => values[at])],
      area,
    );
    drawn.push({ chart, width });
  }
}

// A table of twelve points in time, behind a button.
function tableOf(title, format, series, times, values, open) {
  const details = element("details", "");
  details.open = Boolean(open);
  details.append(element("summary", "As a table", { "aria-label": `${title}, as a table` }));
  const table = element("table", "");
  const head = element("tr", "");
  head.append(...["Time", ...series.map(({ label }) => label)].map((text) => element("th", text, { scope: "col" })));
  const thead = element("thead", "");
  thead.append(head);
  const tbody = element("tbody", "");
  const step = Math.max(1, Math.ceil(times.length / 12));
  for (let i = times.length - 1; i >= 0; i -= step) {
    const tr = element("tr", "");
    tr.append(
      element("th", clock(times[i]), { scope: "row" }),
      ...series.map(({ at }) => element("td", values[at][i] === null ? "" : format(values[at][i]))),
    );
    tbody.append(tr);
  }
  table.append(thead, tbody);
  details.append(times.length ? table : element("p", "No values yet.", { class: "note" }));
  return details;
}

function showHealth(state) {
  const ended = state.certificates.some((c) => c.ends === 0 || c.ends <= state.now);
  const ending = state.certificates.some((c) => c.ends - state.now < soon);
  const verdict = state.problem
    ? ["bad", "mailturn cannot serve", state.problem]
    : ended
      ? ["bad", "A certificate has expired or is missing", ""]
      : ending
        ? ["fair", "A certificate expires soon", ""]
        : ["good", "All is well", ""];
  $("health").dataset.state = verdict[0];
  say($("headline"), verdict[1]);
  const facts = [
    plural(state.calls, "relayed address", "relayed addresses"),
    plural(state.streams, "client over TCP, TLS or DTLS", "clients over TCP, TLS or DTLS"),
    plural(state.connections, "IMAP connection", "IMAP connections"),
  ];
  $("detail").textContent = [verdict[2], facts.join(", "), `Version ${state.version}`].filter(Boolean).join(" · ");
}

let present; // the last state

function show(state) {
  present = state;
  showHealth(present);
  showSessions(present);
  showCertificates(present);
  showWarnings(present);
  if (!$("plots").contains(document.activeElement)) { // somebody who reads a table keeps it
    draw(present);
  }
}

for (const input of document.querySelectorAll("input[name=period]")) {
  input.addEventListener("change", () => present && draw(present));
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => present && draw(present));
addEventListener("resize", () => drawn.forEach(({ chart, width }) => chart.setSize({ width: width(), height })));
follow("status", show);
offerCluster();
