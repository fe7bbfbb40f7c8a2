// The page of the cluster: asks the server every ten seconds what it knows of all relays, and shows it. What relays announce comes from
// Redis: it becomes text, and nothing else.
import { $, bits, cell, count, duration, element, figure, follow, plural, row, say } from "./show.js";

// What each state means to new calls, as in docs/cluster.md.
const states = {
  serving: ["good", "Serving"],
  draining: ["fair", "Draining"],
  full: ["fair", "Full"],
  not_ready: ["bad", "Not ready"],
  unreachable: ["bad", "Unreachable"],
};

const secrets = {
  same: "",
  different: "It accepts other secrets than this machine, and one of them is the same.",
  none: "It accepts no secret of this machine, so no account is told this relay here.",
};

// The reasons why an operator should look at a relay.
function remarksOf(r) {
  const remarks = r.failedBy.map((reason) => `Cannot be reached from ${reason}`);
  if (r.failedByCount > r.failedBy.length) {
    remarks.push(`${count(r.failedByCount - r.failedBy.length)} more cannot reach it.`);
  }
  if (secrets[r.secrets]) {
    remarks.push(secrets[r.secrets]);
  }
  if (r.weight === 0) {
    remarks.push("Its weight is 0, so it gets no new calls.");
  }
  return remarks;
}

function addressCell({ server, udp, tcp, tls }) {
  const address = cell("Address", "");
  const words = element("span", server);
  const transports = [["UDP", udp], ["TCP", tcp], ["TLS", tls]].filter(([, ports]) => ports.length > 0);
  words.append(element("span", transports.map(([transport, ports]) => `${transport} ${ports.join(" and ")}`).join(", "), { class: "note" }));
  address.append(words);
  return address;
}

function stateCell(r) {
  const [state, text] = states[r.state] ?? ["bad", r.state];
  const words = element("span", "");
  words.append(element("span", text, { class: "state", "data-state": state }));
  words.append(...remarksOf(r).map((remark) => element("span", remark, { class: "note" })));
  const result = cell("State", "");
  result.append(words);
  return result;
}

function relayRow(r) {
  const heading = row(
    r.name,
    addressCell(r),
    stateCell(r),
    cell("Region", r.region),
    figure("Weight", count(r.weight)),
    figure("Allocations", count(r.allocations)),
    figure("Limit", r.limit > 0 ? count(r.limit) : "none"),
    figure("Throughput", bits(r.bitsPerSecond)),
    cell("Version", r.version),
    figure("Last heard", `${duration(r.age)} ago`),
  );
  if (r.own) {
    heading.querySelector("th").append(element("span", "This machine", { class: "note" }));
  }
  return heading;
}

const unwell = (r) => r.failedByCount > 0 || r.secrets === "none" || !["serving", "draining"].includes(r.state);

function show(state) {
  const { relays, relayCount, outages, answered, now } = state ?? { relays: [], relayCount: 0, outages: [], answered: 0, now: Date.now() / 1000 };
  const sick = relays.filter(unwell).length;
  const [grade, headline] = !state
    ? ["bad", "This machine is not in a cluster any more"]
    : outages.length > 0
      ? ["bad", "Not everything is shared"]
      : sick > 0
        ? ["fair", `${plural(sick, "relay needs", "relays need")} attention`]
        : ["good", "All is well"];
  $("health").dataset.state = grade;
  say($("headline"), headline);
  $("outages").replaceChildren(...outages.map((outage) => element("li", outage)));
  const sum = (key) => relays.reduce((total, r) => total + r[key], 0);
  const facts = [
    `${plural(relayCount, "relay", "relays")} with ${plural(sum("allocations"), "allocation", "allocations")}, ${bits(sum("bitsPerSecond"))}`,
    answered === 0 ? "Redis has never answered" : `Redis answered ${duration(now - answered)} ago`,
  ];
  $("detail").textContent = facts.join(" · ");
  $("relays").replaceChildren(...relays.map(relayRow));
  $("relays-note").textContent =
    relayCount === 0
      ? "No relays are known."
      : relays.length < relayCount
        ? `${relays.length} of ${count(relayCount)} relays, those that get no calls first. mailturn ctl cluster lists all.`
        : "Those that get no calls first. A relay that has not announced itself for six seconds is no longer listed.";
}

follow("cluster/state", show);
