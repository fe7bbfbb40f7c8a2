// One end of a long call, for any implementation of RTCPeerConnection. Package party documents the methods.

const echoes = 50; // one message in so many is echoed
const highWater = 64 << 10; // bytes waiting in the data channel at which no more messages are sent, since nothing gets through
const patience = 1000; // milliseconds to wait for further candidates

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// statsOf returns the statistics of a type.
const statsOf = (stats, type) => [...stats.values()].filter((s) => s.type === type);

export function makeParty(RTCPeerConnection, log = console.error) {
  let size, interval; // of messages: bytes, and the milliseconds between two
  let pc, channel, timer;
  let complaints; // about relays, since the last description
  let refusing; // URLs of the relays that refused an allocation since then

  let next = 0; // number of the next message
  let asked; // when the messages left whose echoes are still due, by number
  let last; // when the last message came, or when the first channel opened
  let counts, roundTrips; // since they were taken last

  function reset() {
    counts = { sent: 0, received: 0, bytes: 0, longestGap: 0 };
    roundTrips = [];
  }
  reset();

  function arrived() {
    const now = performance.now();
    counts.longestGap = Math.max(counts.longestGap, now - (last ?? now));
    last = now;
  }

  function take({ data }) {
    const text = data.toString();
    const number = parseInt(text.slice(1));
    if (text[0] === "e") {
      if (asked.has(number)) {
        roundTrips.push(performance.now() - asked.get(number));
        asked.delete(number);
      }
      return;
    }
    arrived();
    counts.received++;
    counts.bytes += text.length;
    if (number % echoes === 0) {
      this.send(`e${number}`);
    }
  }

  function send() {
    if (channel.readyState !== "open" || channel.bufferedAmount > highWater) {
      return;
    }
    if (next % echoes === 0) {
      asked.set(next, performance.now());
    }
    try {
      channel.send(`m${next} `.padEnd(size));
    } catch (error) {
      log(`send: ${error.message}`);
      return;
    }
    next++;
    counts.sent++;
  }

  function configuration(servers) {
    const iceServers = servers.flatMap(({ urls, ...credential }) => urls.map((url) => ({ urls: url, ...credential })));
    return { iceServers, iceTransportPolicy: "relay" };
  }

  // Makes a new connection. The end that offers makes the data channel.
  function connect(servers, offers) {
    close();
    pc = new RTCPeerConnection(configuration(servers));
    const connection = pc;
    pc.onconnectionstatechange = () => log(`connection ${connection.connectionState}`);
    pc.onicecandidateerror = ({ url, errorCode, errorText }) => {
      complaints.push(`${url}: ${errorCode} ${errorText}`);
      if (errorCode < 701) { // those from 701 on are of an interface that does not reach the relay, such as loopback
        refusing.add(url);
      }
    };
    channel = undefined;
    if (offers) {
      use(pc.createDataChannel("party", { ordered: false, maxRetransmits: 0 }));
    } else {
      pc.ondatachannel = (event) => use(event.channel);
    }
  }

  function use(made) {
    channel = made;
    channel.onmessage = take;
    const open = () => {
      channel.onopen = null;
      asked = new Map(); // what the last channel lost stays lost
      last ??= performance.now();
      timer = setInterval(send, interval);
    };
    channel.onopen = open;
    if (channel.readyState === "open") {
      open();
    }
  }

  // Sets the local description and returns it with its candidates. After an ICE restart, the gathering state is at first still
  // that of the previous gathering, so this waits for the event.
  async function describe(description, servers) {
    let complete = false;
    complaints = [];
    refusing = new Set();
    pc.onicecandidate = ({ candidate }) => (complete ||= !candidate);
    pc.setConfiguration(configuration(servers)); // for the candidates to be gathered now
    await pc.setLocalDescription(description);
    const relayed = () => pc.localDescription.sdp.includes(" typ relay ");
    const { iceServers } = configuration(servers);
    while (!complete && !relayed() && refusing.size < iceServers.length) {
      await sleep(10);
    }
    for (let waited = 0; !complete && waited < patience; waited += 10) {
      await sleep(10);
    }
    if (!relayed()) {
      throw new Error(`no candidate: ${complaints.join("; ")}`);
    }
    return pc.localDescription.sdp;
  }

  // The local candidate in use. Only Firefox marks its pair; elsewhere the transport names it.
  async function local() {
    const stats = await pc.getStats();
    const [transport] = statsOf(stats, "transport");
    const pair = statsOf(stats, "candidate-pair").find((p) => p.selected) ?? stats.get(transport?.selectedCandidatePairId);
    return stats.get(pair?.localCandidateId);
  }

  function close() {
    clearInterval(timer);
    return pc?.close();
  }

  const party = {
    begin(bytes, rate) {
      size = bytes;
      interval = 1000 / rate;
    },
    async offer(servers, restart) {
      if (!restart) {
        connect(servers, true);
      }
      return describe(await pc.createOffer({ iceRestart: restart }), servers);
    },
    async answer(servers, restart, sdp) {
      if (!restart) {
        connect(servers, false);
      }
      await pc.setRemoteDescription({ type: "offer", sdp });
      return describe(await pc.createAnswer(), servers);
    },
    async accept(sdp) {
      await pc.setRemoteDescription({ type: "answer", sdp });
    },
    async state() {
      const { address, port } = (await local()) ?? {};
      return {
        connection: pc.connectionState,
        channel: channel?.readyState ?? "connecting",
        relay: address && `${address}:${port}`,
        current: pc.localDescription.sdp.includes(` ${address} ${port} typ relay`),
      };
    },
    async counts() {
      const { relay } = pc ? await party.state() : {};
      if (last !== undefined) {
        counts.longestGap = Math.max(counts.longestGap, performance.now() - last);
      }
      roundTrips.sort((a, b) => a - b);
      const taken = { ...counts, relay, roundTrip: roundTrips[Math.floor(roundTrips.length / 2)] };
      reset();
      return taken;
    },
    quiet() {
      clearInterval(timer);
    },
    close,
  };
  return party;
}
