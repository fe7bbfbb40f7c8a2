"""A session of Python's imaplib: imaplib_session.py PORT CAFILE USER PASSWORD FILE tls|starttls

Appends FILE to INBOX, fetches it back, asks for annotations, and prints what it found as JSON.
"""

import hashlib
import imaplib
import json
import ssl
import sys

port, ca_file, user, password, path, security = sys.argv[1:]
context = ssl.create_default_context(cafile=ca_file)
if security == "tls":
    client = imaplib.IMAP4_SSL("localhost", int(port), ssl_context=context, timeout=60)
else:
    client = imaplib.IMAP4("localhost", int(port), timeout=60)
    client.starttls(context)
found = {"before": client.capabilities}


def ok(answer):
    status, data = answer
    if status != "OK":
        sys.exit(f"{status} {data}")
    return data


ok(client.login(user, password))
found["after"] = ok(client.capability())[0].decode()

with open(path, "rb") as file:
    message = file.read()
ok(client.append("INBOX", r"(\Seen)", None, message))
ok(client.append("INBOX", None, None, b"Subject: second {5}\r\n\r\nbody\r\n"))
found["messages"] = int(ok(client.select())[0])
fetched = ok(client.fetch("1:2", "(UID RFC822.SIZE BODY.PEEK[])"))
found["sizes"] = [len(part[1]) for part in fetched if isinstance(part, tuple)]
found["sha256"] = hashlib.sha256(fetched[0][1]).hexdigest()
found["search"] = ok(client.uid("SEARCH", "SUBJECT", '"second"'))[0].decode()
ok(client.store("2", "+FLAGS", r"(\Deleted)"))
found["expunged"] = ok(client.expunge())[0].decode()


def texts(data):
    return [part.decode() for item in data for part in (item if isinstance(item, tuple) else (item,)) if part is not None]


imaplib.Commands["GETMETADATA"] = imaplib.Commands["SETMETADATA"] = ("AUTH", "SELECTED")
for name, arguments in {
    "quoted": ('""', "(/shared/comment /shared/vendor/deltachat/turn /shared/nothing)"),
    "single": ('""', "/shared/vendor/deltachat/turn"),
    "maxsize": ("(MAXSIZE 3)", '""', "/shared/comment"),
}.items():
    ok(client._simple_command("GETMETADATA", *arguments))
    found[name] = texts(client._untagged_response("OK", [None], "METADATA")[1])
client.literal = b"/shared/vendor/deltachat/turn"  # sent as {n} after the arguments, when the server says "+"
ok(client._simple_command("GETMETADATA", '""'))
found["literal"] = texts(client._untagged_response("OK", [None], "METADATA")[1])
found["set"] = client.xatom("SETMETADATA", '""', '(/shared/vendor/deltachat/turn "x")')[0]
client.logout()
print(json.dumps(found))
