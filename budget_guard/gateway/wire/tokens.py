"""Guard tokens: what a client shows where the API key stood.

A token looks like a key (the challenge needs it whole) and is made by HMAC from a secret, so that the relay can
make it again and never has to store it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets

TOKEN_LENGTH = 32
_PREFIX = "db-"
_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz0123456789"
ANY_STREAM = ""


def new_secret() -> bytes:
    """A fresh secret: tokens made with it end with the process that holds it."""
    return secrets.token_bytes(32)


def make_token(secret: bytes, stream: str = ANY_STREAM) -> str:
    """The token of a stream, or of every stream of the policy: 32 characters, like a key."""
    return _token_of(secret, f"budget-guard:{stream}")


def make_listed_token(secret: bytes, token_id: str, policy: str, stream: str | None) -> str:
    """The token of an id in a list. Its use is a part of it: changing the list makes it worthless."""
    return _token_of(secret, "budget-guard-list:" + json.dumps([token_id, policy, stream]))


def _token_of(secret: bytes, purpose: str) -> str:
    digest = hmac.new(secret, purpose.encode(), hashlib.sha256).digest()
    number = int.from_bytes(digest, "big")
    letters = []
    for _ in range(TOKEN_LENGTH - len(_PREFIX)):
        number, index = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[index])
    return _PREFIX + "".join(letters)


def same_token(given: str, token: str) -> bool:
    """Compared in constant time."""
    return hmac.compare_digest(given.encode(), token.encode())
