"""The tests on one ComfyUI after the other: what a run said, the record of all runs, and its page in two languages."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

SUITES = ["tests/server", "tests/host"]
RECORD, PAGES = "hosts.json", {"en": "hosts.md", "zh": "zh/hosts.md"}  # in docs/
MESSAGE_LENGTH = 160

#: Run in a host's environment with the kind of its accelerator: the versions that a result depends on.
PROBE = """
import importlib.metadata, json, platform, torch
device = {device!r}
name = getattr(getattr(torch, device, None), "get_device_name", lambda: "")() if device != "cpu" else ""
found = {{"python": platform.python_version(), "torch": torch.__version__, "device": f"{{device}} {{name}}".strip()}}
for key, package in {{"front end": "comfyui-frontend-package"}}.items():
    try:
        found[key] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        found[key] = "none"
print(json.dumps(found))
"""

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


@dataclass(frozen=True)
class Result:
    """What one suite said on one host. `failed`: message by test; `skipped`: number of tests by reason."""

    host: str  # ComfyUI's version
    suite: str  # what pytest was given
    flags: str  # start options of ComfyUI
    date: str
    commit: str
    seconds: float
    passed: int
    failed: dict[str, str]
    skipped: dict[str, int]
    environment: dict[str, str]

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Results with the same key replace each other."""
        return self.host, self.suite, self.flags, self.environment["device"]

    def summary(self) -> str:
        return f"{self.passed} passed, {len(self.failed)} failed, {sum(self.skipped.values())} skipped"


# ---- one run --------------------------------------------------------------------------------------------------------


def split_words(words: list[str], root: Path) -> tuple[list[str], list[str]]:
    """What is given to pytest, as (suites, options): a word that leads to a file or folder of `root` is a suite."""
    suites = [word for word in words if not word.startswith("-") and (root / word.split("::")[0]).exists()]
    return suites or SUITES, [word for word in words if word not in suites]


def pytest_arguments(suite: str, options: list[str], junit: Path) -> list[str]:
    """A module that cannot be imported counts as a failed test, and the others are run."""
    report = ["--junitxml", str(junit), "-o", "junit_family=xunit1"]  # that one names the files
    return ["-m", "pytest", suite, *options, *report, "--continue-on-collection-errors", "-p", "no:cacheprovider"]


def read_junit(junit: Path) -> dict[str, object]:
    """Seconds, number of passed tests, messages of failed ones and counts of skipped ones, as `Result` has them.

    A test that fails and whose clean-up fails too is one failed test.
    """
    root = ElementTree.parse(junit).getroot()
    failed: dict[str, str] = {}
    skipped: Counter[str] = Counter()
    passed: set[str] = set()
    for case in root.iter("testcase"):
        name = node_id(case)
        faults = [*case.iter("failure"), *case.iter("error")]
        skip = case.find("skipped")
        if faults:
            failed.setdefault(name, readable(faults[0].get("message", "")))
        elif skip is None:
            passed.add(name)
        elif skip.get("type") == "pytest.xfail":
            skipped[f"expected to fail: {readable(skip.get('message', ''))}"] += 1
        else:
            skipped[readable(skip.get("message", ""))] += 1
    seconds = sum(float(suite.get("time", 0)) for suite in root.iter("testsuite"))
    return {"seconds": seconds, "passed": len(passed - set(failed)), "failed": failed, "skipped": dict(skipped)}


def node_id(case: ElementTree.Element) -> str:
    """`tests/host/test_unet.py::test_x[y]`; of a module that could not be imported its dotted name."""
    file = case.get("file", "").replace("\\", "/")
    if not file:
        return ".".join(filter(None, (case.get("classname"), case.get("name"))))
    inner = case.get("classname", "").removeprefix(file.removesuffix(".py").replace("/", ".")).strip(".")
    return "::".join(filter(None, (file, inner, case.get("name"))))


def readable(message: str) -> str:
    """The first line of a message, of limited length, without the folders of the machine that it comes from."""
    line = next(iter(message.strip().splitlines()), "")
    line = re.sub(r"(?<![\w.:/])(?:[A-Z]:)?[/\\](?:[^\s/\\:'\"]+[/\\])+", "", line)
    return line if len(line) <= MESSAGE_LENGTH else f"{line[: MESSAGE_LENGTH - 1]}…"


def machine() -> str:
    """Processor, number of cores and system."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    processor = (names or [platform.processor() or platform.machine()])[0]
    return f"{processor}, {os.cpu_count()} cores, {platform.system()}"


def commit(root: Path) -> str:
    """The short commit of the repository, with a + where files other than the pages of docs/ differ from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    found = git("rev-parse", "--short", "HEAD")
    changed = git("status", "--porcelain", "--", ".", ":!docs")
    return f"{found}{'+' if changed else ''}" if found else "unknown"


def today() -> str:
    return datetime.date.today().isoformat()


# ---- what is kept ---------------------------------------------------------------------------------------------------


def stored_as(folder: Path, host: str, *parts: str) -> Path:
    """Where a run on a host keeps its files, without their ending."""
    name = re.sub(r"\W+", "-", " ".join(filter(None, parts))).strip("-")
    return folder / host / name


def store(file: Path, result: Result) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(as_json(asdict(result)), encoding="utf-8")


def stored(file: Path) -> Result | None:
    """The result of an earlier run. A run that was cut off leaves none."""
    return Result(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None


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


def as_json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def version(host: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", host)]


# ---- the page -------------------------------------------------------------------------------------------------------


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
