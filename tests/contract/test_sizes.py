"""Files stay small enough to be read in one go, and what ruff looks for it looks for everywhere."""

from __future__ import annotations

import re

import pytest
from house import ROOT, name_of

LONGEST = {"kolors_core": 320, "devtools": 320}  # lines of a module
COMMAND = 40  # lines of dev.py, whose body is devtools/
MODULES = [(path, lines) for folder, lines in LONGEST.items() for path in sorted((ROOT / folder).rglob("*.py"))]
HERE_AND_THERE = ("B006",)  # wanted on some lines: the host's own signatures, which ours repeat, have {} as default


def too_long(text: str, most: int) -> list[str]:
    lines = len(text.splitlines())
    return [f"{lines} lines, at most {most} are good to read"] if lines > most else []


def switched_off(settings: str) -> list[str]:
    """Rules that are ignored for the whole project but belong to single lines."""
    ignored = re.search(r"^ignore = \[(.*?)^\]", settings, flags=re.DOTALL | re.MULTILINE)
    return [rule for rule in HERE_AND_THERE if ignored and f'"{rule}"' in ignored[1]]


@pytest.mark.parametrize(("path", "most"), [*MODULES, (ROOT / "dev.py", COMMAND)], ids=name_of)
def test_a_module_is_not_too_long(path, most):
    assert not too_long(path.read_text(encoding="utf-8"), most)


def test_no_rule_is_switched_off_for_a_few_lines():
    assert not switched_off((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_size_rules_find_faults():
    assert too_long("x\n" * 41, 40) and not too_long("x\n" * 40, 40)
    assert switched_off('ignore = [\n    "B006", # for signatures\n    "B905",\n]\n') == ["B006"]
    assert not switched_off('ignore = [\n    "B905",\n]\nselect = [\n    "B006",\n]\n')
