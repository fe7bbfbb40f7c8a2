// A program of package party, with a package of npm.
//
// party.mjs PACKAGE

import { createInterface } from "node:readline";
import { makeParty } from "../../browser/party.mjs";

const imported = await import(process.argv[2]);
const { RTCPeerConnection } = imported.default ?? imported;
const party = makeParty(RTCPeerConnection);
for await (const line of createInterface({ input: process.stdin })) {
  const { id, method, args } = JSON.parse(line);
  let answer;
  try {
    answer = { id, value: await party[method](...args) };
  } catch (error) {
    answer = { id, error: error.stack };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
await party.close();
await new Promise((resolve) => setTimeout(resolve, 200)); // for the Refresh that ends the allocation
process.exit(0);
