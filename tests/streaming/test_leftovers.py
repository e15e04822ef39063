"""What a program leaves behind is known, and told from everything else. In a process of its own: it adopts orphans."""

from __future__ import annotations

import subprocess
import sys

import pytest

TIMEOUT_S = 60.0

ADOPTING = """
import os, select, signal, subprocess
from budget_guard.streaming.leftovers import Leftovers
before = subprocess.Popen(["sleep", "600"])
left = Leftovers()
# A shell that ends and leaves a program in the background, as a wrapper does that is sent SIGTERM.
wrapper = subprocess.Popen(["sh", "-c", "sleep 600 & echo $!"], stdout=subprocess.PIPE, text=True)
pid = int(wrapper.stdout.readline())
left.reap(wrapper.pid)
assert wrapper.wait() == 0
assert left.alive() == {pid}, (left.alive(), pid)
ended = os.pidfd_open(pid)
left.send(signal.SIGTERM)
assert select.select([ended], [], [], 20)[0]
assert left.alive() == set()
assert before.poll() is None
before.kill()
assert before.wait() == -9
print("good")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_CHILD_SUBREAPER is Linux's own")
def test_orphans_are_adopted_and_told_from_other_children() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ADOPTING], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.stdout == "good\n", done.stderr
