"""Which jobs, in few bytes: a table may have a million."""

from __future__ import annotations

from array import array

Key = tuple[int, int]  # row and number of a job


class Keys:
    """The jobs of a table, in its order: of each row the place of its first one, and the number of its last."""

    def __init__(self) -> None:
        self.first, self.last = array("Q"), array("I")
        self.count = 0

    def add(self, key: Key) -> None:
        """The next one."""
        row, number = key
        if row > len(self.last):
            self.first.append(self.count)
            self.last.append(number)
        self.last[row - 1] = number
        self.count += 1

    def place(self, key: Key) -> int | None:
        """Which one it is, from 0; None where the table does not have it."""
        row, number = key
        if not 0 < row <= len(self.last):
            return None
        last = self.last[row - 1]
        known = 0 < number <= last if last else number == 0
        return self.first[row - 1] + max(number - 1, 0) if known else None


class KeySet:
    """Some jobs: a byte for eight rows without `seeds`, and a number for each row with them."""

    def __init__(self) -> None:
        self.plain = bytearray()
        self.numbers: dict[int, int] = {}  # of each row, a bit for each of its seeds
        self.count = 0

    def add(self, key: Key) -> None:
        if key in self:
            return
        self.count += 1
        row, number = key
        if number:
            self.numbers[row] = self.numbers.get(row, 0) | 1 << number
            return
        if row >> 3 >= len(self.plain):
            self.plain.extend(bytes(max((row >> 3) + 1 - len(self.plain), 1024)))
        self.plain[row >> 3] |= 1 << (row & 7)

    def __contains__(self, key: object) -> bool:
        row, number = key  # type: ignore[misc]
        if number:
            return bool(self.numbers.get(row, 0) >> number & 1)
        return row >> 3 < len(self.plain) and bool(self.plain[row >> 3] >> (row & 7) & 1)

    def __len__(self) -> int:
        return self.count
