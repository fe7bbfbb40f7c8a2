"""One end of a WebRTC connection with aiortc, over relayed candidates alone.

aiortc_agent.py controlling|controlled HOST PORT udp|tcp|tls USERNAME PASSWORD COUNT

Writes its description as a line of JSON, which answers that of the other end if it is the controlled one. Sends COUNT
messages over a data channel that retransmits nothing, and echoes those of the other end. Then it writes what it counted,
and ends when its input does.
"""

import asyncio
import json
import statistics
import sys
import time

import aioice
from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCSessionDescription
from aiortc import rtcicetransport

SIZE = 700  # bytes of a message
INTERVAL = 0.005  # seconds between messages
PATIENCE = 3  # seconds to wait for messages that are missing


def write(value):
    print(json.dumps(value), flush=True)


async def read():
    line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    return RTCSessionDescription(**json.loads(line))


class RelayedConnection(aioice.Connection):
    """What aiortc is to use: it has no iceTransportPolicy, and the library below it does."""

    def __init__(self, **kwargs):
        super().__init__(transport_policy=aioice.ice.TransportPolicy.RELAY, **kwargs)


async def main(role, host, port, transport, username, password, count):
    count = int(count)
    rtcicetransport.Connection = RelayedConnection
    scheme, query = ("turns", "tcp") if transport == "tls" else ("turn", transport)
    server = RTCIceServer(f"{scheme}:{host}:{port}?transport={query}", username, password)
    connection = RTCPeerConnection(RTCConfiguration([server]))
    opened = asyncio.Event()
    sent, received, round_trips = {}, set(), []
    size = 0

    def use(channel):
        nonlocal size

        @channel.on("message")
        def message(text):
            nonlocal size
            size += len(text)
            number = int(text[1:])
            if text[0] == "m":
                received.add(number)
                channel.send(f"e{number}")
            else:
                round_trips.append(time.monotonic() - sent[number])

        if channel.readyState == "open":
            opened.set()
        channel.on("open", opened.set)
        return channel

    if role == "controlling":
        channel = use(connection.createDataChannel("test", ordered=False, maxRetransmits=0))
        await connection.setLocalDescription(await connection.createOffer())
    else:
        channel = None

        @connection.on("datachannel")
        def datachannel(theirs):
            nonlocal channel
            channel = use(theirs)

        await connection.setRemoteDescription(await read())
        await connection.setLocalDescription(await connection.createAnswer())
    description = connection.localDescription
    write({"type": description.type, "sdp": description.sdp})
    if role == "controlling":
        await connection.setRemoteDescription(await read())

    await opened.wait()
    for number in range(count):
        sent[number] = time.monotonic()
        channel.send(f"m{number} ".ljust(SIZE))
        await asyncio.sleep(INTERVAL)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and (len(received) < count or len(round_trips) < count):
        await asyncio.sleep(0.01)

    [candidate] = [line.split() for line in description.sdp.splitlines() if line.startswith("a=candidate:")]
    write(
        {
            "relay": f"{candidate[4]}:{candidate[5]}",
            "type": candidate[7],
            "received": len(received),
            "lost": count - len(received),
            "bytes": size,
            "roundTrip": 1000 * statistics.median(round_trips),
        }
    )
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await connection.close()


asyncio.run(main(*sys.argv[1:]))
