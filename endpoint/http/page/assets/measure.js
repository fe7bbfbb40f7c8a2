// Measures one way to the relay: two peer connections in this page, which may use no candidate but that of the relay, send data to
// each other through it.

export const packets = 50; // of the imitated voice call
const packetInterval = 20; // ms
const packetSize = 160; // bytes, as Opus at 64 kbit/s
const chunkSize = 16 * 1024; // bytes, which all browsers accept as one message
const rateTime = 3000; // ms
export const rateBytes = 4 << 20; // at most, on the way to the relay, and as many back
const connectLimit = 15000; // ms
const echoLimit = 1500; // ms after the last packet

// Resolves to {connected, errors, relayed, voice, rate}, of which the last three are missing for a way that does not connect. Rejects
// only if the browser has no WebRTC, or when signal is aborted.
export async function measure(way, signal) {
  const configuration = {
    iceServers: [{ urls: way.url, username: way.username, credential: way.credential }],
    iceTransportPolicy: "relay",
  };
  const near = new RTCPeerConnection(configuration);
  const far = new RTCPeerConnection(configuration);
  const stop = () => {
    near.close();
    far.close();
  };
  signal.addEventListener("abort", stop);
  try {
    const result = { connected: false, errors: [] };
    const channels = open(near, far);
    try {
      await connect(near, far, channels, result, signal);
    } catch (error) {
      signal.throwIfAborted();
      result.errors.push({ code: 0, text: error.message });
      return result;
    }
    result.connected = true;
    result.relayed = await relayedAddress(near);
    result.voice = await voice(channels, signal);
    result.rate = await rate(channels, signal);
    return result;
  } finally {
    signal.removeEventListener("abort", stop);
    stop();
  }
}

// Opens two channels between the connections: one that loses packets as a call does, and one that sends as fast as it can.
function open(near, far) {
  const pair = (id, options) =>
    [near, far].map((connection) => {
      const channel = connection.createDataChannel("test", { negotiated: true, id, ...options });
      channel.binaryType = "arraybuffer";
      return channel;
    });
  return { voice: pair(1, { ordered: false, maxRetransmits: 0 }), bulk: pair(2, {}) };
}

// Connects the two, and resolves when all channels are open.
function connect(near, far, channels, result, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("no connection within 15 seconds")), connectLimit);
    const done = (settle, value) => {
      clearTimeout(timer);
      settle(value);
    };
    signal.addEventListener("abort", () => done(reject, signal.reason), { once: true });

    let described; // resolves when both have both descriptions
    const exchange = async () => {
      await near.setLocalDescription(await near.createOffer());
      await far.setRemoteDescription(near.localDescription);
      await far.setLocalDescription(await far.createAnswer());
      await near.setRemoteDescription(far.localDescription);
    };
    for (const [connection, other] of [[near, far], [far, near]]) {
      let candidates = 0;
      connection.onicecandidate = (event) => {
        if (event.candidate?.candidate) {
          candidates++;
          described.then(() => other.addIceCandidate(event.candidate)).catch(() => {});
        } else if (event.candidate === null && candidates === 0) {
          done(reject, new Error("the relay gave no address"));
        }
      };
      connection.onicecandidateerror = (event) => {
        if (!result.errors.some((e) => e.code === event.errorCode && e.text === event.errorText)) {
          result.errors.push({ code: event.errorCode, text: event.errorText });
        }
      };
      connection.onconnectionstatechange = () => {
        if (connection.connectionState === "failed") {
          done(reject, new Error("the relay passes no data on"));
        }
      };
    }
    const all = [...channels.voice, ...channels.bulk];
    for (const channel of all) {
      channel.onopen = () => all.every((c) => c.readyState === "open") && done(resolve);
    }
    described = exchange();
    described.catch((error) => done(reject, error));
  });
}

// Returns this end's relayed address, as "ADDRESS:PORT".
async function relayedAddress(connection) {
  const stats = [...(await connection.getStats()).values()];
  const byId = (id) => stats.find((s) => s.id === id);
  const transport = stats.find((s) => s.type === "transport");
  const pair = byId(transport?.selectedCandidatePairId) ?? stats.find((s) => s.type === "candidate-pair" && s.selected);
  const local = byId(pair?.localCandidateId);
  if (!local?.address) {
    return "";
  }
  return local.address.includes(":") ? `[${local.address}]:${local.port}` : `${local.address}:${local.port}`;
}

const sleep = (ms, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });

// Sends packets as a voice call does, which the far end sends back. Resolves to {sent, received, roundTrip, worst, jitter}, times in
// ms, undefined if nothing came back.
async function voice({ voice: [near, far] }, signal) {
  const sentAt = [];
  const times = [];
  let all;
  const complete = new Promise((resolve) => (all = resolve));
  far.onmessage = (event) => far.readyState === "open" && far.send(event.data);
  near.onmessage = (event) => {
    const number = new DataView(event.data).getUint32(0);
    if (sentAt[number] !== undefined) {
      times.push(performance.now() - sentAt[number]);
      sentAt[number] = undefined; // a packet that comes twice counts once
      if (times.length === packets) {
        all();
      }
    }
  };
  for (let i = 0; i < packets; i++) {
    const packet = new DataView(new ArrayBuffer(packetSize));
    packet.setUint32(0, i);
    sentAt[i] = performance.now();
    near.send(packet.buffer);
    await sleep(packetInterval, signal);
  }
  await Promise.race([complete, sleep(echoLimit, signal)]);
  const changes = times.slice(1).map((time, i) => Math.abs(time - times[i]));
  const sorted = [...times].sort((a, b) => a - b);
  return {
    sent: packets,
    received: times.length,
    roundTrip: sorted[Math.floor(sorted.length / 2)],
    worst: sorted.at(-1),
    jitter: changes.length ? changes.reduce((sum, change) => sum + change, 0) / changes.length : undefined,
  };
}

// Sends as much as gets through. Resolves to {bytes, seconds, capped}: what arrived, in which time, and whether there was more to send.
async function rate({ bulk: [near, far] }, signal) {
  const chunk = new ArrayBuffer(chunkSize);
  const begin = performance.now();
  let sent = 0;
  let bytes = 0;
  let last = begin;
  const finished = new Promise((resolve) => {
    far.onmessage = (event) => {
      bytes += event.data.byteLength;
      last = performance.now();
      if (bytes >= rateBytes) {
        resolve();
      }
    };
  });
  near.bufferedAmountLowThreshold = 8 * chunkSize;
  const fill = () => {
    while (sent < rateBytes && near.readyState === "open" && near.bufferedAmount < 16 * chunkSize) {
      near.send(chunk);
      sent += chunkSize;
    }
  };
  near.onbufferedamountlow = fill;
  fill();
  await Promise.race([finished, sleep(rateTime, signal)]);
  near.onbufferedamountlow = null;
  return { bytes, seconds: (last - begin) / 1000, capped: bytes >= rateBytes };
}
