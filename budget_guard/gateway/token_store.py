"""The tokens that a guard's gateway accepts: a list of who has one, and apart from it the secret that makes them.

The list holds no token: each is made from the secret and its row. A row is never removed, so that no id comes twice
and a revoked one stays revoked.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from budget_guard.clock import instant_text, parse_instant
from budget_guard.disk import flush_folder
from budget_guard.errors import BudgetGuardError
from budget_guard.gateway.wire.tokens import make_listed_token, new_secret

LIST_NAME = "tokens.json"
SECRET_NAME = "token-secret"
SECRET_BYTES = 32
_VERSION = 1
_OTHERS_MAY = stat.S_IRWXG | stat.S_IRWXO
# What tells that the list was written again: it is replaced, never changed in place.
Mark = tuple[int, int, int]


class TokenError(BudgetGuardError):
    """The list of tokens or its secret cannot be used: the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class ListedToken:
    """One row of the list. `stream` None: any stream of the policy. `name` says whose it is."""

    id: str
    policy: str
    stream: str | None
    name: str
    made_utc: datetime
    revoked_utc: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """The row as it is kept and shown; the token itself is not in it."""
        return {
            "id": self.id,
            "policy": self.policy,
            "stream": self.stream,
            "name": self.name,
            "made_utc": instant_text(self.made_utc),
            "revoked_utc": None if self.revoked_utc is None else instant_text(self.revoked_utc),
        }


class TokenStore:
    """The list and its secret in a folder. Nothing is read or made before it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._list = folder / LIST_NAME
        self._secret = folder / SECRET_NAME

    @property
    def place(self) -> Path:
        """Where the list is."""
        return self._list

    def mark(self) -> Mark | None:
        """What changes with every change of the list; None while there is none. Raises TokenError."""
        try:
            found = self._list.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TokenError(f"{self._list} cannot be read: {error.strerror}") from error
        return found.st_ino, found.st_mtime_ns, found.st_size

    def rows(self) -> list[ListedToken]:
        """Every row, revoked ones too, in the order in which they were made. Raises TokenError."""
        try:
            text = self._list.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise TokenError(f"{self._list} cannot be read: {error}") from error
        return _parse(text, self._list)

    def token_of(self, row: ListedToken, secret: bytes | None = None) -> str:
        """The token of a row. Raises TokenError."""
        return make_listed_token(secret or self.secret(), row.id, row.policy, row.stream)

    def make(self, policy: str, stream: str | None, name: str, now: datetime) -> tuple[ListedToken, str]:
        """A new row and its token, which is nowhere else. Raises TokenError."""
        with self._locked():
            rows = self.rows()
            secret = self.secret() if rows else self._secret_or_new()
            known = {row.id for row in rows}
            token_id = next(one for one in iter(lambda: secrets.token_hex(4), "") if one not in known)
            row = ListedToken(token_id, policy, stream, name, now)
            self._write([*rows, row])
            return row, self.token_of(row, secret)

    def revoke(self, token_id: str, now: datetime) -> ListedToken:
        """Revoke a token for good; one that was revoked stays as it is. Raises TokenError for an unknown id."""
        with self._locked():
            rows = self.rows()
            found = next((row for row in rows if row.id == token_id), None)
            if found is None:
                raise TokenError(f"there is no token {token_id} in {self._list}")
            if found.revoked_utc is not None:
                return found
            revoked = replace(found, revoked_utc=now)
            self._write([revoked if row is found else row for row in rows])
            return revoked

    def secret(self) -> bytes:
        """What the tokens are made from. Raises TokenError when it is missing, or not this user's alone."""
        try:
            with self._secret.open("rb") as file:
                if os.fstat(file.fileno()).st_mode & _OTHERS_MAY:
                    raise TokenError(
                        f"{self._secret} may be read by others, who could make tokens: `chmod 600` it, or delete both "
                        f"it and {self._list} and make new tokens"
                    )
                secret = file.read()
        except FileNotFoundError:
            raise TokenError(
                f"{self._secret} is missing: without it nobody can tell the tokens of {self._list}; "
                "restore it, or delete the list too and make new tokens"
            ) from None
        except OSError as error:
            raise TokenError(f"{self._secret} cannot be read: {error.strerror}") from error
        if len(secret) != SECRET_BYTES:
            raise TokenError(f"{self._secret} is not the {SECRET_BYTES} bytes that it should be: restore it")
        return secret

    def _secret_or_new(self) -> bytes:
        with contextlib.suppress(FileExistsError):
            self._replace(self._secret, new_secret(), exclusive=True)
        return self.secret()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time, on this machine. What the file system refuses becomes a TokenError."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self._list.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
            finally:
                os.close(lock)
        except OSError as error:
            raise TokenError(f"{self._folder} cannot be written: {error.strerror or error}") from error

    def _write(self, rows: list[ListedToken]) -> None:
        body = {"version": _VERSION, "tokens": [row.as_json() for row in rows]}
        self._replace(self._list, (json.dumps(body, indent=1) + "\n").encode())

    def _replace(self, path: Path, data: bytes, *, exclusive: bool = False) -> None:
        """Put a whole file in place, on the disk before anybody can see it."""
        if exclusive and path.exists():
            raise FileExistsError(path)
        passing = path.with_name(f"{path.name}.{os.getpid()}")
        descriptor = os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        passing.replace(path)
        flush_folder(path.parent)


def _parse(text: str, path: Path) -> list[ListedToken]:
    """The rows of a list. One that cannot be understood might be a revocation, so none is passed over."""
    try:
        body = json.loads(text)
        if body["version"] != _VERSION:
            raise TokenError(
                f"{path} was written by another version of budget-guard (version {body['version']})"
            )
        rows = [_row(one) for one in body["tokens"]]
    except (ValueError, KeyError, TypeError) as error:
        raise TokenError(
            f"{path} is not a list of tokens ({error}): restore it, or delete it and make new tokens"
        ) from error
    if len({row.id for row in rows}) != len(rows):
        raise TokenError(f"{path} has an id twice: restore it, or delete it and make new tokens")
    return rows


def _row(one: dict[str, Any]) -> ListedToken:
    revoked, stream = one["revoked_utc"], one["stream"]
    return ListedToken(
        id=str(one["id"]),
        policy=str(one["policy"]),
        stream=None if stream is None else str(stream),
        name=str(one["name"]),
        made_utc=parse_instant(one["made_utc"]),
        revoked_utc=None if revoked is None else parse_instant(revoked),
    )
