"""Asks a socket for TURN credentials as chatmail's metadata daemon does: N times concurrently, each within 5 seconds."""
import socket
import sys
import threading

path, readers = sys.argv[1], int(sys.argv[2])
lines, errors = [], []


def read():
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(5)
            s.connect(path)
            with s.makefile("rb") as f:
                lines.append(f.readline().decode("utf-8").strip())
    except OSError as e:
        errors.append(repr(e))


threads = [threading.Thread(target=read) for _ in range(readers)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print("\n".join(lines))
if errors:
    sys.exit("\n".join(errors))
