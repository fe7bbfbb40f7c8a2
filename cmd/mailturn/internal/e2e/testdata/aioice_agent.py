"""One end of an ICE connection with aioice, over relayed candidates alone.

aioice_agent.py controlling|controlled HOST PORT udp|tcp|tls USERNAME PASSWORD COUNT

Writes its description as a line of JSON, reads that of the other end, sends COUNT datagrams and waits for as many. Then it
writes what it counted, and ends when its input does.
"""

import asyncio
import json
import sys

import aioice
from aioice.ice import TransportPolicy

SIZE = 700  # bytes of a datagram


def write(value):
    print(json.dumps(value), flush=True)


async def read():
    return json.loads(await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline))


async def main(role, host, port, transport, username, password, count):
    connection = aioice.Connection(
        ice_controlling=role == "controlling",
        turn_server=(host, int(port)),
        turn_username=username,
        turn_password=password,
        turn_transport="udp" if transport == "udp" else "tcp",
        turn_ssl=transport == "tls",
        transport_policy=TransportPolicy.RELAY,
    )
    await connection.gather_candidates()
    write(
        {
            "username": connection.local_username,
            "password": connection.local_password,
            "candidates": [c.to_sdp() for c in connection.local_candidates],
        }
    )
    remote = await read()
    for line in remote["candidates"]:
        await connection.add_remote_candidate(aioice.Candidate.from_sdp(line))
    await connection.add_remote_candidate(None)
    connection.remote_username = remote["username"]
    connection.remote_password = remote["password"]
    await connection.connect()

    async def send():
        for number in range(int(count)):
            await connection.send(number.to_bytes(4, "big") * (SIZE // 4))
            await asyncio.sleep(0.005)

    async def receive():
        return {await connection.recv() for _ in range(int(count))}

    _, received = await asyncio.gather(send(), receive())
    candidate = connection.local_candidates[0]
    write({"relay": f"{candidate.host}:{candidate.port}", "type": candidate.type, "received": len(received)})
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await connection.close()


asyncio.run(main(*sys.argv[1:]))
