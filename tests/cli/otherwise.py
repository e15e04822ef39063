"""Running as an ordinary user: what root may see anyway says nothing about what others may."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.streaming.rehearsal import Rehearsal

ROOT = Path(__file__).parents[2]
# Two users that nobody is.
USER, OTHER_USER = 64321, 64322


@dataclass(frozen=True)
class Ordinary:
    """An interpreter for a user, and how to start it as that user: as this one, unless this one is root."""

    python: str
    options: dict[str, Any]
    environment: dict[str, str]

    def run(self, code: str, *arguments: str, **changes: Any) -> subprocess.CompletedProcess[str]:
        """A program of that user's."""
        options = {**self.options, **changes}
        command = [self.python, "-I", "-S", "-c", code, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/", **options)


def as_user(uid: int) -> dict[str, Any]:
    """How `subprocess` starts something as a user."""
    return {"user": uid, "group": uid, "extra_groups": []}


def ordinary() -> Ordinary:
    """Skips where root has no interpreter that others may use."""
    if os.geteuid() != 0:
        return Ordinary(sys.executable, {}, {})
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    paths = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
    environment = {"PYTHONPATH": os.pathsep.join(paths)}
    for found in (os.path.realpath(sys.executable), f"/usr/bin/python{version}"):
        if _runs(found, environment):
            return Ordinary(found, as_user(USER), environment)
    pytest.skip(f"NOT TESTED: this is root, and there is no Python {version} here that other users may run")


def _runs(python: str, environment: dict[str, str]) -> bool:
    """Whether an ordinary user can run this project with an interpreter."""
    command = [python, "-c", "import budget_guard.gateway.host, click, databento"]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, cwd="/", **as_user(USER))
    except OSError:
        return False
    return done.returncode == 0


@contextmanager
def rehearsal_of(user: Ordinary, rehearsal: Rehearsal) -> Iterator[Rehearsal]:
    """The same rehearsal in a folder that the user owns."""
    base = Path(tempfile.mkdtemp(prefix="budget-guard-"))
    try:
        moved = replace(rehearsal, folder=base / "desk")
        moved.folder.mkdir()
        moved.policy.write_text(rehearsal.policy.read_text())
        if user.options:
            for path in (base, *base.rglob("*")):
                os.chown(path, USER, USER)
        yield moved
    finally:
        shutil.rmtree(base, ignore_errors=True)
