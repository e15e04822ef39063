"""Programs to rehearse: live clients with nothing but the standard library, so that they start at once."""

from __future__ import annotations

import sys

_CONNECT = """
import hashlib, os, socket, sys, time
host, port = os.environ["BUDGET_GUARD_RELAY"].split(":")
key = os.environ["DATABENTO_API_KEY"]
peer = socket.create_connection((host, int(port)))
lines = peer.makefile("rb")
lines.readline()
challenge = lines.readline().decode().strip().removeprefix("cram=")
digest = hashlib.sha256(f"{challenge}|{key}".encode()).hexdigest()
peer.sendall(f"auth={digest}-{key[-5:]}|dataset=GLBX.MDP3|encoding=dbn|ts_out=0\\n".encode())
lines.readline()
peer.sendall(b"schema=trades|stype_in=continuous|symbols=NQ.v.0\\nstart_session=0\\n")
"""

READ_ALL = _CONNECT + "size = 0\nwhile data := lines.read1(1 << 16): size += len(data)\nprint('read', size)\n"
CRASH = _CONNECT + "lines.read1(100)\nprint('crashing')\nsys.exit(3)\n"
# Reads to the end, and then does not end.
LINGER = READ_ALL + "time.sleep(600)\n"
# Reads on until it is told to end.
TELL = "import signal\n" + _CONNECT + "lines.read1(100)\nprint('ready', flush=True)\nsignal.pause()\n"
# Buys a minute of history before it connects, and is refused a month of it.
HISTORY = (
    """
import base64, os, urllib.error, urllib.parse, urllib.request
def buy(end):
    form = dict(dataset="GLBX.MDP3", schema="trades", symbols="NQ.v.0", stype_in="continuous", encoding="dbn",
                start="2026-11-20T15:00", end=end)
    token = base64.b64encode((os.environ["DATABENTO_API_KEY"] + ":").encode()).decode()
    request = urllib.request.Request(
        os.environ["BUDGET_GUARD_HTTP"] + "/v0/timeseries.get_range", urllib.parse.urlencode(form).encode(),
        {"Authorization": "Basic " + token})
    try:
        urllib.request.urlopen(request).read()
    except urllib.error.HTTPError as error:
        print(error.code)
buy("2026-11-20T15:01")
buy("2026-11-20T20:00")
"""
    + READ_ALL
)
IDLE = "print('idle')"
ENVIRONMENT = "import json, os\nprint(json.dumps(dict(os.environ)))"


def python(code: str) -> list[str]:
    """A command that runs some code in a small interpreter."""
    return [sys.executable, "-S", "-c", code]
