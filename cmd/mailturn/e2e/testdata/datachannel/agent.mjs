// One end of a WebRTC connection with a package of npm, over relayed candidates alone.
//
// agent.mjs PACKAGE controlling|controlled HOST PORT udp|tcp|tls USERNAME PASSWORD COUNT
//
// Writes its description as a line of JSON, which answers that of the other end if it is the controlled one. Sends COUNT
// messages over a data channel that retransmits nothing, and echoes those of the other end. Then it writes what it counted,
// and ends when its input does.

import { createInterface } from "node:readline";

const [name, role, host, port, transport, username, credential, count] = process.argv.slice(2);
const size = 700; // bytes of a message
const interval = 5; // milliseconds between messages
const patience = 3000; // milliseconds to wait for messages that are missing

const imported = await import(name);
const { RTCPeerConnection } = imported.default ?? imported;
const write = (value) => process.stdout.write(JSON.stringify(value) + "\n");
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const input = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const read = async () => JSON.parse((await input.next()).value);

const address = `${host.includes(":") ? `[${host}]` : host}:${port}`;
const urls = transport === "tls" ? `turns:${address}?transport=tcp` : `turn:${address}?transport=${transport}`;
const connection = new RTCPeerConnection({ iceServers: [{ urls, username, credential }], iceTransportPolicy: "relay" });
let refused = false; // by the relay; from 701 on, errors are of an interface that does not reach it, such as loopback
connection.onicecandidateerror = ({ errorCode, errorText }) => {
  console.error(`candidate error ${errorCode} ${errorText}`);
  refused ||= errorCode < 701;
};
connection.onconnectionstatechange = () => console.error(`connection ${connection.connectionState}`);

let opened;
if (role === "controlling") {
  opened = Promise.resolve(connection.createDataChannel("test", { ordered: false, maxRetransmits: 0 }));
  await connection.setLocalDescription(await connection.createOffer());
} else {
  opened = new Promise((resolve) => (connection.ondatachannel = ({ channel }) => resolve(channel)));
  await connection.setRemoteDescription(await read());
  await connection.setLocalDescription(await connection.createAnswer());
}
const described = () => connection.iceGatheringState === "complete" || connection.localDescription.sdp.includes(" typ relay ");
while (!described() && !refused) await sleep(10);
const { type, sdp } = connection.localDescription;
write({ type, sdp });
if (role === "controlling") await connection.setRemoteDescription(await read());

const sent = new Map(); // when, by number
const received = new Set();
const roundTrips = [];
let bytes = 0;
const channel = await opened;
channel.onmessage = ({ data }) => {
  const text = data.toString();
  const number = parseInt(text.slice(1));
  bytes += text.length;
  if (text[0] === "m") {
    received.add(number);
    channel.send(`e${number}`);
  } else {
    roundTrips.push(performance.now() - sent.get(number));
  }
};
while (channel.readyState !== "open") await sleep(10);
for (let number = 0; number < count; number++) {
  sent.set(number, performance.now());
  channel.send(`m${number} `.padEnd(size));
  await sleep(interval);
}
for (let waited = 0; waited < patience && (received.size < count || roundTrips.length < count); waited += 10) await sleep(10);

const candidates = sdp.split("\n").filter((line) => line.startsWith("a=candidate:"));
const [, , , , ip, relayPort, , kind] = candidates[0].split(" ");
roundTrips.sort((a, b) => a - b);
write({
  relay: `${ip}:${relayPort}`,
  type: kind,
  received: received.size,
  lost: count - received.size,
  bytes,
  roundTrip: roundTrips[Math.floor(roundTrips.length / 2)],
});
while (!(await input.next()).done);
await connection.close();
await sleep(200); // for the Refresh that ends the allocation
process.exit(0);
