"""What the tests said on a ComfyUI: the result of a run, read from pytest's report and kept in a file."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SUITES = ["tests/server", "tests/host"]
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


def split_words(words: list[str], root: Path) -> tuple[list[str], list[str]]:
    """What is given to pytest, as (suites, options): a word that leads to a file or folder of `root` is a suite."""
    suites = [word for word in words if not word.startswith("-") and (root / word.split("::")[0]).exists()]
    return suites or SUITES, [word for word in words if word not in suites]


def pytest_arguments(suite: str, options: list[str], junit: Path) -> list[str]:
    """A module that cannot be imported counts as a failed test, and the others are run."""
    report = ["--junitxml", str(junit), "-o", "junit_family=xunit1"]  # that one names the files
    return ["-m", "pytest", suite, *options, *report, "--continue-on-collection-errors", "-p", "no:cacheprovider"]


def read_junit(junit: Path) -> dict[str, Any]:
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


def as_json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def version(host: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", host)]
