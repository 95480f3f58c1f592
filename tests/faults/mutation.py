"""Changes bytes as accidents and attackers do: cut, flipped, doubled, with odd tokens put in."""

import random

TOKENS = (
    *(b"", b"0", b"-1", b"1e999", b"NaN", b"null", b"true", b"[]", b"{}", b'""', b'"', b"{", b"["),
    *(
        b"]",
        b"}",
        b",",
        b":",
        b"\n",
        b"\r\n",
        b"\t",
        b"\0",
        b"\xff",
        b"\xc3",
        b"\xed\xb3\xbf",
        b"\x1b[2J",
    ),
    *(
        b"../../x",
        b"/etc/passwd",
        b"&a [*a]",
        b"!!python/object:os.system x",
        b"#",
        b" #",
        b"---\n",
    ),
    *(b"9" * 30, b"9" * 5000, b"[" * 2000, b'{"a":' * 500, b"2024-99-99", b'{"__class__": 1}'),
    *(
        b"\x00\x00\x00\x00",
        b"\xff\xff\xff\xff",
        b"\x7f\xff\xff\xff",
        b"\x80\x00\x00\x00",
        b"\xff" * 8,
    ),
)
NUMBERS = (
    b"0",
    b"-1",
    b"1",
    b"2147483648",
    b"18446744073709551616",
    b"1e308",
    b"0.5",
    b"1000000000",
)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Returns bytes with one to four changes."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        _change(changed, chance)
    return bytes(changed)


def _change(data: bytearray, chance: random.Random) -> None:
    start = _place(data, chance)
    end = min(len(data), start + chance.choice((1, 2, 4, 16, 256)))
    kind = chance.randrange(9)
    if kind == 0 and data:
        data[start % len(data)] ^= 1 << chance.randrange(8)
    elif kind == 1:
        data[start:end] = chance.randbytes(end - start)
    elif kind == 2:
        del data[start:end]
    elif kind == 3:
        del data[start:]
    elif kind == 4:
        data[start:start] = data[start:end]
    elif kind == 5:
        data[start:end] = chance.choice(TOKENS)
    elif kind == 6:
        data[start:start] = chance.choice(TOKENS)
    elif kind == 7:
        _replace_number(data, chance)
    else:
        data[start:end] = bytes(end - start)


def _place(data: bytearray, chance: random.Random) -> int:
    """Returns a position, more often near the start, where formats keep their headers."""
    reach = len(data) if chance.random() < 0.5 else min(len(data), chance.choice((16, 256, 4096)))
    return chance.randrange(reach + 1)


def _replace_number(data: bytearray, chance: random.Random) -> None:
    """Replaces a number that is written as text."""
    start = _place(data, chance)
    while start < len(data) and not 48 <= data[start] <= 57:
        start += 1
    end = start
    while end < len(data) and 48 <= data[end] <= 57:
        end += 1
    data[start:end] = chance.choice(NUMBERS)
