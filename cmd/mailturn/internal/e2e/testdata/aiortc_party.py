"""A program of package party, with aiortc. It cannot restart ICE."""

import asyncio
import json
import statistics
import sys
import time
import traceback

import aioice
from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCSessionDescription
from aiortc import rtcicetransport

ECHOES = 50  # one message in so many is echoed
HIGH_WATER = 64 << 10  # bytes waiting in the data channel at which no more messages are sent, since nothing gets through


def log(text):
    print(text, file=sys.stderr, flush=True)


class RelayedConnection(aioice.Connection):
    """What aiortc is to use: it has no iceTransportPolicy, and the library below it does."""

    def __init__(self, **kwargs):
        super().__init__(transport_policy=aioice.ice.TransportPolicy.RELAY, **kwargs)


class Party:
    def __init__(self):
        self.connection = self.channel = self.sender = None
        self.next = 0  # number of the next message
        self.asked = {}  # when the messages left whose echoes are still due, by number
        self.last = None  # when the last message came, or when the first channel opened
        self.reset()

    def reset(self):
        self.numbers = {"sent": 0, "received": 0, "bytes": 0, "longestGap": 0}
        self.round_trips = []

    def begin(self, size, rate):
        self.size, self.rate = size, rate

    async def connect(self, servers, offers):
        """Makes a new connection. The end that offers makes the data channel."""
        await self.close()
        servers = [RTCIceServer(s["urls"], s["username"], s["credential"]) for s in servers]
        connection = self.connection = RTCPeerConnection(RTCConfiguration(servers))
        connection.on("connectionstatechange", lambda: log(f"connection {connection.connectionState}"))
        self.channel = None
        if offers:
            self.use(connection.createDataChannel("party", ordered=False, maxRetransmits=0))
        else:
            connection.on("datachannel", self.use)

    def use(self, channel):
        self.channel = channel
        channel.on("message", lambda text: self.take(channel, text))
        self.sender = asyncio.create_task(self.send(channel))

    async def send(self, channel):
        while channel.readyState == "connecting":
            await asyncio.sleep(0.01)
        self.asked = {}  # what the last channel lost stays lost
        self.last = self.last or time.monotonic()
        due = time.monotonic()
        while channel.readyState == "open":
            if channel.bufferedAmount <= HIGH_WATER:
                if self.next % ECHOES == 0:
                    self.asked[self.next] = time.monotonic()
                channel.send(f"m{self.next} ".ljust(self.size))
                self.next += 1
                self.numbers["sent"] += 1
            due = max(due + 1 / self.rate, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    def take(self, channel, text):
        number, now = int(text[1:]), time.monotonic()
        if text[0] == "e":
            if number in self.asked:
                self.round_trips.append(now - self.asked.pop(number))
            return
        self.gap(now)
        self.last = now
        self.numbers["received"] += 1
        self.numbers["bytes"] += len(text)
        if number % ECHOES == 0:
            channel.send(f"e{number}")

    def gap(self, now):
        if self.last is not None:
            self.numbers["longestGap"] = max(self.numbers["longestGap"], 1000 * (now - self.last))

    async def offer(self, servers, restart):
        if restart:
            raise NotImplementedError("aiortc cannot restart ICE")
        await self.connect(servers, True)
        return await self.describe(await self.connection.createOffer())

    async def answer(self, servers, restart, sdp):
        if restart:
            raise NotImplementedError("aiortc cannot restart ICE")
        await self.connect(servers, False)
        await self.connection.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        return await self.describe(await self.connection.createAnswer())

    async def describe(self, description):
        try:
            await self.connection.setLocalDescription(description)
        except (aioice.stun.TransactionError, OSError) as error:  # from the relay
            raise ConnectionError("no candidate") from error
        sdp = self.connection.localDescription.sdp
        if "typ relay" not in sdp:
            raise ConnectionError("no candidate")
        return sdp

    async def accept(self, sdp):
        await self.connection.setRemoteDescription(RTCSessionDescription(sdp, "answer"))

    def state(self):
        # There is no getStats for candidates.
        pair = self.connection.sctp.transport.transport._connection._nominated.get(1)
        local = pair and pair.local_candidate
        return {
            "connection": self.connection.connectionState,
            "channel": self.channel.readyState if self.channel else "connecting",
            "relay": f"{local.host}:{local.port}" if local else "",
            "current": bool(local) and f" {local.host} {local.port} typ relay" in self.connection.localDescription.sdp,
        }

    def counts(self):
        self.gap(time.monotonic())
        counts = {**self.numbers, "roundTrip": 1000 * statistics.median(self.round_trips) if self.round_trips else 0}
        if self.connection:
            counts["relay"] = self.state()["relay"]
        self.reset()
        return counts

    def quiet(self):
        if self.sender:
            self.sender.cancel()

    async def close(self):
        if self.connection:
            self.quiet()
            await self.connection.close()


async def main():
    rtcicetransport.Connection = RelayedConnection
    party = Party()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        request = json.loads(line)
        answer = {"id": request["id"]}
        try:
            value = getattr(party, request["method"])(*request["args"])
            answer["value"] = await value if asyncio.iscoroutine(value) else value
        except Exception as error:
            answer["error"] = "".join(traceback.format_exception(error))
        print(json.dumps(answer), flush=True)
    await party.close()


asyncio.run(main())
