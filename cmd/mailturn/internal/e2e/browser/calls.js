// Fetches one call after another from the test, and posts what each returned. Calls run beside each other. A method is one of peer,
// or "party." and one of party.mjs.
import { makeParty } from "./party.mjs";

const party = makeParty(RTCPeerConnection, (text) => console.error(text));

async function post(path, value) {
  await fetch(path, { method: "POST", body: JSON.stringify(value ?? null) });
}

for (const level of ["log", "warn", "error"]) {
  const original = console[level].bind(console);
  console[level] = (...words) => {
    original(...words);
    post("/console", `${level}: ${words.join(" ")}`);
  };
}
addEventListener("error", (event) => console.error(event.message));
addEventListener("unhandledrejection", (event) => console.error(event.reason));

async function run({ id, method, args }) {
  try {
    const [object, name] = method.startsWith("party.") ? [party, method.slice("party.".length)] : [peer, method];
    await post("/result", { id, value: (await object[name](...args)) ?? null });
  } catch (error) {
    await post("/result", { id, error: `${error.name}: ${error.message}` });
  }
}

(async () => {
  await post("/ready");
  for (;;) {
    const response = await fetch("/call");
    if (response.status === 200) {
      run(await response.json());
    }
  }
})();
