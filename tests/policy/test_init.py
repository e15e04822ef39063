"""`init`: templates with values filled in, commented, checked, and never over a file that is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from budget_guard.cli import main
from budget_guard.loading import check_policy
from budget_guard.policy.filling import fill, written
from budget_guard.policy.reading import read_text
from budget_guard.policy.templates import template_names, template_summary, template_text


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def init(*args: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["init", *args])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_data_that_is_named_is_filled_into_the_template_for_it(folder: Path) -> None:
    data = ("--dataset", "XNAS.ITCH", "--schema", "mbo", "--symbols", "AAPL, MSFT")
    assert init("a.yaml", *data, "--budget", "75 USD", "--name", "stocks") == 0
    loaded = check_policy("a.yaml")
    assert loaded.problems == ()
    assert loaded.policy is not None
    stream = loaded.policy.streams["main"]
    assert (stream.dataset, stream.schema, stream.symbols, stream.stype_in) == (
        "XNAS.ITCH", "mbo", ("AAPL", "MSFT"), "raw_symbol",
    )  # fmt: skip
    assert (loaded.policy.name, loaded.policy.timezone) == ("stocks", "America/New_York")
    assert loaded.policy.budgets[0].limits[0].amount == 75
    text = (folder / "a.yaml").read_text()
    assert text.count("#") == template_text("live").count("#")
    assert "policies/live.yaml" not in text


@pytest.mark.parametrize(
    ("symbols", "stype_in"),
    [
        ("ES.v.0,NQ.c.1", "continuous"),
        ("ES.FUT", "parent"),
        ("ESZ6,NQ.v.0X", "raw_symbol"),
        ("ALL_SYMBOLS", "raw_symbol"),
    ],
)
def test_the_type_of_symbols_is_what_they_look_like(symbols: str, stype_in: str) -> None:
    assert init("--symbols", symbols) == 0
    policy = check_policy("budget-guard.yaml").policy
    assert policy is not None
    assert policy.streams["main"].stype_in == stype_in


def test_a_dataset_brings_its_exchange_s_time_zone_and_one_without_hours_runs_always() -> None:
    assert init("a.yaml", "--dataset", "GLBX.MDP3", "--symbols", "ES.v.0") == 0
    policy = check_policy("a.yaml").policy
    assert policy is not None
    assert policy.timezone == "America/Chicago"
    assert (
        init("b.yaml", "--dataset", "IFEU.IMPACT", "--symbols", "BRN.FUT", "--timezone", "Europe/London") == 0
    )
    other = check_policy("b.yaml")
    assert other.problems == ()
    assert other.policy is not None
    assert other.policy.timezone == "Europe/London"


@pytest.mark.parametrize("template", template_names())
def test_budget_name_and_time_zone_can_be_filled_into_every_template(template: str) -> None:
    options = ("--budget", "1234.50 USD", "--timezone", "Asia/Tokyo", "--name", "mine")
    assert init("a.yaml", "--template", template, *options) == 0
    policy = check_policy("a.yaml").policy
    assert policy is not None
    assert (policy.name, policy.timezone) == ("mine", "Asia/Tokyo")
    assert any(str(limit.amount) == "1234.50" for limit in policy.budgets[0].limits)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--budget", "100"), "nothing is written: '100' has no unit: write `100 USD`"),
        (("--timezone", "EDT"), "unknown time zone 'EDT'; did you mean 'America/New_York'?"),
        (("--symbols", "ES.v.0", "--schema", "mb0"), "unknown schema 'mb0'; did you mean 'mbo'?"),
        (("--symbols", "ES.v.0", "--stype-in", "parent"), "'ES.v.0' is not a parent symbol"),
        (("--symbols", ","), "'symbols' is empty"),
        (("--dataset", "GLBX.MDP3"), "--dataset GLBX.MDP3 needs its --symbols"),
        (("--template", "full-feed", "--symbols", "ES.v.0"), "leave --template out"),
        (("--name", "a: b\nc"), "is not a name"),
    ],
)
def test_values_that_check_would_refuse_are_refused_and_nothing_is_written(
    options: tuple[str, ...], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(*options) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert list(folder.glob("*.yaml")) == []


def test_a_file_that_is_there_is_never_overwritten_with_options_either(folder: Path) -> None:
    (folder / "budget-guard.yaml").write_text("mine")
    assert init("--budget", "5 USD") == 2
    assert (folder / "budget-guard.yaml").read_text() == "mine"


def test_the_list_names_every_template_with_its_first_comment(capsys: pytest.CaptureFixture[str]) -> None:
    assert init("--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(template_names())
    assert all(template_summary(name) in line for name, line in zip(template_names(), lines, strict=True))


def test_a_filled_in_value_leaves_the_rest_of_its_line_where_it_was() -> None:
    text = "a: b         # why\nc: [d]\n"
    assert fill(text, {("a",): "xyz"}) == "a: xyz       # why\nc: [d]\n"
    assert fill(text, {("a",): "as long as it gets"}) == "a: as long as it gets  # why\nc: [d]\n"
    assert fill(text, {("c",): ["e", "f, g"]}) == 'a: b         # why\nc: [e, "f, g"]\n'
    with pytest.raises(KeyError, match="z"):
        fill(text, {("z",): "1"})


@settings(max_examples=100, deadline=None)
@example(["\x85", "\u2028", "\ufeff", "\x00\n"])
@given(st.lists(st.text(max_size=12), min_size=1, max_size=3))
def test_whatever_is_filled_in_is_read_again_as_it_was_given(values: list[str]) -> None:
    """No value can end the line, begin a comment or become another type."""
    found = read_text(fill("a: [b]\nc: d\n", {("a",): values}), "p")
    assert found.data == {"a": values, "c": "d"}


def test_plain_words_stay_plain() -> None:
    assert [written(text) for text in ("200 USD", "GLBX.MDP3", "true", "a: b", "")] == [
        "200 USD", "GLBX.MDP3", '"true"', '"a: b"', '""',
    ]  # fmt: skip
