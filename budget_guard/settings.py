"""The environment, read once: the one place in the package that looks at it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import platformdirs

from budget_guard.addresses import is_loopback
from budget_guard.clock import Clock, RehearsalClock, SystemClock, parse_instant
from budget_guard.errors import SettingsError

# An IPv6 address needs its brackets: without them nobody can tell where the port begins.
_HOST_PORT = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\[\]:\s]+)):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says; a gateway of None is the vendor's own, the historical one is a base URL."""

    key: str | None = field(repr=False)
    ledger_url: str = field(repr=False)  # a password may stand in it
    live_gateway: tuple[str, int] | None
    historical_gateway: str | None
    now: datetime | None
    data_dir: Path
    cache_dir: Path
    metadata_dir: Path | None = None  # None: with everything else in `cache_dir`

    @property
    def metadata_path(self) -> Path:
        """Where the vendor's answers are kept."""
        return (self.metadata_dir or self.cache_dir) / "metadata.sqlite"

    def clock(self) -> Clock:
        return SystemClock() if self.now is None else RehearsalClock(self.now)

    @property
    def rehearsal(self) -> bool:
        """True when the guard's clock is not the real one."""
        return self.now is not None

    @property
    def upstream_is_local(self) -> bool:
        """True when every upstream is a server on this machine's loopback: nothing real can be spent."""
        return _is_local(self.live_gateway, self.historical_gateway)


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the environment. Raises SettingsError that names the variable and what would be right."""
    env = os.environ if environ is None else environ
    data_dir = Path(platformdirs.user_data_dir("budget-guard"))
    live = _parse_host_port(env.get("BUDGET_GUARD_LIVE_GATEWAY"))
    historical = _parse_base_url(env.get("BUDGET_GUARD_HISTORICAL_GATEWAY"))
    now = _parse_now(env.get("BUDGET_GUARD_NOW"), live, historical)
    # What a local server sells is not real: by default it does not meet real spending in one ledger.
    name = "ledger-local.sqlite" if _is_local(live, historical) else "ledger.sqlite"
    return Settings(
        key=env.get("DATABENTO_API_KEY") or None,
        ledger_url=env.get("BUDGET_GUARD_LEDGER") or f"sqlite:///{data_dir / name}",
        live_gateway=live,
        historical_gateway=historical,
        now=now,
        data_dir=data_dir,
        cache_dir=Path(platformdirs.user_cache_dir("budget-guard")),
    )


def _is_local(live: tuple[str, int] | None, historical: str | None) -> bool:
    if live is None or historical is None:
        return False
    return is_loopback(live[0]) and is_loopback(urlsplit(historical).hostname or "")


def _parse_host_port(text: str | None) -> tuple[str, int] | None:
    if not text:
        return None
    match = _HOST_PORT.fullmatch(text)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise SettingsError(
            f"BUDGET_GUARD_LIVE_GATEWAY is {text!r}; it should be host:port, as 127.0.0.1:13000 or [::1]:13000"
        )
    return match["v6"] or match["host"], int(match["port"])


def _parse_base_url(text: str | None) -> str | None:
    if not text:
        return None
    if not _is_base_url(text):
        raise SettingsError(
            f"BUDGET_GUARD_HISTORICAL_GATEWAY is {text!r}; it should be a base URL, as http://127.0.0.1:8080"
        )
    return text.rstrip("/")


def _is_base_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not match, a port that is none
        return False


def _parse_now(text: str | None, live: tuple[str, int] | None, historical: str | None) -> datetime | None:
    if not text:
        return None
    try:
        now = parse_instant(text)
    except ValueError as error:
        raise SettingsError(f"BUDGET_GUARD_NOW: {error}") from None
    hosts = [
        None if live is None else live[0],
        None if historical is None else urlsplit(historical).hostname,
    ]
    strangers = [host for host in hosts if host is not None and not is_loopback(host)]
    if strangers or not any(hosts):
        raise SettingsError(
            "BUDGET_GUARD_NOW is for rehearsals: it needs BUDGET_GUARD_LIVE_GATEWAY and/or "
            "BUDGET_GUARD_HISTORICAL_GATEWAY on this machine's loopback, and no other upstream"
        )
    return now
