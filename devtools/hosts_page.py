"""The record of all runs, docs/hosts.json, and its page in two languages."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from .results import Result, as_json, version

RECORD, PAGES = "hosts.json", {"en": "hosts.md", "zh": "zh/hosts.md"}  # in docs/

WORDS = {
    "en": {
        "title": "Hosts",
        "intro": (
            "The releases of ComfyUI that this package was tested on. `python3 dev.py hosts --comfyui FOLDER ...` runs "
            "the tests on each of them, in an environment of its own, and writes this page; rows of other releases "
            "stay. Failed tests are named, skipped ones counted by reason; a + marks a commit with changes that were "
            "not committed. The same figures: [hosts.json]({record})."
        ),
        "results": ["ComfyUI", "Tests", "Passed", "Failed", "Skipped", "Minutes", "Commit", "Date"],
        "failed": "Failed",
        "skipped": "Skipped",
        "reason": "Reason",
        "run": "Run with",
        "environment": ["ComfyUI", "Tests", "Python", "torch", "Front end", "Computed on"],
        "none": "None.",
        "with": " with ",
    },
    "zh": {
        "title": "测试过的 ComfyUI 版本",
        "intro": (
            "本插件在下列 ComfyUI 版本上跑过测试。`python3 dev.py hosts --comfyui 文件夹 ...` 依次在各版本上运行测试，"
            "每个版本用独立的 Python 环境，然后重写本页；其他版本的结果会保留。失败的测试列出名称，跳过的按原因计数；"
            "提交号后的 + 表示当时还有未提交的改动。同样的数据见 [hosts.json]({record})。"
        ),
        "results": ["ComfyUI", "测试", "通过", "失败", "跳过", "分钟", "提交", "日期"],
        "failed": "失败的测试",
        "skipped": "跳过的测试",
        "reason": "原因",
        "run": "运行环境",
        "environment": ["ComfyUI", "测试", "Python", "torch", "前端", "计算设备"],
        "none": "无。",
        "with": "，参数 ",
    },
}


def record(docs: Path, results: Iterable[Result]) -> None:
    """Puts results into docs/hosts.json, in place of older ones of the same key, and writes the pages anew."""
    file = docs / RECORD
    known = [Result(**row) for row in json.loads(file.read_text(encoding="utf-8"))] if file.is_file() else []
    merged = {result.key: result for result in [*known, *results]}
    rows = sorted(merged.values(), key=lambda row: (version(row.host), row.key))
    docs.mkdir(parents=True, exist_ok=True)
    file.write_text(as_json([asdict(row) for row in rows]), encoding="utf-8")
    for language, name in PAGES.items():
        page = docs / name
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(as_page(rows, language), encoding="utf-8")


def as_page(rows: list[Result], language: str) -> str:
    words = WORDS[language]
    link = "../" * PAGES[language].count("/") + RECORD
    parts = [f"# {words['title']}", words["intro"].format(record=link), table(words["results"], results(rows, words))]
    failures = [
        f"- {row.host}, {suite_of(row, words)}: `{test}`{f' ({cell(message)})' if message else ''}"
        for row in rows
        for test, message in row.failed.items()
    ]
    parts += [f"## {words['failed']}", "\n".join(failures) or words["none"]]
    parts += [f"## {words['skipped']}", skips(rows, words) or words["none"]]
    parts += [f"## {words['run']}", table(words["environment"], environments(rows, words))]
    return "\n\n".join(parts) + "\n"


def results(rows: list[Result], words: dict) -> Iterator[list[object]]:
    for row in rows:
        counts = [row.passed, len(row.failed), sum(row.skipped.values()), f"{row.seconds / 60:.1f}"]
        yield [row.host, suite_of(row, words), *counts, f"`{row.commit}`", row.date]


def skips(rows: list[Result], words: dict) -> str:
    """A table with a row for each suite and reason and a column for each host."""
    hosts = list(dict.fromkeys(row.host for row in rows))
    counts: dict[tuple[str, str], Counter] = {}
    for row in rows:
        for reason, number in row.skipped.items():
            counts.setdefault((suite_of(row, words), cell(reason)), Counter())[row.host] += number
    lines = [[*key, *(by_host[host] or "" for host in hosts)] for key, by_host in sorted(counts.items())]
    return table([words["results"][1], words["reason"], *hosts], lines) if lines else ""


def environments(rows: list[Result], words: dict) -> Iterator[list[object]]:
    """One row for each host and environment, with the suites that ran in it."""
    found: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        place = row.environment
        device = place["machine"] if place["device"] == "cpu" else f"{place['device']}; {place['machine']}"
        key = (row.host, place["python"], place["torch"], place["front end"], device)
        found.setdefault(key, []).append(suite_of(row, words))
    for (host, *others), suites in found.items():
        yield [host, ", ".join(suites), *others]


def suite_of(row: Result, words: dict) -> str:
    flags = f"{words['with']}`{row.flags}`" if row.flags else ""
    return f"`{row.suite}`{flags}"


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def table(headings: list[str], rows: Iterable[list[object]]) -> str:
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (headings, ["---"] * len(headings), *rows))
