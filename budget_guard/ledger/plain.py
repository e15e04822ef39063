"""Statements that the driver runs by itself: what SQLAlchemy does around one takes longer than most of them do.

They are for what every renewal does, much of it while others wait for its locks: written with SQLAlchemy, and built
once for each kind of database.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Dialect, Insert, Select, TextClause, Update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeDecorator

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Built:
    """A statement for one kind of database: its text, its parameters in order, and which of them need turning."""

    text: str
    pick: Callable[[Values], Any] | None  # the values in the order of the text; None where it has names
    types: Mapping[str, TypeDecorator[Any]]

    def parameters(self, values: Values, dialect: Dialect) -> Any:
        """The values as the driver takes them."""
        if self.types:
            turned = {n: kind.process_bind_param(values[n], dialect) for n, kind in self.types.items()}
            values = {**values, **turned}
        return values if self.pick is None else self.pick(values)


class Plain:
    """A statement of SQLAlchemy's that is run without it. What it finds is left as the database keeps it."""

    def __init__(self, statement: Select[Any] | Insert | Update | TextClause) -> None:
        self._statement = statement
        self._built: dict[str, _Built] = {}

    def of(self, dialect: Dialect) -> _Built:
        """The statement as a kind of database understands it."""
        built = self._built.get(dialect.name)
        if built is None:
            built = self._built[dialect.name] = _build(self._statement, dialect)
        return built

    def rows(self, cursor: Any) -> list[Any]:
        """What it has found."""
        rows: list[Any] = cursor.fetchall()
        return rows


def _build(statement: Any, dialect: Dialect) -> _Built:
    compiled: SQLCompiler = statement.compile(dialect=dialect)
    names = tuple(compiled.positiontup or compiled.binds)
    kinds = {name: compiled.binds[name].type for name in names}
    types = {name: kind for name, kind in kinds.items() if isinstance(kind, TypeDecorator)}
    return _Built(str(compiled), _picker(names) if compiled.positional else None, types)


def _picker(names: tuple[str, ...]) -> Callable[[Values], Any]:
    if len(names) == 1:
        return lambda values: (values[names[0]],)
    return itemgetter(*names)


# A statement and the values to run it with, once for each.
Step = tuple[Plain, Sequence[Values]]


def run(tx: Connection, steps: Sequence[Step]) -> list[list[Any]]:
    """Run statements one after another inside a transaction; the rows of each that selects.

    Errors are those that SQLAlchemy raises.
    """
    dialect = tx.dialect
    driver: Any = tx.connection.driver_connection
    found: list[list[Any]] = []
    try:
        cursor = driver.cursor()
        for plain, several in steps:
            if several:
                built = plain.of(dialect)
                for values in several:
                    cursor.execute(built.text, built.parameters(values, dialect))
                    if cursor.description:
                        found.append(plain.rows(cursor))
        cursor.close()
    except dialect.loaded_dbapi.Error as error:
        raise _as_sqlalchemy(tx, driver, error) from error
    except BaseException as error:
        if not isinstance(error, Exception):
            # Interrupted in the middle of an answer.
            tx.invalidate(error)
        raise
    return found


def _as_sqlalchemy(tx: Connection, driver: Any, error: Any) -> Exception:
    """A driver's error as SQLAlchemy's own; a connection that it broke is used no more."""
    dialect = tx.dialect
    lost = dialect.is_disconnect(error, driver, None)
    if lost:
        tx.invalidate(error)
    kind = dialect.loaded_dbapi.Error
    told: Exception = DBAPIError.instance(
        None, None, error, kind, connection_invalidated=lost, dialect=dialect
    )
    return told
