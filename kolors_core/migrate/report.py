"""What a conversion did and left undone, in plain words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Report:
    mapped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)  # node types

    def map(self, node: object, kinds: list[str]) -> None:
        self.mapped.append(f"{node} -> {', '.join(count(kinds)) or 'removed'}")

    def note(self, node: object, text: str) -> None:
        self._once(self.notes, f"{node}: {text}")

    def leave(self, node: object, text: str) -> None:
        self._once(self.left, f"{node}: {text}")

    @staticmethod
    def _once(lines: list[str], line: str) -> None:
        if line not in lines:
            lines.append(line)

    def text(self) -> str:
        """The whole report, a heading for each part that has something to say."""
        parts = {
            "Converted": self.mapped,
            "Check these, the result may differ": self.notes,
            "NOT converted, still to do by hand": self.left,
            "Kept as they are (where one is red on the canvas, its pack is not installed)": count(self.kept),
        }
        found = [f"{title}:\n" + "".join(f"  {line}\n" for line in lines) for title, lines in parts.items() if lines]
        if not self.mapped:
            found.insert(0, "Nothing to convert: no node of the older Kolors packs that this command can replace.\n")
        return "".join(found)


def count(kinds: list[str]) -> list[str]:
    """Each kind once, with its number."""
    return [f"{number} x {kind}" if number > 1 else kind for kind, number in Counter(kinds).items()]
