// The call test's page: asks for the ways to the relay, measures one after the other, and shows what came of it.
import { measure, rateBytes } from "./measure.js";
import { $, element, offerCluster } from "./show.js";
import { gradeOf, lossOf, ms, nameOf, rateOf, reasonOf, reportOf, verdictOf } from "./words.js";

const token = location.hash.slice(1); // of a link; the part after # is not sent to servers, and in no log
const headers = token ? { Authorization: `Bearer ${token}` } : {};

let abort; // of the test that runs
let hidden = false; // the page was in the background while it ran

function show(state, headline, advice) {
  $("verdict").dataset.state = state;
  $("headline").textContent = headline;
  $("advice").replaceChildren(...advice.map((line) => element("li", line)));
  $("verdict").hidden = false;
}

async function ask(path) {
  const response = await fetch(path, { method: "POST", headers, credentials: "same-origin" });
  if (response.ok) {
    return response.json();
  }
  const problem = new Error(`the server answers ${response.status}`);
  problem.status = response.status;
  problem.wait = response.headers.get("Retry-After");
  throw problem;
}

// What to tell a visitor whose request was refused.
function explain(problem) {
  switch (problem.status) {
    case 401:
      return ["Log in first", []];
    case 403:
      return ["This link does not work any more", ["Links work for an hour. Ask whoever sent it to you for a new one, and make sure to copy all of it."]];
    case 429:
      return ["Too many tests from your address", [`Try again in ${problem.wait ?? "60"} seconds.`]];
    case 503:
      return ["The server accepts no new calls now", ["It is starting or stopping, or draining for maintenance. Try again in a few minutes."]];
    default:
      return ["The server does not answer as it should", [problem.message, "Check your connection to the internet, and try again."]];
  }
}

function row(result) {
  const { state, text } = gradeOf(result);
  const verdict = element("td", "", { role: "cell", "data-label": "Result" });
  const words = element("span", "");
  words.append(element("span", text, { class: "state", "data-state": state }));
  if (!result.connected) {
    words.append(element("span", reasonOf(result), { class: "note" }));
  }
  verdict.append(words);
  const figure = (label, value) => element("td", value, { role: "cell", class: "figure", "data-label": label });
  const { voice, rate } = result;
  const tr = element("tr", "", { role: "row" });
  tr.append(
    element("th", nameOf(result.way), { role: "rowheader", scope: "row" }),
    verdict,
    figure("Round trip", voice ? ms(voice.roundTrip) : ""),
    figure("Packets lost", voice ? lossOf(voice) : ""),
    figure("Rate", rate ? rateOf(rate) : ""),
  );
  return tr;
}

function running(is) {
  $("start").disabled = is;
  $("stop").hidden = $("progress").hidden = !is;
}

async function run() {
  abort = new AbortController();
  hidden = document.hidden;
  for (const id of ["verdict", "details", "report"]) {
    $(id).hidden = true;
  }
  $("ways").replaceChildren();
  $("bar").removeAttribute("value");
  $("step").textContent = "Asking the server for the ways to the relay …";
  running(true);
  const begun = new Date();
  const results = [];
  try {
    const { ways } = await ask("call-test/ways");
    $("bar").max = ways.length;
    for (const [i, way] of ways.entries()) {
      $("bar").value = i;
      $("step").textContent = `Testing ${nameOf(way)} (${i + 1} of ${ways.length}) …`;
      results.push({ way, ...(await measure(way, abort.signal)) });
      $("ways").append(row(results.at(-1)));
      $("details").hidden = false;
    }
    finish(results, begun, ways);
  } catch (problem) {
    if (abort.signal.aborted) {
      show("", "Stopped", []);
    } else if (problem.status === 401) {
      location.assign("login");
    } else {
      show("bad", ...explain(problem));
    }
  } finally {
    running(false);
    $("start").textContent = "Test again";
    $("verdict").focus();
  }
}

function finish(results, begun, ways) {
  const verdict = ways.length ? verdictOf(results) : { state: "bad", headline: "The server offers no relay", advice: [] };
  show(verdict.state, verdict.headline, verdict.advice);
  const host = [...new Set(ways.map((way) => way.host))].join(", ");
  $("text").value = reportOf({ results, verdict, begun, host, agent: navigator.userAgent, hidden });
  $("report").hidden = false;
}

// Copies the text of a field. Pages without TLS have no clipboard but the selection.
async function copy(field, status) {
  try {
    await navigator.clipboard.writeText(field.value);
    status.textContent = "Copied.";
  } catch {
    field.focus();
    field.select();
    status.textContent = document.execCommand("copy") ? "Copied." : "Selected: copy it with your keyboard or the menu.";
  }
}

async function makeLink() {
  $("link-problem").hidden = true;
  try {
    const { token, expires } = await ask("call-test/link");
    const until = new Date(expires * 1000);
    $("link").value = new URL(`call-test#${token}`, location.href.replace(/#.*/s, "")).href;
    $("until").dateTime = until.toISOString();
    $("until").textContent = until.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    $("made").hidden = false;
    $("link").focus();
    $("link").select();
  } catch (problem) {
    $("link-problem").textContent = explain(problem)[0];
    $("link-problem").hidden = false;
  }
}

document.addEventListener("visibilitychange", () => (hidden ||= document.hidden));
$("start").addEventListener("click", run);
$("stop").addEventListener("click", () => abort.abort());
$("copy").addEventListener("click", () => copy($("text"), $("copied")));
$("make").addEventListener("click", makeLink);
$("copy-link").addEventListener("click", () => copy($("link"), $("link-copied")));
addEventListener("hashchange", () => location.reload()); // another link

if (typeof RTCPeerConnection === "undefined") {
  show("bad", "This browser cannot make calls", ["It has no WebRTC, or an extension has switched it off. Try another browser."]);
} else if (!token) {
  // Only the operator comes without a link.
  $("operator-nav").hidden = $("give").hidden = false;
  offerCluster();
}
$("start").disabled = typeof RTCPeerConnection === "undefined";
$("volume").textContent = `Transfers up to ${(2 * rateBytes) >> 20} MB over each connection.`;
