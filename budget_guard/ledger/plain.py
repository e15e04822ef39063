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
        # Not asked of the driver: to describe what it found may take longer than finding it.
        self.selects = isinstance(statement, Select)
        self._statement = statement
        self._built: dict[str, _Built] = {}
        columns = statement.selected_columns if isinstance(statement, Select) else ()
        self._turns = [
            (place, column.type.process_result_value)
            for place, column in enumerate(columns)
            if isinstance(column.type, TypeDecorator)
        ]

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

    def turned(self, row: Sequence[Any], dialect: Dialect) -> list[Any]:
        """A row of what it has found, in the types of its columns."""
        values = list(row)
        for place, turn in self._turns:
            values[place] = turn(values[place], dialect)
        return values


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


def begin(tx: Connection, statement: str | None) -> None:
    """Begin a transaction, or leave that to the driver where there is no statement for it.

    SQLAlchemy joins it with its first statement, if it is asked for one.
    """
    if statement is not None:
        driver: Any = tx.connection.driver_connection
        try:
            driver.execute(statement)
        except BaseException as error:
            _tell(tx, driver, error)
            raise


def commit(tx: Connection) -> None:
    """Commit what was begun, whoever has written in it."""
    if tx.in_transaction():
        tx.commit()
        return
    driver: Any = tx.connection.driver_connection
    try:
        driver.commit()
    except BaseException as error:
        _tell(tx, driver, error)
        raise


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
                    if plain.selects:
                        found.append(plain.rows(cursor))
        cursor.close()
    except BaseException as error:
        _tell(tx, driver, error)
        raise
    return found


def _tell(tx: Connection, driver: Any, error: BaseException) -> None:
    """Raise a driver's error as SQLAlchemy does. A connection that is broken, or was interrupted, is used no more."""
    dialect = tx.dialect
    kind = dialect.loaded_dbapi.Error
    if isinstance(error, kind):
        lost = dialect.is_disconnect(error, driver, None)
        if lost:
            tx.invalidate(error)
        raise DBAPIError.instance(
            None, None, error, kind, connection_invalidated=lost, dialect=dialect
        ) from error
    if not isinstance(error, Exception):
        # In the middle of an answer.
        tx.invalidate(error)
