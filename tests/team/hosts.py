"""Hosts of a team: each with a name, folders and caches of its own, one vendor and one ledger for all of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import budget_guard
from benchmarks.desk import children

POLICY = """\
version: 1
name: team
timezone: UTC
account: {{name: team}}
budgets:
  - {{name: account, month: {month_usd} USD}}
streams:
  nq:
    dataset: GLBX.MDP3
    schema: mbo
    symbols: [NQ.v.0]
    stype_in: continuous
    windows: always
"""

TIMEOUT_S = 60.0
_ROOT = Path(__file__).parents[2]
_GUARD = Path(budget_guard.__file__).with_name("__main__.py")
_CLIENT = Path(__file__).with_name("client.py")

# A `sitecustomize` that lets a process believe that the machine has another name.
_NAMED = Path(__file__).with_name("named")


@dataclass
class Program:
    """A guarded program that runs on a host: the guard's process, and under `run` its child's."""

    process: subprocess.Popen[str]
    errors: Path  # where its stderr goes
    child: int | None = None

    def await_ready(self) -> None:
        """Wait until it could stream. Raises RuntimeError when it has ended before."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line:
            self.close()
            raise RuntimeError(f"it did not start: {self.said}")
        self.child = int(line)

    def go(self) -> None:
        """Let it stream."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """kill -9, the guard first: under `run` it is the process itself, else it stands beside the program."""
        beside = children(self.process.pid)
        is_guard = self.child != self.process.pid
        for pid in (self.process.pid, *beside) if is_guard else (*beside, self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """Wait for its end."""
        self.process.communicate(timeout=TIMEOUT_S)

    @property
    def said(self) -> str:
        return self.errors.read_text()


@dataclass
class Host:
    """A machine of the team. `prefix` is the command that leads into it; without one only its name is its own."""

    name: str
    folder: Path
    environment: dict[str, str]
    prefix: tuple[str, ...] = ()
    programs: list[Program] = field(default_factory=list)

    @classmethod
    def set_up(
        cls, name: str, folder: Path, month_usd: str, environment: dict[str, str], prefix: Sequence[str] = ()
    ) -> Host:
        """A host with a policy file in a folder of its own."""
        folder.mkdir(parents=True)
        policy = folder / "policy.yaml"
        policy.write_text(POLICY.format(month_usd=month_usd))
        kept = ("PATH", "VIRTUAL_ENV", "COVERAGE_PROCESS_START")
        return cls(
            name,
            folder,
            {
                **{key: os.environ[key] for key in kept if key in os.environ},
                "PYTHONPATH": os.pathsep.join([str(_NAMED), str(_ROOT)]),
                **({} if prefix else {"TEAM_HOST": name}),
                "HOME": str(folder),
                "XDG_DATA_HOME": str(folder / "data"),
                "XDG_CACHE_HOME": str(folder / "cache"),
                "TEAM_POLICY": str(policy),
                **environment,
            },
            tuple(prefix),
        )

    @property
    def policy(self) -> str:
        return self.environment["TEAM_POLICY"]

    def start_run(self) -> Program:
        """`budget-guard run POLICY -- python client.py plain`, which waits for `go`."""
        return self._start(_GUARD, "run", self.policy, "--", sys.executable, _CLIENT, "plain")

    def start_live(self) -> Program:
        """The same program with `budget_guard.Live` in its own process."""
        return self._start(_CLIENT, "mounted")

    def status(self) -> dict[str, Any]:
        """What `budget-guard status --format json` shows on this host; it settles what died here first."""
        done = subprocess.run(
            self._command(_GUARD, "status", self.policy, "--format", "json"),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        if done.returncode != 0:
            raise RuntimeError(f"status on {self.name}: {done.stderr}")
        with (self.folder / "status.log").open("a") as log:
            log.write(done.stdout + done.stderr)
        shown: dict[str, Any] = json.loads(done.stdout)
        return shown

    def close(self) -> None:
        for program in self.programs:
            if program.process.poll() is None:
                program.kill()

    def _start(self, script: Path, *arguments: object) -> Program:
        errors = self.folder / f"stderr-{len(self.programs)}.log"
        with errors.open("w") as err:
            process = subprocess.Popen(
                self._command(script, *arguments),
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
            )
        program = Program(process, errors)
        self.programs.append(program)
        return program

    def _command(self, script: Path, *arguments: object) -> list[str]:
        return [str(part) for part in (*self.prefix, sys.executable, script, *arguments)]
