"""`budget-guard gateway` as a running service, for tests."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import databento

from tests.streaming.rehearsal import TIMEOUT_S, Rehearsal

NQ: dict[str, str] = {"dataset": "GLBX.MDP3", "schema": "mbo", "stype_in": "continuous", "symbols": "NQ.v.0"}


@dataclass
class Service:
    """A process that serves, and what it says."""

    process: subprocess.Popen[str]
    facts: dict[str, Any]
    lines: list[str] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def live_port(self) -> int:
        return int(self.facts["live_port"])

    @property
    def http_url(self) -> str:
        return str(self.facts["http_url"])

    @property
    def said(self) -> str:
        return "\n".join(self.lines)

    def listen(self) -> None:
        """Keep what it says on stderr."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()

    def wait_until_said(self, text: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: text in self.said, TIMEOUT_S), self.said

    def end(self, number: int = signal.SIGTERM) -> int:
        """Its exit code after a signal."""
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT_S)

    def live(self, token: str) -> tuple[databento.Live, list[Any], threading.Event]:
        """The vendor's own client, streaming NQ; what it was given; set when there were a hundred records."""
        client = databento.Live(key=token, gateway="127.0.0.1", port=self.live_port)
        got: list[Any] = []
        enough = threading.Event()

        def take(record: Any) -> None:
            got.append(record)
            if len(got) == 100:
                enough.set()

        client.subscribe(**NQ)  # type: ignore[arg-type]
        client.add_callback(take)
        client.start()
        return client, got, enough


def make_token(rehearsal: Rehearsal, *options: str) -> tuple[str, str]:
    """A token's id, and the token."""
    done = rehearsal.guard("token", "make", str(rehearsal.policy), *options, "--format", "json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    return made["id"], made["token"]


def starting(
    rehearsal: Rehearsal,
    *options: str,
    env: Mapping[str, str] | None = None,
    python: str = sys.executable,
    **popen: Any,
) -> subprocess.Popen[str]:
    """The command, just started on free ports, unless options say otherwise."""
    ports = [] if "--live-port" in options else ["--live-port", "0", "--http-port", "0"]
    command = [python, "-m", "budget_guard", "gateway", str(rehearsal.policy), *ports, *options]
    chosen = rehearsal.env() if env is None else dict(env)
    return subprocess.Popen(
        [*command, "--format", "json"],
        env=chosen,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=rehearsal.folder,
        **popen,
    )


@contextmanager
def serving(rehearsal: Rehearsal, *options: str, **starting_options: Any) -> Iterator[Service]:
    """A service that listens."""
    process = starting(rehearsal, *options, **starting_options)
    assert process.stdout is not None and process.stderr is not None
    listener = threading.Thread(target=lambda: None)
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        service = Service(process, json.loads(line))
        listener = threading.Thread(target=service.listen, daemon=True)
        listener.start()
        yield service
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if listener.ident is not None:
            listener.join()
        process.stdout.close()
        process.stderr.close()


def open_files(pid: int) -> int:
    """How many descriptors a process has."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def memory_kib(pid: int) -> int:
    """The memory of a process that is in use."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))
