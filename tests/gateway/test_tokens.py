"""Tokens of a service: what is kept of them, whom they let in, and that revoked is revoked."""

from __future__ import annotations

import json
import logging
import math
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from budget_guard.gateway.keyring import Bearer, Keyring, ListedKeyring
from budget_guard.gateway.token_store import LIST_NAME, SECRET_NAME, TokenError, TokenStore
from budget_guard.gateway.wire import tokens
from budget_guard.gateway.wire.lines import KEY_TAIL_LENGTH, challenge_response
from budget_guard.gateway.wire.tokens import TOKEN_LENGTH

NOW = datetime(2026, 11, 23, 15, tzinfo=UTC)
CHALLENGE = "0123456789abcdef"


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    return TokenStore(tmp_path / "data")


def change_list(store: TokenStore, old: str, new: str) -> None:
    text = store.place.read_text()
    assert old in text
    store.place.write_text(text.replace(old, new))


# --- what is kept -------------------------------------------------------------------------------------------


def test_the_list_holds_no_token_and_both_files_are_their_owners_alone(store: TokenStore) -> None:
    _, token = store.make("desk", "nq", "ada", NOW)
    assert len(token) == TOKEN_LENGTH and token.startswith("db-")
    folder = store.place.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in (LIST_NAME, SECRET_NAME):
        path = folder / name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        # No run of it that would help to guess the rest.
        assert token[3:-KEY_TAIL_LENGTH].encode() not in path.read_bytes()


def test_a_token_can_be_made_again_from_list_and_secret_and_from_neither_alone(store: TokenStore) -> None:
    row, token = store.make("desk", "nq", "ada", NOW)
    assert store.token_of(row) == token
    (store.place.parent / SECRET_NAME).write_bytes(bytes(32))
    assert store.token_of(row) != token


def test_two_tokens_of_the_same_person_for_the_same_stream_are_different(store: TokenStore) -> None:
    assert store.make("desk", "nq", "ada", NOW)[1] != store.make("desk", "nq", "ada", NOW)[1]


def test_makers_at_the_same_time_lose_no_row(store: TokenStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: store.make("desk", None, f"n{n}", NOW), range(24)))
    assert {row.id for row, _ in made} == {row.id for row in store.rows()}
    assert len({token for _, token in made}) == 24


def test_the_end_of_a_token_that_the_protocol_shows_leaves_more_than_a_key_of_128_bits(
    store: TokenStore,
) -> None:
    """The answer to the challenge shows the last five letters to whoever reads the network."""
    _, token = store.make("desk", None, "ada", NOW)
    unknown = len(token) - len("db-") - KEY_TAIL_LENGTH
    assert unknown * math.log2(len(tokens._ALPHABET)) > 128


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_secret_that_others_may_read_is_not_used(store: TokenStore, mode: int) -> None:
    store.make("desk", None, "ada", NOW)
    (store.place.parent / SECRET_NAME).chmod(mode)
    with pytest.raises(TokenError, match="may be read by others"):
        store.make("desk", None, "ada", NOW)


def test_a_missing_secret_is_not_made_anew_under_a_list(store: TokenStore) -> None:
    store.make("desk", None, "ada", NOW)
    (store.place.parent / SECRET_NAME).unlink()
    with pytest.raises(TokenError, match="is missing"):
        store.make("desk", None, "eve", NOW)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a list of tokens"),
        ("[]", "not a list of tokens"),
        ('{"version": 1}', "not a list of tokens"),
        ('{"version": 2, "tokens": []}', "another version"),
        ('{"version": 1, "tokens": [{"id": "a"}]}', "not a list of tokens"),
    ],
)
def test_a_list_that_cannot_be_understood_is_an_error_and_not_an_empty_one(
    store: TokenStore, text: str, reason: str
) -> None:
    store.make("desk", None, "ada", NOW)
    store.place.write_text(text)
    with pytest.raises(TokenError, match=reason):
        store.rows()


def test_a_list_with_an_id_twice_is_an_error(store: TokenStore) -> None:
    store.make("desk", None, "ada", NOW)
    body = json.loads(store.place.read_text())
    body["tokens"] *= 2
    store.place.write_text(json.dumps(body))
    with pytest.raises(TokenError, match="twice"):
        store.rows()


# --- revoked ------------------------------------------------------------------------------------------------


def test_revoking_keeps_the_row_and_the_first_time(store: TokenStore) -> None:
    row, _ = store.make("desk", None, "ada", NOW)
    first = store.revoke(row.id, NOW)
    assert first.revoked_utc == NOW
    assert store.revoke(row.id, NOW.replace(hour=20)) == first
    assert store.rows() == [first]


def test_an_unknown_id_cannot_be_revoked(store: TokenStore) -> None:
    with pytest.raises(TokenError, match="no token 1234"):
        store.revoke("1234", NOW)


# --- whom they let in ---------------------------------------------------------------------------------------


def test_a_listed_token_is_known_by_its_answer_and_by_itself(store: TokenStore) -> None:
    row, token = store.make("desk", "nq", "ada", NOW)
    keyring = ListedKeyring(store, "desk")
    for bearer in (
        keyring.who_answered(challenge_response(CHALLENGE, token), CHALLENGE),
        keyring.who_showed(token),
    ):
        assert bearer == Bearer(token, "nq", row.id, "ada")
        assert keyring.still_holds(bearer)
    assert token not in repr(bearer) and token not in str(bearer)


def test_a_token_of_another_policy_is_a_strangers(store: TokenStore) -> None:
    _, token = store.make("other", None, "ada", NOW)
    assert ListedKeyring(store, "desk").who_showed(token) is None


def test_a_keyring_sees_what_is_made_and_revoked_while_it_is_used(store: TokenStore) -> None:
    keyring = ListedKeyring(store, "desk")
    row, token = store.make("desk", None, "ada", NOW)
    bearer = keyring.who_showed(token)
    assert bearer is not None
    store.revoke(row.id, NOW)
    found = keyring.who_showed(token)
    assert found is not None and found.revoked
    assert not keyring.still_holds(bearer)


@pytest.mark.parametrize(("old", "new"), [('"stream": "nq"', '"stream": null'), ('"desk"', '"other"')])
def test_who_changes_what_a_row_allows_makes_its_token_worthless(
    store: TokenStore, old: str, new: str
) -> None:
    _, token = store.make("desk", "nq", "ada", NOW)
    change_list(store, old, new)
    assert ListedKeyring(store, "desk").who_showed(token) is None
    assert ListedKeyring(store, "other").who_showed(token) is None


def test_while_the_list_cannot_be_read_nobody_new_comes_in_and_nobody_is_thrown_out(
    store: TokenStore, caplog: pytest.LogCaptureFixture
) -> None:
    _, token = store.make("desk", None, "ada", NOW)
    keyring = ListedKeyring(store, "desk")
    bearer = keyring.who_showed(token)
    assert bearer is not None
    whole = store.place.read_text()
    store.place.write_text(whole[:-20])
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert keyring.who_showed(token) is None
        assert keyring.still_holds(bearer)
        store.place.write_text(whole)
        assert keyring.who_showed(token) == bearer
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_a_deleted_list_lets_nobody_in(store: TokenStore) -> None:
    _, token = store.make("desk", None, "ada", NOW)
    keyring = ListedKeyring(store, "desk")
    bearer = keyring.who_showed(token)
    assert bearer is not None
    store.place.unlink()
    assert keyring.who_showed(token) is None
    assert not keyring.still_holds(bearer)


def test_every_token_is_compared_whichever_is_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a wrong or a right guess costs does not depend on where it stands."""
    bearers = [Bearer(f"db-{n:029}", None, str(n)) for n in range(5)]
    compared: list[str] = []

    def same_token(given: str, token: str) -> bool:
        compared.append(token)
        return given == token

    monkeypatch.setattr("budget_guard.gateway.keyring.same_token", same_token)
    for given in (bearers[0].token, "nothing"):
        compared.clear()
        Keyring(bearers).who_showed(given)
        assert compared == [bearer.token for bearer in bearers]
