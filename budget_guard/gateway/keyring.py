"""Whom a gateway lets in: tokens of its own process, or those of a list that may change while it runs."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from budget_guard.gateway.token_store import Mark, TokenError, TokenStore
from budget_guard.gateway.wire.lines import answers_challenge
from budget_guard.gateway.wire.tokens import same_token

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who holds a token. `stream` None: any of the policy. A token of this process has no id."""

    token: str = field(repr=False)
    stream: str | None = None
    id: str = ""
    name: str = ""
    revoked: bool = False

    def __str__(self) -> str:
        return f"token {self.id} ({self.name})" if self.name else f"token {self.id}" if self.id else "token"


class Keyring:
    """Finds the bearer of a token, whichever way it is shown; every token is compared, each in constant time."""

    def __init__(self, bearers: Iterable[Bearer]) -> None:
        self._bearers = tuple(bearers)

    @property
    def bearers(self) -> tuple[Bearer, ...]:
        return self._bearers

    def who_answered(self, response: str, challenge: str) -> Bearer | None:
        """Who answered the live protocol's challenge; who was revoked too."""
        found = None
        for bearer in self._bearers:
            if answers_challenge(response, challenge, bearer.token):
                found = bearer
        return found

    def who_showed(self, given: str) -> Bearer | None:
        """Who shows a token as it is; who was revoked too."""
        found = None
        for bearer in self._bearers:
            if same_token(given, bearer.token):
                found = bearer
        return found

    def still_holds(self, bearer: Bearer) -> bool:
        """Whether a bearer who was let in may stay."""
        return any(one.token == bearer.token and not one.revoked for one in self._bearers)

    def look(self) -> None:
        """See what has changed. Costs little when nothing has."""


class ListedKeyring(Keyring):
    """The tokens that a list holds for one policy.

    While the list cannot be read nobody new is let in, and who is in stays: an error of the disk revokes nobody.
    """

    def __init__(self, store: TokenStore, policy: str) -> None:
        """Raises TokenError when the list, or its secret, cannot be read."""
        super().__init__(())
        self._store = store
        self._policy = policy
        self._mark: Mark | None = None
        self._readable = True
        self._said = ""
        self._read()

    def look(self) -> None:
        try:
            if self._store.mark() != self._mark or not self._readable:
                self._read()
                if self._said:
                    log.warning("the list of tokens can be read again")
                self._readable, self._said = True, ""
        except TokenError as error:
            self._readable = False
            if str(error) != self._said:
                log.error("nobody new is let in: %s", error)
            self._said = str(error)

    def who_answered(self, response: str, challenge: str) -> Bearer | None:
        self.look()
        return super().who_answered(response, challenge) if self._readable else None

    def who_showed(self, given: str) -> Bearer | None:
        self.look()
        return super().who_showed(given) if self._readable else None

    def _read(self) -> None:
        mark = self._store.mark()
        rows = [row for row in self._store.rows() if row.policy == self._policy]
        secret = self._store.secret() if rows else b""
        self._bearers = tuple(
            Bearer(
                self._store.token_of(row, secret), row.stream, row.id, row.name, row.revoked_utc is not None
            )
            for row in rows
        )
        self._mark = mark
