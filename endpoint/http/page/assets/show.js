// What the operator's pages have in common: values become text, and nothing else, because some come from strangers.

export const $ = (id) => document.getElementById(id);

export function element(name, text, attributes = {}) {
  const e = document.createElement(name);
  e.textContent = text;
  for (const [key, value] of Object.entries(attributes)) {
    e.setAttribute(key, value);
  }
  return e;
}

// Numbers as people read them.

export const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
export const count = (n) => Math.round(n).toLocaleString();

function scaled(value, unit, units) {
  let i = 0;
  while (value >= 1000 && i < units.length - 1) {
    value /= 1000;
    i++;
  }
  return `${value.toFixed(value < 10 && i > 0 ? 1 : 0)} ${units[i]}${unit}`;
}

export const plural = (n, one, many) => `${count(n)} ${n === 1 ? one : many}`;
export const bytes = (n) => scaled(n, "B", ["", "k", "M", "G", "T"]);
export const bits = (n) => scaled(n, "bit/s", ["", "k", "M", "G", "T"]);
export const percent = (n) => `${n < 10 ? n.toFixed(1) : Math.round(n)} %`;
export const perMinute = (n) => `${n < 10 ? n.toFixed(1) : Math.round(n)} /min`;

export function duration(seconds) {
  for (const [name, length] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= length) {
      return `${Math.floor(seconds / length)} ${name}`;
    }
  }
  return `${Math.max(0, Math.round(seconds))} s`;
}

// Tables

export const cell = (label, text, attributes = {}) => element("td", text, { role: "cell", "data-label": label, ...attributes });
export const figure = (label, text) => cell(label, text, { class: "figure" });

export function row(heading, ...cells) {
  const tr = element("tr", "", { role: "row" });
  tr.append(element("th", heading, { role: "rowheader", scope: "row" }), ...cells);
  return tr;
}

// Changes a text only if it is another one, which screen readers then read out.
export function say(e, text) {
  if (e.textContent !== text) {
    e.textContent = text;
  }
}

const interval = 10000; // ms

// Asks the server for its state every ten seconds, and calls show with it. The page has a verdict with the IDs health, headline and detail.
export async function follow(path, show, last) {
  try {
    const response = await fetch(path, { credentials: "same-origin" });
    if (response.status === 401) {
      location.assign("login");
      return;
    }
    if (!response.ok) {
      throw new Error(`it answers ${response.status}`);
    }
    last = await response.json();
    show(last);
  } catch (problem) {
    $("health").dataset.state = "bad";
    say($("headline"), "The server does not answer");
    $("detail").textContent = last ? `The data below is from ${new Date(last.now * 1000).toLocaleTimeString()}. ${problem.message}` : problem.message;
  }
  setTimeout(() => follow(path, show, last), interval);
}

// Shows the link to the page of the cluster if there is a cluster.
export async function offerCluster() {
  const response = await fetch("cluster/state", { credentials: "same-origin" });
  $("cluster-link").hidden = !response.ok || (await response.json()) === null;
}
