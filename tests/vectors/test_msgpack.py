"""The codec against msgpack-test-suite (kawanet): 233 encodings, of which it takes 51 and refuses 182.

137 of the 182 are not what msgpack itself would write: longer integers and lengths than needed. The other 45 are what
msgpack would write, refused by rule because they are no values of the codec: 19 timestamps, 7 other extensions, 13
floats (11 of them for whole numbers), 3 maps and 3 arrays that hold maps.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgpack
import pytest

from ledger import codec
from ledger.errors import Invalid
from tests.vectors.files import vector_json

# Per file of the suite: taken, refused as malformed (maps, extensions), as not shortest, as floats.
_ANSWERS = {
    "10.nil.yaml": (1, 0, 0, 0),
    "11.bool.yaml": (2, 0, 0, 0),
    "12.binary.yaml": (3, 0, 6, 0),
    "20.number-positive.yaml": (11, 0, 55, 7),
    "21.number-negative.yaml": (8, 0, 20, 5),
    "22.number-float.yaml": (0, 0, 0, 4),
    "23.number-bignum.yaml": (9, 0, 3, 7),
    "30.string-ascii.yaml": (4, 0, 9, 0),
    "31.string-utf8.yaml": (5, 0, 5, 0),
    "32.string-emoji.yaml": (2, 0, 2, 0),
    "40.array.yaml": (5, 0, 9, 0),
    "41.map.yaml": (0, 9, 0, 0),
    "42.nested.yaml": (1, 9, 2, 0),
    "50.timestamp.yaml": (0, 19, 0, 0),
    "60.ext.yaml": (0, 11, 0, 0),
}
_CODES = {"E-CODEC-001": 1, "E-CODEC-002": 2, "E-CODEC-004": 3}


def _suite() -> dict[str, list[tuple[dict[str, Any], bytes]]]:
    document = vector_json("msgpack-test-suite", "dist", "msgpack-test-suite.json")
    return {
        name: [(case, bytes.fromhex(text.replace("-", ""))) for case in cases for text in case["msgpack"]]
        for name, cases in document.items()
    }


def _meant(case: dict[str, Any]) -> Any:
    """What the suite says an encoding of this case means, as a codec value."""
    if "bignum" in case:
        return int(case["bignum"])
    if "binary" in case:
        return bytes.fromhex(case["binary"].replace("-", ""))
    return _tuples(next(case[name] for name in ("nil", "bool", "number", "string", "array") if name in case))


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


@pytest.mark.parametrize("name", _ANSWERS)
def test_answers(name: str) -> None:
    counts = [0, 0, 0, 0]
    for case, data in _suite()[name]:
        try:
            value = codec.decode(data)
        except Invalid as error:
            counts[_CODES[error.code]] += 1
        else:
            assert value == _meant(case)
            assert type(value) is type(_meant(case))
            assert codec.encode(value) == data
            counts[0] += 1
    assert tuple(counts) == _ANSWERS[name]


def test_totals() -> None:
    encodings = [data for cases in _suite().values() for _, data in cases]
    counts = Counter((_accepted(data), _shortest_to_msgpack(data)) for data in encodings)
    assert len(encodings) == 233
    assert counts == {(True, True): 51, (False, True): 45, (False, False): 137}


def test_one_encoding_of_each_value_is_taken() -> None:
    """Of all the ways in which the suite writes one value, the codec takes exactly one; of what is no value, none."""
    values = 0
    for name, cases in _suite().items():
        taken: Counter[int] = Counter()
        for case, data in cases:
            taken[id(case)] += _accepted(data)
        for case in {id(case): case for case, _ in cases}.values():
            assert taken[id(case)] == _is_value(case), (name, case)
            values += _is_value(case)
    assert values == 51


def _is_value(case: dict[str, Any]) -> bool:
    if "bignum" in case or "binary" in case:
        return True
    try:
        meant = _meant(case)
    except StopIteration:  # a timestamp, a map or an extension
        return False
    return isinstance(meant, int | str | None) or (isinstance(meant, tuple) and "{" not in repr(meant))


def _accepted(data: bytes) -> bool:
    try:
        codec.decode(data)
    except Invalid:
        return False
    return True


def _shortest_to_msgpack(data: bytes) -> bool:
    value = msgpack.unpackb(data, strict_map_key=False)
    packed: bytes = msgpack.packb(value)
    return packed == data
