"""Damages JSON and tables of Parquet as their author could: they stay well-formed, and a value is another."""

import io
import json
import random
from collections.abc import Iterator
from typing import Any

import pyarrow
import pyarrow.parquet as parquet

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, -(2**63), 10**30, 1e308, float("nan"), float("inf"), -0.0),
    *("", "0", HOSTILE, "../../x", "/dev/zero", "a\0b", "\ud800", "é" * 5000, "1" * 6000, [], {}, [[]], [None] * 3000),
    *({"": {}}, {"class": "cat"}, ["cat", 7], [0.5, "x"], "class 3", {"name": ["x"], "sha256": 7}),
)
_FLOATS = pyarrow.list_(pyarrow.float32())
DEEP = "[" * 100_000


def change_json(text: str, dice: random.Random) -> str:
    """Replace a value of JSON, remove it, or give it another name."""
    value = json.loads(text)
    places = list(_find_places(value))
    if not places or dice.random() < 0.05:
        return dice.choice((DEEP, "{}", "[]", "null", "7", '"x"', "", "\ufeff" + text, text + text))
    holder, key = dice.choice(places)
    action = dice.random()
    if action < 0.75:
        holder[key] = dice.choice(ODD)
    elif action < 0.9 or isinstance(holder, list):
        del holder[key]
    else:
        holder[dice.choice(("x", "", "é", "key"))] = holder.pop(key)
    return json.dumps(value)


def _find_places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a value: what holds it, and its key or number there."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _find_places(value[key])


def change_table(content: bytes, dice: random.Random) -> bytes:
    """Change a table of Parquet: types, values, columns, rows, the way it is stored, and what it says of itself."""
    table = parquet.read_table(io.BytesIO(content))
    notes = parquet.read_metadata(io.BytesIO(content)).metadata or {}
    table = table.replace_schema_metadata({key: text for key, text in notes.items() if key != b"ARROW:schema"})
    for _ in range(dice.choice((1, 1, 2))):
        table = dice.choice((_change_column, _change_value, _drop_column, _change_rows, _change_notes))(table, dice)
    stream = io.BytesIO()
    options = {"compression": dice.choice(("snappy", "zstd", "gzip", "none")), "use_dictionary": dice.random() < 0.7}
    parquet.write_table(table, stream, row_group_size=dice.choice((1, 2, 1000)), **options)
    return stream.getvalue()


def _make_column(rows: int, dice: random.Random) -> Any:
    """A column of another type."""
    made: list[Any] = [
        pyarrow.nulls(rows),
        pyarrow.array([dice.choice((-1, 0, 2**31, -(2**63)))] * rows, pyarrow.int64()),
        pyarrow.array([dice.choice((float("nan"), float("inf"), -1.0, 1e38))] * rows, pyarrow.float64()),
        pyarrow.array([dice.choice(("", HOSTILE, "x" * 100_000, "7"))] * rows),
        pyarrow.array([dice.choice((b"", b"\xff\xfe", bytes(49)))] * rows, pyarrow.binary()),
        pyarrow.array(
            [dice.choice(([], [None], [1.0] * 3, [float("nan")] * 4))] * rows, pyarrow.list_(pyarrow.float32())
        ),
        pyarrow.array([{"class": 2**31 - 1, "name": HOSTILE, "score": float("nan")}] * rows),
        pyarrow.array([[{"class": -5, "name": None, "score": 3e38}] * dice.choice((0, 1, 7, 500))] * rows),
        pyarrow.array([True] * rows),
        pyarrow.array([dice.choice(("a", "b"))] * rows).dictionary_encode(),
    ]
    return dice.choice(made)


def _change_column(table: Any, dice: random.Random) -> Any:
    place = dice.randrange(table.num_columns)
    return table.set_column(place, table.column_names[place], _make_column(table.num_rows, dice))


def _change_value(table: Any, dice: random.Random) -> Any:
    """Another value of the same type."""
    place = dice.randrange(table.num_columns)
    field = table.schema.field(place)
    values = table.column(place).to_pylist()
    if not values:
        return table
    values[dice.randrange(len(values))] = dice.choice(ODD)
    try:
        return table.set_column(place, field, pyarrow.array(values, field.type))
    except (pyarrow.ArrowException, OverflowError, UnicodeEncodeError, TypeError, ValueError):
        return table  # no value of that type


def _drop_column(table: Any, dice: random.Random) -> Any:
    if dice.random() < 0.5:
        return table.append_column(dice.choice(("id", "cam", "more")), _make_column(table.num_rows, dice))
    return table.remove_column(dice.randrange(table.num_columns)) if table.num_columns > 1 else table


def _change_rows(table: Any, dice: random.Random) -> Any:
    return dice.choice((table.slice(1), table.slice(0, 0), pyarrow.concat_tables([table, table]), table.slice(0, 1)))


def _change_notes(table: Any, dice: random.Random) -> Any:
    notes = dict(table.schema.metadata or {})
    if not notes:
        return table
    key = dice.choice(sorted(notes))
    try:
        notes[key] = change_json(notes[key].decode(), dice).encode("utf-8", "replace")
    except ValueError:
        notes[key] = b"\xff{"
    return table.replace_schema_metadata(notes)
