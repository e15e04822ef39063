"""What is said about broken policies: a sound one, one edit, and every line that must come back."""

from __future__ import annotations

import pytest

from budget_guard.policy.loading import parse_document

SOUND = """\
version: 1
name: desk
timezone: America/New_York
account:
  billing: {GLBX.MDP3: {live: metered}}
  prices: {GLBX.MDP3: {live: {mbo: 2.16}}}
  credits: [{amount: 125 USD, expires: 2027-03-01, covers: historical}]
budgets:
  - name: account
    month: 200 USD
    alerts: [50%, 80%]
  - name: live
    match: {dataset: GLBX.MDP3, mode: live}
    session: {usd: 8, hours: 8}
streams:
  nq:
    dataset: GLBX.MDP3
    schema: mbo
    symbols: [NQ.v.0]
    stype_in: continuous
    windows: [{session: regular, from: open - 5m, to: close + 5m}]
    volume: {gib_per_session: 0.41}
    cheaper: [mbp-1]
    recovery: {replay: 15m, spend: 0.50 USD, client_replay: 0m}
    fallback: [{name: other, run: [python, other.py]}]
historical:
  max_request: 5 USD
  approve_above: 2 USD
  all_symbols: false
"""

# (what is replaced, by what, what is said)
BROKEN: list[tuple[str, str, list[str]]] = [
    ("version: 1", "version: 2", ["1:10: unknown version '2': this program reads `version: 1`"]),
    ("version: 1\n", "", ["1:1: 'version' is missing: write it, as `version: 1`"]),
    (
        "name: desk",
        "nme: desk",
        [
            "1:1: 'name' is missing: write it, as `name: nq-futures`",
            "2:1: unknown key 'nme'; did you mean 'name'?",
        ],
    ),
    (
        "name: desk",
        "name: our desk",
        [
            "2:7: 'our desk' is not a name: up to 64 letters, digits, '-', '_' and '.', as nq-mbo",
        ],
    ),
    ("name: desk", "name: [desk]", ["2:7: 'name' should be text, found a list"]),
    (
        "America/New_York",
        "America/NewYork",
        [
            "3:11: unknown time zone 'America/NewYork'; did you mean 'America/New_York'?",
        ],
    ),
    (
        "America/New_York",
        "../../etc/passwd",
        [
            "3:11: unknown time zone '../../etc/passwd': write as America/New_York",
        ],
    ),
    (
        "account:\n",
        "extends: account.yaml\naccount:\n",
        [
            "4:1: 'extends' is not supported yet by this version; put account and budgets in this file",
        ],
    ),
    (
        "live: metered",
        "live: flat",
        ["5:24: a flat account needs its plan: one of standard, plus, unlimited"],
    ),
    (
        "live: metered",
        "live: flat, plan: standart",
        [
            "5:43: unknown plan 'standart'; did you mean 'standard'?",
        ],
    ),
    ("live: metered", "plan: plus", ["5:24: a plan belongs to `live: flat`, found `live: metered`"]),
    (
        "live: metered",
        "live: none, license: 36.50 USD",
        [
            "5:24: a license belongs to live data, found `live: none`",
        ],
    ),
    (
        "mbo: 2.16",
        "mbo: 2.16 USD",
        [
            "6:36: '2.16 USD' is not a plain number: write digits alone, as 8 or 0.5",
        ],
    ),
    ("mbo: 2.16", 'mbo: "2.16"', ["6:36: '2.16' is in quotes: write the number without them"]),
    ("mbo: 2.16", "mbo: 2.16e0", ["6:36: '2.16e0' is not a plain number: write digits alone, as 8 or 0.5"]),
    ("mbo: 2.16", "mbo: -1", ["6:36: '-1' is negative: write digits alone, as 8 or 0.5"]),
    (
        "mbo: 2.16",
        "mbo: 0",
        [
            "6:36: note: a price of 0 means that no money limit ever stops live mbo of GLBX.MDP3",
        ],
    ),
    (
        "prices: {GLBX.MDP3: {live",
        "prices: {GLBX.MDP3: {lve",
        [
            "6:24: unknown mode 'lve'; did you mean 'live'?",
        ],
    ),
    ("expires: 2027-03-01", "expires: 2027-02-30", ["7:40: '2027-02-30': there is no such day"]),
    ("expires: 2027-03-01", "expires: 1.3.2027", ["7:40: '1.3.2027' is not a date: write as 2026-12-24"]),
    (
        "  - name: account\n    month: 200 USD\n",
        "  - name: account\n",
        [
            "9:5: budget 'account' has no limit: write session, day, week, month or total, as "
            "`month: 200 USD`, or `month: unlimited`",
        ],
    ),
    ("200 USD", "200", ["10:12: '200' has no unit: write `200 USD`"]),
    ("200 USD", "$200 GiB", ["10:12: '$200 GiB' has two units: write one, as `200 USD`"]),
    (
        "200 USD",
        "200 EUR",
        [
            "10:12: '200 EUR': a limit is in USD, GiB, hours or connections, as `200 USD`",
        ],
    ),
    (
        "200 USD",
        "60 GB",
        [
            "10:12: '60 GB': say GiB (2**30 bytes, which is the vendor's GB): `60 GiB`",
        ],
    ),
    ("200 USD", "1,5 USD", ["10:12: '1,5 USD' is not an amount: write a number and its unit, as `200 USD`"]),
    ("200 USD", "-200 USD", ["10:12: '-200 USD' is negative: write a number and its unit, as `200 USD`"]),
    (
        "200 USD",
        "1000000000000 USD",
        [
            "10:12: '1000000000000 USD' is too large; `unlimited` says that there is no limit",
        ],
    ),
    ("200 USD", "0.0000000001 USD", ["10:12: '0.0000000001 USD' has more than 9 digits after the point"]),
    ("200 USD", "0 USD", ["10:12: note: a limit of 0 refuses everything that budget 'account' matches"]),
    ("200 USD", "{}", ["10:12: 'month' is empty: write a limit, as `200 USD` or {usd: 8, hours: 8}"]),
    (
        "200 USD",
        "200 USD\n    month: 300 USD",
        ["11:5: 'month' is written twice (first on line 10): keep one"],
    ),
    ("month: 200 USD", "month:", ["10:5: 'month' has no value: write one or leave the key out"]),
    (
        "month: 200 USD",
        "monthly: 200 USD",
        ["10:5: unknown key 'monthly'; did you mean 'month'?"],
    ),
    ("50%", "50", ["11:14: '50' is not a percentage: write as 80%"]),
    ("50%", "150%", ["11:14: '150%': an alert is above 0% and at most 100%"]),
    (
        "name: live",
        "name: account",
        [
            "12:11: a second budget is named 'account' (first on line 9): each needs its own name",
        ],
    ),
    (
        "match: {dataset: GLBX.MDP3, ",
        "match: {dataset: XNAS.ITCH, ",
        [
            "13:12: budget 'live' matches nothing: no stream has dataset XNAS.ITCH with mode live",
        ],
    ),
    (
        "match: {dataset: GLBX.MDP3, ",
        "match: {stream: nqq, ",
        [
            "13:21: budget 'live' matches the unknown stream 'nqq'; did you mean 'nq'?",
        ],
    ),
    (
        "match: {dataset: GLBX.MDP3, ",
        "match: {dataset: [], ",
        ["13:22: 'dataset' is empty: write at least one"],
    ),
    (
        "match: {dataset: GLBX.MDP3, ",
        "match: {symbol: NQ.v.0, ",
        [
            "13:13: unknown key 'symbol'; valid: dataset, mode, schema, stream",
        ],
    ),
    ("usd: 8,", "usd: 8 USD,", ["14:20: '8 USD' is not a plain number: write digits alone, as 8 or 0.5"]),
    ("hours: 8", "connections: 1.5", ["14:36: '1.5' is not a whole number"]),
    ("hours: 8", "hour: 8", ["14:23: unknown key 'hour'; did you mean 'hours'?"]),
    (
        "  nq:\n",
        "  nq mbo:\n",
        [
            "16:3: 'nq mbo' is not a name: up to 64 letters, digits, '-', '_' and '.', as nq-mbo",
        ],
    ),
    ("    dataset: GLBX.MDP3\n", "", ["16:3: 'dataset' is missing: write it, as `dataset: GLBX.MDP3`"]),
    (
        "dataset: GLBX.MDP3\n",
        "dataset: glbx.mdp\n",
        [
            "17:14: unknown dataset 'glbx.mdp'; did you mean 'GLBX.MDP3'?",
        ],
    ),
    ("schema: mbo", "schema: mb0", ["18:13: unknown schema 'mb0'; did you mean 'mbo'?"]),
    (
        "schema: mbo",
        "schema: mbp-1",
        [
            "23:15: 'mbp-1' is the stream's own schema: list others to propose instead",
        ],
    ),
    ("    symbols: [NQ.v.0]\n", "", ["16:3: 'symbols' is missing: write it, as `symbols: [NQ.v.0]`"]),
    ("[NQ.v.0]", "[]", ["19:14: 'symbols' is empty: write at least one"]),
    (
        "[NQ.v.0]",
        "[NQ.v.0, ALL_SYMBOLS]",
        [
            "16:3: ALL_SYMBOLS is the whole dataset: write it alone, or the symbols without it",
        ],
    ),
    (
        "[NQ.v.0]",
        "NQ.v.0,ES.v.0",
        [
            "19:14: 'NQ.v.0,ES.v.0' is not a symbol: write each as an item of its own, as [ESZ6, NQZ6]",
        ],
    ),
    ("[NQ.v.0]", "[NQ.v.0, NQ.v.0]", ["19:23: symbol 'NQ.v.0' is written twice: keep one"]),
    (
        "[NQ.v.0]",
        "[NQZ6]",
        [
            "19:15: 'NQZ6' is not a continuous symbol: write root, roll rule (c, n or v) and rank, as NQ.v.0",
        ],
    ),
    (
        "    stype_in: continuous\n",
        "",
        [
            "19:15: 'NQ.v.0' is a continuous symbol: write `stype_in: continuous`",
        ],
    ),
    (
        "stype_in: continuous",
        "stype_in: parent",
        [
            "19:15: 'NQ.v.0' is not a parent symbol: write root and kind, as ES.FUT or ES.OPT",
        ],
    ),
    (
        "stype_in: continuous",
        "stype_in: continous",
        [
            "20:15: unknown stype_in 'continous'; did you mean 'continuous'?",
        ],
    ),
    (
        "    windows: [{session: regular, from: open - 5m, to: close + 5m}]\n",
        "",
        [
            "16:3: live stream 'nq' has no windows: write when it may run, as "
            "`windows: {session: regular}`, or `windows: always`",
        ],
    ),
    (
        "{session: regular, from: open - 5m, to: close + 5m}",
        "regular",
        [
            "21:15: each of 'windows' should be `always` or a mapping, as {session: regular}, found 'regular'",
        ],
    ),
    ("session: regular", "session: rth", ["21:25: unknown session 'rth'; valid: extended, full, regular"]),
    (
        "session: regular",
        'hours: "9:30-16:00"',
        [
            '21:15: `from` and `to` belong to a session; with hours write "18:00-18:30" alone',
        ],
    ),
    (
        "session: regular, ",
        "",
        [
            '21:15: a window has either `session`, as {session: regular}, or `hours`, as {hours: "18:00-18:30"}',
        ],
    ),
    (
        "to: close + 5m",
        "to: open - 5m",
        ["21:15: the window's end is not after its start: it would never open"],
    ),
    (
        "to: close + 5m",
        "to: 16:00",
        [
            "21:55: '16:00' is not an end of a session: write as `open`, `open - 5m` or `close + 5m`",
        ],
    ),
    (
        "to: close + 5m",
        "to: clos + 5m",
        [
            "21:55: 'clos + 5m' should start with open or close; did you mean 'close'?",
        ],
    ),
    ("to: close + 5m", "to: close + 5", ["21:55: '5' is not a duration: write as 15m, 90s or 1h30m"]),
    ("to: close + 5m", "to: close + 25h", ["21:55: 'close + 25h': an offset is at most 24h"]),
    (
        "session: regular, from: open - 5m, to: close + 5m",
        "hours: 18-19",
        [
            "21:23: '18-19' should be two times of day, as \"18:00-18:30\"",
        ],
    ),
    (
        "session: regular, from: open - 5m, to: close + 5m",
        "hours: 18:00-18:00",
        [
            "21:23: '18:00-18:00': the end is not after the start; a whole day is \"00:00-24:00\"",
        ],
    ),
    (
        "session: regular, from: open - 5m, to: close + 5m",
        "hours: 25:00-26:00",
        [
            "21:23: '25:00-26:00': times of day run from 00:00 to 24:00",
        ],
    ),
    (
        "session: regular,",
        "session: regular, days: [mon, friday],",
        [
            "21:46: unknown day 'friday'; did you mean 'fri'?",
        ],
    ),
    (
        "{gib_per_session: 0.41}",
        "0.41",
        [
            "22:13: 'volume' should be a mapping, as {gib_per_session: 0.41}, found '0.41'",
        ],
    ),
    ("gib_per_session: 0.41", "gib_per_session: 0", ["22:31: 'gib_per_session' should be above 0"]),
    ("cheaper: [mbp-1]", "cheaper: [mbp1]", ["23:15: unknown schema 'mbp1'; did you mean 'mbp-1'?"]),
    ("replay: 15m", "replay: 15", ["24:24: '15' is not a duration: write as 15m, 90s or 1h30m"]),
    ("replay: 15m", "replay: 200h", ["24:24: '200h' is longer than 7 days"]),
    ("spend: 0.50 USD", "spend: 0.50", ["24:36: '0.50' has no unit: write `0.50 USD`"]),
    (
        "[python, other.py]",
        "python other.py",
        [
            "25:35: 'run' should be a list, as [a, b], found 'python other.py'",
        ],
    ),
    (
        "stype_in: continuous\n",
        "stype_in: continuous\n    mode: historical\n",
        [
            "13:12: budget 'live' matches nothing: no stream has dataset GLBX.MDP3 with mode live",
            "25:15: note: 'recovery' is for live streams and does nothing in historical stream 'nq'",
            "26:15: note: 'fallback' is for live streams and does nothing in historical stream 'nq'",
        ],
    ),
    (
        "live: metered",
        "live: none",
        [
            "16:3: note: every live request is refused: account.billing says that GLBX.MDP3 is not bought live",
        ],
    ),
    ("max_request: 5 USD", "max_request: 5", ["27:16: '5' has no unit: write `5 USD`"]),
    ("max_request: 5 USD", "max_request: 5 GiB", ["27:16: '5 GiB' is not in USD: write money as `200 USD`"]),
    (
        "max_request: 5 USD",
        "max_request: 1 USD",
        [
            "28:18: note: nothing is ever asked: what is above `approve_above` is above `max_request` too, and refused",
        ],
    ),
    ("all_symbols: false", "all_symbols: no", ["29:16: 'all_symbols' should be true or false, found 'no'"]),
]


@pytest.mark.parametrize(("old", "new", "expected"), BROKEN, ids=[f"{new[:40]!r}" for _, new, _ in BROKEN])
def test_a_broken_policy_gets_exactly_these_words_at_this_place(
    old: str, new: str, expected: list[str]
) -> None:
    assert old in SOUND
    loaded = parse_document(SOUND.replace(old, new, 1), "p")
    assert [str(problem).removeprefix("p:") for problem in loaded.problems] == expected
    assert (loaded.policy is None) == any(": note: " not in line for line in expected)


def test_the_sound_policy_has_no_problem() -> None:
    loaded = parse_document(SOUND, "p")
    assert loaded.problems == ()
    assert loaded.policy is not None


def test_every_problem_is_reported_at_once_and_in_file_order() -> None:
    text = SOUND
    for old, new in (
        ("200 USD", "200"),
        ("schema: mbo", "schema: mb0"),
        ("max_request: 5 USD", "max_request: 5"),
        ("name: desk", "name: a b"),
    ):
        text = text.replace(old, new, 1)
    loaded = parse_document(text, "p")
    assert [problem.place.line for problem in loaded.problems] == [2, 10, 18, 27]


SECTIONS: list[tuple[str, list[str]]] = [
    (
        "budgets: []",
        ["2:10: a policy needs a budget: write one, as {name: account, month: 200 USD} (or `unlimited`)"],
    ),
    ("budgets: 200 USD", ["2:10: 'budgets' should be a list, as [a, b], found '200 USD'"]),
    (
        "budgets: {name: account, month: 200 USD}",
        ["2:10: 'budgets' should be a list, as [a, b], found a mapping"],
    ),
    (
        "budgets: [200 USD]",
        ["2:11: each of 'budgets' should be a mapping, as {name: account}, found '200 USD'"],
    ),
    ("budgets:", ["2:1: 'budgets' has no value: write one or leave the key out"]),
]


@pytest.mark.parametrize(("budgets", "expected"), SECTIONS)
def test_a_policy_without_a_budget_is_a_problem_however_it_is_written(
    budgets: str, expected: list[str]
) -> None:
    streams = "streams: {a: {dataset: GLBX.MDP3, schema: mbo, symbols: ALL_SYMBOLS, windows: always}}"
    loaded = parse_document(f"version: 1\n{budgets}\n{streams}\nname: x\n", "p")
    assert [str(problem).removeprefix("p:") for problem in loaded.problems] == expected


def test_a_policy_without_budgets_and_streams_says_so_once_each() -> None:
    loaded = parse_document("version: 1\nname: x\n", "p")
    assert [problem.message.split(":")[0] for problem in loaded.problems] == [
        "a policy needs a budget",
        "a policy needs a stream",
    ]


def test_hours_without_a_time_zone_are_read_as_utc_with_a_note() -> None:
    text = SOUND.replace("timezone: America/New_York\n", "").replace(
        "{session: regular, from: open - 5m, to: close + 5m}", "{hours: 14:30-15:00}"
    )
    loaded = parse_document(text, "p")
    assert [str(problem) for problem in loaded.problems] == [
        "p:20:15: note: these hours are UTC, because the policy has no `timezone`"
    ]
    assert loaded.policy is not None
    assert loaded.policy.timezone == "UTC"
