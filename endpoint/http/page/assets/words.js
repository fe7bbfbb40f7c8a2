// What the call test says. All of it is text: nothing here becomes HTML.

const transports = { udp: "UDP", tcp: "TCP", tls: "TLS" };

export const nameOf = (way) => [transports[way.transport], way.family].filter(Boolean).join(", ");

export const ms = (time) => (time === undefined ? "" : time < 10 ? `${time.toFixed(1)} ms` : `${Math.round(time)} ms`);

export function rateOf({ bytes, seconds }) {
  if (bytes === 0) {
    return "nothing arrived";
  }
  const megabits = (bytes * 8) / seconds / 1e6;
  return megabits < 0.1 ? `${Math.round(megabits * 1000)} kbit/s` : `${megabits.toFixed(megabits < 10 ? 1 : 0)} Mbit/s`;
}

// What a rate is enough for: a video call needs 1 to 3 Mbit/s.
function roomOf({ bytes, seconds }) {
  const megabits = (bytes * 8) / seconds / 1e6;
  return megabits >= 3 ? "enough for video" : megabits >= 1 ? "enough for video of low quality" : "enough for voice, but not for video";
}

export const lossOf = (voice) => `${voice.sent - voice.received} of ${voice.sent}`;

// What is good enough for a call: ITU-T G.114 has 400 ms for one way as the most that is acceptable, and half of it as good. A twentieth
// of the packets lost is audible.
const slow = 400; // ms, there and back
const lossy = 0.05;
const narrow = 0.1e6; // bit/s, of a voice call

// The state of a result, and what it means in a word or two.
export function gradeOf(result) {
  if (!result.connected) {
    return { state: "bad", text: "Does not work" };
  }
  const { voice, rate } = result;
  const problems = [];
  if (voice.received === 0 || (rate.bytes * 8) / rate.seconds < narrow) {
    problems.push("too slow");
  }
  if (voice.sent - voice.received > voice.sent * lossy) {
    problems.push("loses packets");
  }
  if (voice.roundTrip > slow) {
    problems.push("delayed");
  }
  return problems.length ? { state: "fair", text: `Works, but ${problems.join(", ")}` } : { state: "good", text: "Works" };
}

// Why a way does not work, as far as the browser tells. Codes are those of STUN (RFC 8489 section 14.8, RFC 8656 section 19), and 701
// for a server that does not answer (W3C WebRTC section 4.8.2).
export function reasonOf({ errors }) {
  const codes = errors.map((e) => e.code);
  const texts = errors.map((e) => e.text ?? "").join(" ");
  if (codes.includes(486) || codes.includes(508)) {
    return "The relay has no room for another call right now.";
  }
  if (codes.includes(401) || codes.includes(441) || codes.includes(438)) {
    return "The relay refuses the credential.";
  }
  if (texts.includes("lookup") || texts.includes("resolve")) {
    return "The name of the relay is unknown here.";
  }
  if (texts.includes("passes no data")) {
    return "The relay answers, but passes no data on.";
  }
  const other = errors.find((e) => e.code >= 300 && e.code < 700);
  if (other) {
    return `The relay answers ${other.code} ${other.text}.`;
  }
  return "The relay cannot be reached.";
}

// The verdict over all results: {state, headline, advice}.
export function verdictOf(results) {
  const working = results.filter((r) => r.connected);
  const udp = working.filter((r) => r.way.transport === "udp");
  const reasons = new Set(results.filter((r) => !r.connected).map(reasonOf));
  if (working.length === 0) {
    return { state: "bad", headline: "Calls through the relay do not work from here", advice: adviceWithout(reasons) };
  }
  const advice = [];
  let state = "good";
  let headline = "Calls work from here";
  const usable = udp.length ? udp : working;
  if (!usable.some((r) => gradeOf(r).state === "good")) {
    state = "fair";
    headline = "Calls connect from here, but will not be good";
    advice.push(qualityOf(usable));
  }
  const tested = (transport) => results.some((r) => r.way.transport === transport);
  const works = (transport) => working.some((r) => r.way.transport === transport);
  if (udp.length === 0 && tested("udp")) {
    state = "fair";
    headline = "Calls connect from here, but not over UDP";
    advice.push("Something in between, often the firewall of a company or a hotel, blocks UDP. Calls take longer to connect, and stutter when the network is busy. Apps that need UDP cannot call.");
  }
  for (const transport of ["tcp", "tls"]) {
    if (tested(transport) && !works(transport) && udp.length) {
      advice.push(`${transports[transport]} does not work. Calls need it only where UDP is blocked.`);
    }
  }
  advice.push(...familyAdvice(results));
  const good = usable.filter((r) => gradeOf(r).state === "good");
  if (good.length) {
    const best = good.reduce((a, b) => (b.voice.roundTrip < a.voice.roundTrip ? b : a));
    const delay = best.voice.roundTrip < slow / 2 ? "which nobody notices" : "which is noticeable, but no problem";
    advice.push(`The fastest connection is ${nameOf(best.way)}: there and back in ${ms(best.voice.roundTrip)}, ${delay}, at ${rateOf(best.rate)}, ${roomOf(best.rate)}.`);
  }
  if ([...reasons].some((reason) => reason.includes("refuses") || reason.includes("no room"))) {
    advice.push("The relay refused some of the tests: whoever runs it should look at its log.");
  }
  return { state, headline, advice };
}

function adviceWithout(reasons) {
  if ([...reasons].some((reason) => reason.includes("refuses"))) {
    return ["The relay can be reached, but refuses the credentials of this test. That is a mistake in its configuration: send the report to whoever runs it."];
  }
  if ([...reasons].some((reason) => reason.includes("no room"))) {
    return ["The relay can be reached, but has no room. Try again in a few minutes."];
  }
  if ([...reasons].some((reason) => reason.includes("passes no data"))) {
    return ["The relay can be reached, but no data comes through it: send the report to whoever runs it."];
  }
  return [
    "Nothing came back from the relay over any transport. Try another network, such as mobile data instead of Wi-Fi, or without a VPN.",
    "If it works there, this network blocks calls. If it works nowhere, send the report to whoever runs the relay.",
    "Calls may still connect if both devices can reach each other without the relay.",
  ];
}

function familyAdvice(results) {
  const of = (family) => results.filter((r) => r.way.family === family);
  const [four, six] = [of("IPv4"), of("IPv6")];
  const works = (list) => list.some((r) => r.connected);
  if (four.length && six.length && works(four) && !works(six)) {
    return ["IPv6 does not work. That is normal if your network has no IPv6: calls use IPv4."];
  }
  if (four.length && six.length && works(six) && !works(four)) {
    return ["IPv4 does not work: calls use IPv6."];
  }
  return [];
}

function qualityOf(results) {
  const best = results.reduce((a, b) => (b.voice.received > a.voice.received ? b : a));
  const lost = best.voice.sent - best.voice.received;
  if (lost > best.voice.sent * lossy) {
    return `${lost} of ${best.voice.sent} packets were lost: expect gaps in what you hear. Move closer to the Wi-Fi router, or use a cable.`;
  }
  if (best.voice.roundTrip > slow) {
    return `What you say arrives late: there and back takes ${ms(best.voice.roundTrip)}.`;
  }
  return "The connection is too slow for a call.";
}

// The report as plain text, for a support mail.
export function reportOf({ results, verdict, begun, host, agent, hidden }) {
  const lines = [
    `Call test of ${host}, ${begun.toISOString().slice(0, 16).replace("T", " ")} UTC`,
    `Result: ${verdict.headline}`,
    ...verdict.advice.map((line) => `- ${line}`),
    "",
  ];
  for (const r of results) {
    lines.push(`${nameOf(r.way)}: ${gradeOf(r).text}`, `  ${r.way.url}`);
    if (r.connected) {
      const { voice, rate } = r;
      lines.push(`  round trip ${ms(voice.roundTrip)}, worst ${ms(voice.worst)}, jitter ${ms(voice.jitter)}, ${lossOf(voice)} packets lost, ${rateOf(rate)}`);
      if (r.relayed) {
        lines.push(`  relayed address ${r.relayed}`);
      }
    } else {
      lines.push(`  ${reasonOf(r)}`);
    }
    for (const { code, text } of r.errors) {
      lines.push(code ? `  the browser reports: ${[code, text].filter(Boolean).join(" ")}` : `  ${text}`);
    }
  }
  if (hidden) {
    lines.push("", "The page was in the background for a while, which distorts the figures.");
  }
  lines.push("", `Browser: ${agent}`);
  return lines.join("\n") + "\n";
}
