// Joins a room twice, over the relay only, lets one participant publish and the other one watch, and reports what getStats
// says of both. The test serves this page, with where to join in settings, and takes the report.
"use strict";

const { Room, RoomEvent, Track } = LivekitClient;

const connections = []; // those that LiveKit's client makes
window.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(...args) {
    super(...args);
    connections.push(this);
  }
};

async function join(url, token) {
  const room = new Room();
  await room.connect(url, token, { rtcConfig: { iceTransportPolicy: "relay" } });
  return room;
}

// The local candidate of the pair that carries a connection, and what the connection has carried over this and other pairs.
async function selected(connection) {
  const stats = await connection.getStats();
  const { selectedCandidatePairId, bytesSent, bytesReceived } = [...stats.values()].find((s) => s.type === "transport");
  const local = stats.get(stats.get(selectedCandidatePairId).localCandidateId);
  return { type: local.candidateType, protocol: local.relayProtocol, sent: bytesSent, received: bytesReceived };
}

async function run({ url, tokens, frames }) {
  const [alice, bob] = await Promise.all(tokens.map((token) => join(url, token)));
  const watching = new Promise((resolve) => bob.on(RoomEvent.TrackSubscribed, (track) => track.kind === Track.Kind.Video && resolve(track)));
  await alice.localParticipant.setCameraEnabled(true);
  const track = await watching;
  document.body.append(track.attach());

  for (;;) {
    const inbound = [...(await track.getRTCStatsReport()).values()].find((s) => s.type === "inbound-rtp");
    if (inbound?.framesDecoded >= frames) {
      const connected = connections.filter((c) => c.connectionState === "connected");
      const report = { framesDecoded: inbound.framesDecoded, connections: await Promise.all(connected.map(selected)) };
      await Promise.all([alice.disconnect(), bob.disconnect()]);
      return report;
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

(async () => {
  let report;
  try {
    report = await run(await (await fetch("settings")).json());
  } catch (error) {
    report = { error: `${error.name}: ${error.message}` };
  }
  await fetch("report", { method: "POST", body: JSON.stringify(report) });
})();
