"""Which machine this is, and which of its runs: a meter file outlives its process, but not a crash of the machine."""

from __future__ import annotations

import re
import socket
from functools import cache
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MOUNTS = Path("/proc/self/mountinfo")
# File systems of other machines: their locks and their memory maps may mean nothing to a third one.
_REMOTE = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "beegfs", "gfs2", "ocfs2"}
)
_REMOTE_FUSE = frozenset(
    {"fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone", "fuse.cifs", "fuse.davfs"}
)


def host_name() -> str:
    """This host's name, as holds carry it."""
    return socket.gethostname()


@cache
def boot_id() -> str:
    """An id that changes when the machine starts; `""` where the system has none (macOS): then nothing proves it."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def network_file_system(path: Path) -> str | None:
    """The kind of network file system that a path lies on, as `nfs4`; None on a local one, or where nobody can tell."""
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="replace")
        resolved = path.resolve()
    except OSError:
        return None
    kind = file_system_at(mounts, resolved)
    return kind if kind in _REMOTE or kind in _REMOTE_FUSE else None


def file_system_at(mounts: str, path: Path) -> str:
    """The kind of the file system at an absolute path, by the text of Linux's `mountinfo`; empty if it is unknown."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        columns = before.split()
        if len(columns) < 5 or not after:
            continue
        place = Path(_unescaped(columns[4]))
        depth = len(place.parts)
        # The last of several mounts on one folder is the one that shows.
        if depth >= best and path.is_relative_to(place):
            best, kind = depth, after.split()[0]
    return kind


def _unescaped(text: str) -> str:
    """Blanks and the like stand as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
