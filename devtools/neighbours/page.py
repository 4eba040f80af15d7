"""The record of all packs, docs/neighbours.json, and its page in two languages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from ..hosts_page import cell, table
from ..results import as_json, version
from .record import Neighbour, from_row
from .trial import ELSEWHERE, FAILED, GOOD, REFUSED, SAME, WORKS
from .tries import PACKS

RECORD, PAGES = "neighbours.json", {"en": "neighbours.md", "zh": "zh/neighbours.md"}  # in docs/

WORDS = {
    "en": {
        "title": "Neighbours",
        "intro": (
            "Other packages, tried beside this one with their real nodes in a real ComfyUI. `python3 dev.py neighbours "
            "FOLDER ...` tries checkouts of them in an environment of its own and writes this page; rows of others "
            "stay. Each node draws with a Kolors of random weights, of SDXL's depth and ChatGLM3's width, and with an "
            "SDXL of random weights; what is drawn is compared with what is drawn without the node. So this page says "
            "that a node does its work on Kolors as on SDXL, not that its images are beautiful. The same figures: "
            "[neighbours.json]({record})."
        ),
        "total": "{packs} packages load on ComfyUI {host}; of {tries} tries of their nodes {good} work ({share:.0%}).",
        "columns": [
            "Package",
            "Version",
            "Tried",
            "As on SDXL",
            "Works",
            "Says why not",
            "Fails on SDXL too",
            "Fails",
            "What to do",
        ],
        "faults": "What does not work",
        "fault_columns": ["Package", "Node", "", "What it says"],
        "outcomes": {REFUSED: "says why not", ELSEWHERE: "fails on SDXL too", FAILED: "fails"},
        "unloaded": "Packages that do not load here",
        "unloaded_columns": ["Package", "Version", "ComfyUI", "What ComfyUI says"],
        "left_out": "Requirements that do not go with ComfyUI's",
        "tried": "What was tried",
        "bits": "The same bits",
        "same_bits": (
            "Beside each package, before and after its nodes were used, a Kolors and an SDXL draw bit for bit what "
            "they draw without it."
        ),
        "together": (
            "With {packs} other packages installed together on ComfyUI {host}, a Kolors and an SDXL draw bit for bit "
            "what they draw with this package alone."
        ),
        "other_bits": "Kolors or SDXL draws other bits than without the package beside: {packs}.",
        "run": "Run on",
        "run_columns": ["ComfyUI", "Commit", "Date", "Packages"],
        "none": "None.",
        "sep": ", ",
    },
    "zh": {
        "title": "与其他插件共存",
        "intro": (
            "在真实的 ComfyUI 里，把其他插件与本插件装在一起，逐一试用它们的真实节点。"
            "`python3 dev.py neighbours 文件夹 ...` 在独立的 Python 环境中试用这些插件的本地副本，然后重写本页；"
            "其他插件的结果会保留。每个节点分别用随机权重的可图（层数同 SDXL，宽度同 ChatGLM3）和随机权重的 SDXL 出图，"
            "并与不用该节点时的结果比较。因此本页说明的是节点在可图上与在 SDXL 上一样起作用，不代表画面好看。"
            "同样的数据见 [neighbours.json]({record})。"
        ),
        "total": "{packs} 个插件能在 ComfyUI {host} 上加载；共试 {tries} 项，{good} 项可用（{share:.0%}）。",
        "columns": ["插件", "版本", "试用", "与 SDXL 相同", "可用", "报错说明原因", "SDXL 上也失败", "失败", "怎么办"],
        "faults": "不能用的",
        "fault_columns": ["插件", "节点", "", "提示"],
        "outcomes": {REFUSED: "报错说明原因", ELSEWHERE: "SDXL 上也失败", FAILED: "失败"},
        "unloaded": "在这里加载不了的插件",
        "unloaded_columns": ["插件", "版本", "ComfyUI", "ComfyUI 的提示"],
        "left_out": "与 ComfyUI 的依赖冲突、没有安装的依赖",
        "tried": "试过的节点",
        "bits": "逐位相同",
        "same_bits": "与每个插件分别装在一起时，无论使用其节点之前还是之后，可图和 SDXL 的出图都与不装它时逐位相同。",
        "together": "在 ComfyUI {host} 上同时装着 {packs} 个插件时，可图和 SDXL 的出图与只装本插件时逐位相同。",
        "other_bits": "与下列插件装在一起时，可图或 SDXL 的出图与不装时不同：{packs}。",
        "run": "运行环境",
        "run_columns": ["ComfyUI", "提交", "日期", "插件"],
        "none": "无。",
        "sep": "、",
    },
}


def record(docs: Path, found: Iterable[Neighbour]) -> None:
    """Puts results into docs/neighbours.json, in place of older ones of a pack, and writes the pages anew."""
    file = docs / RECORD
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    merged = {row.key: row for row in map(from_row, known)}
    merged |= {row.key: row for row in found if not says_less(row, merged.get(row.key))}
    ordered = sorted(merged.values(), key=lambda row: row.key)
    docs.mkdir(parents=True, exist_ok=True)
    file.write_text(as_json([asdict(row) for row in ordered]), encoding="utf-8")
    for language, name in PAGES.items():
        (docs / name).parent.mkdir(parents=True, exist_ok=True)
        (docs / name).write_text(as_page(ordered, language), encoding="utf-8")


def says_less(row: Neighbour, known: Neighbour | None) -> bool:
    """Whether a row of all packs together is of fewer than the one that is there, and finds nothing either."""
    return known is not None and not row.is_pack and row.same_bits and int(row.version) < int(known.version)


def as_page(rows: list[Neighbour], language: str) -> str:
    words = WORDS[language]
    link = "../" * PAGES[language].count("/") + RECORD
    packs = [row for row in rows if row.is_pack and not row.fault]
    parts = [f"# {words['title']}", words["intro"].format(record=link)]
    parts += ["\n".join(totals(packs, words)), table(words["columns"], results(packs, language))]
    parts += [f"## {words['faults']}", table_or_none(words, "fault_columns", faults(packs, words))]
    unloaded = [[row.pack, row.version, row.host, cell(row.fault)] for row in rows if row.is_pack and row.fault]
    parts += [f"## {words['unloaded']}", table_or_none(words, "unloaded_columns", unloaded)]
    left_out = [f"- {row.pack}: {', '.join(f'`{line}`' for line in row.left_out)}" for row in rows if row.left_out]
    parts += [f"## {words['left_out']}", "\n".join(left_out) or words["none"]]
    parts += [f"## {words['bits']}", "\n\n".join(bits(rows, words))]
    parts += [f"## {words['tried']}", "\n".join(tried(packs, words))]
    parts += [f"## {words['run']}", table(words["run_columns"], runs(rows, words))]
    return "\n\n".join(parts) + "\n"


def totals(packs: list[Neighbour], words: dict) -> Iterator[str]:
    """A line for each host."""
    for host in sorted({row.host for row in packs}, key=version):
        here = [row for row in packs if row.host == host]
        tries, good = sum(len(row.tries) for row in here), sum(row.count(*GOOD) for row in here)
        yield words["total"].format(packs=len(here), host=host, tries=tries, good=good, share=good / max(tries, 1))


def results(packs: list[Neighbour], language: str) -> Iterator[list[object]]:
    for row in packs:
        counts = [row.count(outcome) or "" for outcome in (SAME, WORKS, REFUSED, ELSEWHERE, FAILED)]
        known = PACKS.get(row.key)
        yield [
            row.pack,
            row.version,
            len(row.tries),
            *counts,
            (known.en if language == "en" else known.zh) if known else "",
        ]


def faults(packs: list[Neighbour], words: dict) -> list[list[object]]:
    """The nodes that do not work; those that say the same share a row."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for row in packs:
        for one in row.tries:
            if one.outcome not in GOOD:
                found.setdefault((row.pack, one.outcome, one.why), []).append(one.node)
    return [
        [pack, ", ".join(f"`{name}`" for name in nodes), words["outcomes"][outcome], cell(why)]
        for (pack, outcome, why), nodes in found.items()
    ]


def bits(rows: list[Neighbour], words: dict) -> Iterator[str]:
    """What Kolors and SDXL draw beside each pack, and beside all of them."""
    changed = [row.pack for row in rows if not row.same_bits]
    for row in rows:
        if not row.is_pack and row.same_bits:
            yield words["together"].format(packs=row.version, host=row.host)
    if changed:
        yield words["other_bits"].format(packs=words["sep"].join(changed))
    elif any(row.is_pack for row in rows):
        yield words["same_bits"]


def tried(packs: list[Neighbour], words: dict) -> Iterator[str]:
    for row in packs:
        yield f"- {row.pack}: {', '.join(f'`{one.node}`' for one in row.tries) or words['none']}"


def runs(rows: list[Neighbour], words: dict) -> Iterator[list[object]]:
    found: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        found.setdefault((row.host, f"`{row.commit}`", row.date), []).append(row.pack)
    for key, packs in sorted(found.items()):
        yield [*key, words["sep"].join(packs)]


def table_or_none(words: dict, columns: str, lines: Sequence[Sequence[object]]) -> str:
    return table(words[columns], map(list, lines)) if lines else words["none"]
