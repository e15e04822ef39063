"""Small helpers that reports share: exact figures as text, and numbered footnotes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from fractions import Fraction

from rich.table import Table
from rich.text import Text

from budget_guard.money import GIB, decimal_text, gib_from_bytes, usd_from_nano, usd_text
from budget_guard.wording import one_line

UNKNOWN = "unknown"

_DIGITS = Context(prec=80)
# Places of a figure that has no finite decimal: a third of an hour.
_PLACES = 6


def exact_text(value: Fraction) -> str:
    """A fraction as the plain decimal it is, or to six places when no decimal is exact."""
    quotient = _DIGITS.divide(Decimal(value.numerator), Decimal(value.denominator))
    if Fraction(quotient) != value:
        quotient = quotient.quantize(Decimal(1).scaleb(-_PLACES), ROUND_HALF_EVEN, _DIGITS)
    return decimal_text(quotient)


def gib_exact_text(size_bytes: Fraction) -> str:
    """Bytes as exact GiB; a part of a byte that has no finite decimal counts as a whole one."""
    quotient = _DIGITS.divide(Decimal(size_bytes.numerator), Decimal(size_bytes.denominator * GIB))
    if Fraction(quotient) * GIB == size_bytes:
        return decimal_text(quotient)
    return decimal_text(gib_from_bytes(-(-size_bytes.numerator // size_bytes.denominator)))


def rounded(value: Fraction, places: int = 2) -> str:
    """A figure for people: `1,234.50`; one that would show as zero and is not keeps three digits."""
    with localcontext(_DIGITS):
        exact = Decimal(value.numerator) / Decimal(value.denominator)
        shown = exact.quantize(Decimal(1).scaleb(-places))
    if shown == 0 and exact != 0:
        return decimal_text(exact.normalize(Context(prec=3)))
    return f"{shown:,f}"


def nano_text(nano_usd: int) -> str:
    """Nano-dollars for people: `$8.61`."""
    return usd_text(usd_from_nano(nano_usd))


def date_or_null(day: date | None) -> str | None:
    """A date for JSON."""
    return None if day is None else day.isoformat()


def age_text(then_utc: datetime, now: datetime) -> str:
    """How long ago something was: `just now`, `5 min ago`, `3 h ago`, `2 days ago`; never more than it was."""
    age = now - then_utc
    if age < timedelta(minutes=1):
        return "just now"
    if age < timedelta(hours=1):
        return f"{age // timedelta(minutes=1)} min ago"
    if age < timedelta(days=2):
        return f"{age // timedelta(hours=1)} h ago"
    return f"{age.days} days ago"


class Footnotes:
    """Numbers sentences in the order in which they are first cited."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def cite(self, *sentences: str) -> str:
        """The marks of these sentences: `1-3,7`."""
        numbers = sorted(
            {self._numbers.setdefault(text, len(self._numbers) + 1) for text in sentences if text}
        )
        runs: list[list[int]] = []
        for number in numbers:
            if runs and number == runs[-1][-1] + 1:
                runs[-1].append(number)
            else:
                runs.append([number])
        return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)

    def lines(self) -> list[tuple[int, str]]:
        """Every sentence with its number, in order."""
        return [(number, text) for text, number in self._numbers.items()]


def markdown_table(
    head: Iterable[str], rows: Iterable[Iterable[str]], right: Iterable[int] = ()
) -> list[str]:
    """The lines of a Markdown table; columns in `right` are aligned to the right."""
    titles = list(head)
    aligned = set(right)
    rule = ["---:" if index in aligned else "---" for index in range(len(titles))]
    lines = [titles, rule, *(list(row) for row in rows)]
    return ["| " + " | ".join(one_line(cell).replace("|", "\\|") for cell in line) + " |" for line in lines]


def markdown_list(items: Iterable[str]) -> list[str]:
    """The lines of a Markdown list."""
    return [f"- {one_line(item)}" for item in items]


def notes_table(rows: Iterable[tuple[str, str]]) -> Table:
    """Footnotes for a terminal: marks on the left, sentences folded on the right."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(justify="right", style="dim", no_wrap=True)
    table.add_column(style="dim", overflow="fold")
    for mark, text in rows:
        table.add_row(Text(mark), Text(text))
    return table
