"""Kinds of device have one room in the pack, for memory belongs to ComfyUI; and no page claims more than that."""

from __future__ import annotations

import re

import pytest
from house import PACK, ROOT, SEAM, name_of, tracked_files

DEVICES = re.compile(r'"cpu"|is_cpu|"cuda"')
ROOM = SEAM / "cpu.py"
#: What a widget offers, which names a device as the user does; kolors_core/migrate/shapes.json repeats it.
CHOICES = {ROOT / "nodes" / "loaders.py": '["default", "cpu"]'}
CLAIM = re.compile(
    r"\bno\s+(?:\w+\s+)?code\s+for\s+(?:a|any|one|each)\s+(?:\w+\s+)?(?:kind|type)s?\s+of\s+devices?"
    r"|没有(?:任何)?(?:针对|只为|专为|为)[^。，；]{0,12}设备[^。，；]{0,6}代码",
    re.IGNORECASE,
)


def device_words(source: str, choices: str = "") -> list[str]:
    """Lines that name a kind of device, apart from the choices of a widget."""
    lines = (line.replace(choices, "") if choices else line for line in source.splitlines())
    return [f"line {number}: {line.strip()}" for number, line in enumerate(lines, 1) if DEVICES.search(line)]


def claims(text: str) -> list[str]:
    """Where a page says that no code is for a kind of device."""
    return [" ".join(found[0].split()) for found in CLAIM.finditer(text)]


@pytest.mark.parametrize("path", [path for path in PACK if path != ROOM], ids=name_of)
def test_one_room_names_kinds_of_device(path):
    assert not device_words(path.read_text(encoding="utf-8"), CHOICES.get(path, ""))


def test_no_page_denies_code_for_a_kind_of_device_while_there_is_some():
    texts = {path: path.read_text(encoding="utf-8") for path in PACK if path != ROOM}
    elsewhere = [name_of(path) for path, text in texts.items() if device_words(text, CHOICES.get(path, ""))]
    pages = [path for path in tracked_files() if path.suffix == ".md"]
    denying = {name_of(path): found for path in pages if (found := claims(path.read_text(encoding="utf-8")))}
    assert not (denying and elsewhere)


def test_device_rules_find_faults():
    for bad in ('x.to("cpu")', "if x.is_cpu:", 'device = "cuda"', 'choices = ["default", "cpu"]'):
        assert device_words(bad) == [f"line 1: {bad}"]
    assert not device_words('    ["default", "cpu"],', '["default", "cpu"]')
    assert device_words('["default", "cpu"]; device == "cpu"', '["default", "cpu"]')
    assert not device_words("cpu.operations(base)\nx.to(device)")
    for bad in (
        "There is no code for a kind of device in the pack.",
        "It has no code for a\nparticular kind of device: ...",
        "There is no special code for any kind of device.",
        "插件里没有针对某一种设备的代码，int8 也不需要 CUDA。",
    ):
        assert claims(bad), bad
    assert not claims("Code for a kind of device stands in one file. 针对某一种设备的代码只在一个文件里。")
