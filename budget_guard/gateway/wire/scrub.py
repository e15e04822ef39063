"""Takes the key out of what the vendor says: an error text may echo it, in clear or as HTTP carries it."""

from __future__ import annotations

import base64
from urllib.parse import quote

# A text shorter than this is no key, and would be found in places that have nothing to do with it.
KEY_LENGTH_MIN = 12


class Scrubber:
    """Replaces every form of the key by stars, as many as it has letters: a record keeps its length."""

    def __init__(self, key: str) -> None:
        self._forms: tuple[bytes, ...] = ()
        if len(key) >= KEY_LENGTH_MIN:
            raw = key.encode()
            # As HTTP Basic has it: the key as the user, with an empty password, whole groups of three bytes only.
            basic = base64.b64encode(raw + b":")
            forms = {raw, quote(key, safe="").encode(), basic[: len(raw) // 3 * 4], basic}
            self._forms = tuple(sorted(forms, key=len, reverse=True))

    def data(self, data: bytes) -> bytes:
        """The same bytes without the key."""
        for form in self._forms:
            if form in data:
                data = data.replace(form, b"*" * len(form))
        return data

    def text(self, text: str) -> str:
        """The same text without the key."""
        for form in self._forms:
            text = text.replace(form.decode(), "*" * len(form))
        return text
