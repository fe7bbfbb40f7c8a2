"""One end of an ICE connection with libnice in GStreamer, over relayed candidates alone.

libnice_agent.py controlling|controlled HOST PORT udp|tcp USERNAME PASSWORD COUNT

Writes its description as a line of JSON, reads that of the other end, sends Opus by nicesink and plays what comes from
nicesrc. After COUNT packets it writes what its jitter buffer counted, and goes on until its input ends.
"""

import json
import os
import sys
import traceback

import gi

gi.require_version("Gst", "1.0")
gi.require_version("Nice", "0.1")
from gi.repository import GLib, Gst, Nice

STREAM_COMPONENT = 1  # RTP; RTCP would be 2
CAPS = "application/x-rtp,media=audio,clock-rate=48000,encoding-name=OPUS,payload=96"


def die(*error):
    """Ends the process: the loop would go on after an exception in one of its callbacks."""
    traceback.print_exception(*error)
    os._exit(1)


sys.excepthook = die


def write(value):
    print(json.dumps(value), flush=True)


def main(role, host, port, transport, username, password, count):
    Gst.init(None)
    loop = GLib.MainLoop()
    agent = Nice.Agent.new(loop.get_context(), Nice.Compatibility.RFC5245)
    agent.set_properties(controlling_mode=role == "controlling", force_relay=True, upnp=False, ice_tcp=False)
    stream = agent.add_stream(1)
    agent.set_stream_name(stream, "audio")
    kind = {"udp": Nice.RelayType.UDP, "tcp": Nice.RelayType.TCP}[transport]
    agent.set_relay_info(stream, STREAM_COMPONENT, host, int(port), username, password, kind)

    pipeline = Gst.parse_launch(
        f"nicesrc name=in ! {CAPS} ! rtpjitterbuffer name=jitter ! rtpopusdepay ! opusdec ! fakesink"
    )
    pipeline.get_by_name("in").set_property("agent", agent)
    pipeline.get_by_name("in").set_properties(stream=stream, component=STREAM_COMPONENT)
    media = Gst.parse_launch(
        "audiotestsrc is-live=true samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=1 ! "
        "opusenc ! rtpopuspay ! nicesink name=out sync=false async=false"
    )
    media.get_by_name("out").set_properties(agent=agent, stream=stream, component=STREAM_COMPONENT)
    pipeline.set_state(Gst.State.PLAYING)

    def gathered(*_):
        write({"sdp": agent.generate_local_sdp()})
        agent.parse_remote_sdp(json.loads(sys.stdin.readline())["sdp"])

    def changed(_agent, _stream, _component, state):
        if state == Nice.ComponentState.READY:
            media.set_state(Gst.State.PLAYING)

    def counted():
        stats = pipeline.get_by_name("jitter").get_property("stats")
        pushed, lost = stats.get_uint64("num-pushed").value, stats.get_uint64("num-lost").value
        if pushed < int(count):
            return True
        [candidate] = [line.split() for line in agent.generate_local_sdp().splitlines() if line.startswith("a=candidate:")]
        write({"relay": f"{candidate[4]}:{candidate[5]}", "type": candidate[7], "received": pushed, "lost": lost})
        GLib.io_add_watch(sys.stdin, GLib.PRIORITY_DEFAULT, GLib.IOCondition.IN | GLib.IOCondition.HUP, lambda *_: loop.quit())
        return False

    agent.connect("candidate-gathering-done", gathered)
    agent.connect("component-state-changed", changed)
    if not agent.gather_candidates(stream):
        sys.exit("no candidates can be gathered")
    GLib.timeout_add(50, counted)
    loop.run()
    pipeline.set_state(Gst.State.NULL)
    media.set_state(Gst.State.NULL)
    agent.close_async(lambda *_: loop.quit())
    loop.run()


main(*sys.argv[1:])
