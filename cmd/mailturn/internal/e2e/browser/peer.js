// One end of a call over a relay. The methods of peer are what a test can call.
"use strict";

const peer = (() => {
  let pc; // the RTCPeerConnection of the call
  let channel; // its data channel
  let candidateErrors; // why there are no relays
  let states; // the connection states that it went through
  let media; // the fake camera and microphone

  const pongs = new Map(); // by sequence number, for the pings that are under way

  function onMessage(event) {
    const [kind, sequence, ...padding] = event.data.split(" ");
    if (kind === "ping") {
      channel.send(["pong", sequence, ...padding].join(" "));
    } else {
      pongs.get(sequence)?.();
      pongs.delete(sequence);
    }
  }

  // Sets the local description, and returns it with all candidates. The gathering state says complete from before an ICE
  // restart, so this waits for the event.
  async function describe(description) {
    const gathered = new Promise((resolve) => {
      pc.addEventListener("icecandidate", (event) => event.candidate ?? resolve());
    });
    await pc.setLocalDescription(description);
    await gathered;
    return pc.localDescription.sdp;
  }

  function only(stats, type, matches = () => true) {
    return [...stats.values()].filter((s) => s.type === type && matches(s));
  }

  // The pair that carries the call. Only Firefox marks it; elsewhere the transport names it.
  function selectedPair(stats) {
    const [marked] = only(stats, "candidate-pair", (pair) => pair.selected);
    const [transport] = only(stats, "transport");
    return marked ?? stats.get(transport?.selectedCandidatePairId);
  }

  return {
    // Makes the connection, with what it sends, and no description yet.
    async open(iceServers) {
      media ??= await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 320, height: 240 } });
      pc?.close();
      pc = new RTCPeerConnection({ iceServers, iceTransportPolicy: "relay" });
      candidateErrors = [];
      states = [];
      pc.onicecandidateerror = (event) => candidateErrors.push(`${event.url}: ${event.errorCode} ${event.errorText}`);
      pc.onconnectionstatechange = () => states.push(pc.connectionState);
      pc.ontrack = (event) => (document.getElementById("remote").srcObject = event.streams[0]);
      for (const track of media.getTracks()) {
        pc.addTrack(track, media);
      }
      channel = pc.createDataChannel("chat", { negotiated: true, id: 0 });
      channel.onmessage = onMessage;
    },

    // These three are an exchange of descriptions whose candidates are complete.
    async offer(options) {
      return describe(await pc.createOffer(options ?? {}));
    },
    async answer(sdp) {
      await pc.setRemoteDescription({ type: "offer", sdp });
      return describe(await pc.createAnswer());
    },
    async accept(sdp) {
      await pc.setRemoteDescription({ type: "answer", sdp });
    },

    // Has the next description use other relays.
    setServers(iceServers) {
      pc.setConfiguration({ iceServers, iceTransportPolicy: "relay" });
    },

    // Waits until the selected pair is not that of the relayed address any more.
    async movedFrom(address) {
      for (;;) {
        const { state, localType, localAddress } = await this.report();
        if (state === "connected" && localType === "relay" && localAddress !== address) {
          return;
        }
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    },

    // Waits until the connection carries data, and throws when it fails.
    connected() {
      return new Promise((resolve, reject) => {
        const look = () => {
          if (pc.connectionState === "failed") {
            reject(new Error(`no connection; the relays said: ${candidateErrors.join("; ") || "nothing"}`));
          } else if (pc.connectionState === "connected" && channel.readyState === "open") {
            resolve();
          }
        };
        pc.addEventListener("connectionstatechange", look);
        channel.addEventListener("open", look);
        look();
      });
    },

    // Waits until the connection has noticed that it carries nothing.
    async interrupted() {
      while (pc.connectionState === "connected") {
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    },

    // Sends messages over the data channel, one after the answer to the other, and returns their round trip times in seconds.
    async ping(count, size) {
      const times = [];
      for (let i = 0; i < count; i++) {
        const sent = performance.now();
        await new Promise((resolve) => {
          pongs.set(String(i), resolve);
          channel.send(`ping ${i} ${"x".repeat(size)}`);
        });
        times.push((performance.now() - sent) / 1000);
      }
      return times;
    },

    // Waits until at least so many frames of video were decoded and so many packets of audio came.
    async received(frames, packets) {
      for (;;) {
        const { inbound } = await this.report();
        if (inbound.video?.framesDecoded >= frames && inbound.audio?.packetsReceived >= packets) {
          return;
        }
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    },

    // Stops the media that this end sends.
    async mute() {
      await Promise.all(pc.getSenders().map((sender) => sender.replaceTrack(null)));
    },

    // Waits until the media of both ends has stopped. Some RTCP and the checks of ICE go on.
    async settled() {
      for (let before; ; ) {
        const { bytesSent, bytesReceived } = (await this.report()).pair;
        const now = bytesSent + bytesReceived;
        if (now - before < 500) {
          return;
        }
        before = now;
        await new Promise((resolve) => setTimeout(resolve, 300));
      }
    },

    async report() {
      const stats = await pc.getStats();
      const pair = selectedPair(stats) ?? {};
      const local = stats.get(pair.localCandidateId) ?? {};
      const remote = stats.get(pair.remoteCandidateId) ?? {};
      const inbound = {};
      for (const s of only(stats, "inbound-rtp")) {
        const { packetsReceived, packetsLost, bytesReceived, framesDecoded, jitter } = s;
        inbound[s.kind] = { packetsReceived, packetsLost, bytesReceived, framesDecoded: framesDecoded ?? 0, jitter };
      }
      const host = local.address?.includes(":") ? `[${local.address}]` : local.address;
      const { bytesSent, bytesReceived, packetsSent, packetsReceived, totalRoundTripTime } = pair;
      const { requestsSent, requestsReceived, responsesSent, responsesReceived } = pair;
      return {
        state: pc.connectionState,
        states,
        candidateErrors,
        localType: local.candidateType,
        remoteType: remote.candidateType,
        relayProtocol: local.relayProtocol,
        localAddress: `${host}:${local.port}`,
        pair: {
          bytesSent,
          bytesReceived,
          packetsSent,
          packetsReceived,
          totalRoundTripTime,
          requestsSent,
          requestsReceived,
          responsesSent,
          responsesReceived,
        },
        inbound,
      };
    },

    close() {
      pc.close();
    },
  };
})();
