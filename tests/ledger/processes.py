"""Other processes that work on a ledger: started as scripts, so that they can be killed like any program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Run Python code in a process of its own, with the repository on its path."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def read_line(process: subprocess.Popen[str]) -> str:
    """The next line that a process prints; an error when it ended instead."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"the process ended with {process.wait()}"
    return line.strip()


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def end(process: subprocess.Popen[str]) -> int:
    """Close a process's input, wait for its end and give back its code."""
    process.communicate(timeout=60)
    return process.returncode


def kill(process: subprocess.Popen[str]) -> None:
    """kill -9, and wait until it is dead."""
    process.kill()
    process.communicate(timeout=60)
