"""The tables of docs/performance.md and of its Chinese page: one for each machine that has results."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .bench_words import PLOTS, WORDS, translated
from .hosts_page import cell, table
from .progress import SetupError

PAGES = {"en": "performance.md", "zh": "zh/performance.md"}  # in docs/
BEGIN, END = "<!-- measured by dev.py bench -->", "<!-- /measured by dev.py bench -->"
#: Of the benchmarks' rows; others come after these, by name.
ORDER = (
    "text_encoder",
    "text_encoder_released",
    "unet",
    "pipeline",
    "load",
    "memory",
    "additions",
    "start",
    "render",
    "lists",
    "migration",
    "damaged",
    "gpu",
)
#: What a figure depends on beside the machine, and how it is written.
VERSIONS = {
    "package": "comfyui-kolors {}",
    "python": "Python {}",
    "torch": "torch {}",
    "comfyui": "ComfyUI {}",
    "diffusers": "diffusers {}",
}


@dataclass(frozen=True)
class Report:
    """What one benchmark found on one machine, and where it lies."""

    path: Path
    machine: dict[str, Any]
    date: str
    rows: list[dict[str, Any]]

    @property
    def conditions(self) -> dict[str, Any]:
        """The threads, versions and day of its figures, as far as they are known."""
        found = {key: self.machine.get(key) for key in ("threads", *VERSIONS)} | {"date": self.date}
        return {key: value for key, value in found.items() if value}


def write_pages(docs: Path, results: Path) -> None:
    """Puts the tables of all machines between the markers of each page, and leaves the rest of the page alone."""
    machines = [reports for folder in sorted(results.iterdir()) if (reports := read_reports(folder))]
    changed = {}
    for language, name in PAGES.items():
        page = docs / name
        text = page.read_text(encoding="utf-8")
        if text.count(BEGIN) != 1 or text.count(END) != 1:
            raise SetupError(f"{page} has no place for the tables: expected one {BEGIN} and one {END} after it.")
        before, rest = text.split(BEGIN)
        after = rest.split(END)[1]
        parts = [part for reports in machines for part in machine_parts(reports, language)]
        changed[page] = "\n\n".join([f"{before}{BEGIN}", *parts, f"{END}{after}"])
    for page, text in changed.items():
        page.write_text(text, encoding="utf-8")


def read_reports(folder: Path) -> list[Report]:
    """Of one machine, in the order of the page. Raises SetupError for a file that is no report."""
    reports = []
    for path in sorted(folder.glob("*.json")):
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            report = Report(path, found["machine"], found["date"], found["page"])
        except (ValueError, KeyError, TypeError) as error:
            raise SetupError(f"{path} is no report of a benchmark ({error!r}). Delete it or measure it anew.") from None
        if report.rows:
            reports.append(report)
    return sorted(reports, key=lambda report: (place(report.path.stem), report.path.stem))


def place(name: str) -> int:
    return ORDER.index(name) if name in ORDER else len(ORDER)


def machine_parts(reports: list[Report], language: str) -> Iterator[str]:
    """The heading of a machine, its conditions, its table and its plots."""
    words = WORDS[language]
    common = common_conditions(reports)
    folder = reports[0].path.parent
    yield f"### {title(reports[0].machine)}"
    raw = words["raw"].format(f"benchmarks/results/{folder.name}/")
    yield f"{words['listed'].join(written(common, language))}{words['end']} {raw}".replace("。 ", "。")
    lines = [line for report in reports for line in row_lines(report, common, language)]
    yield table(list(words["headings"]), lines)
    for report in reports:
        plot = report.path.with_suffix(".png")
        if plot.is_file():
            up = "../" * len(Path(PAGES[language]).parts)
            alt = PLOTS[language].get(report.path.stem, report.path.stem)
            yield f"![{alt}]({up}benchmarks/results/{folder.name}/{plot.name})"


def common_conditions(reports: list[Report]) -> dict[str, Any]:
    """Of each condition what most rows have, and the newest of those that are equally common."""
    counts: dict[str, Counter[Any]] = {}
    for report in sorted(reports, key=lambda report: report.date, reverse=True):
        for key, value in report.conditions.items():
            counts.setdefault(key, Counter())[value] += len(report.rows)
    return {key: found.most_common(1)[0][0] for key, found in counts.items()}  # of equal ones the first that was met


def title(machine: dict[str, Any]) -> str:
    """`AMD EPYC, 2 cores, NVIDIA H200`, which both languages write alike."""
    cores = machine.get("cores")
    parts = (machine["processor"], cores and f"{cores} cores", machine.get("accelerator"))
    return ", ".join(filter(None, parts)).replace("(R)", "").replace("(TM)", "")


def written(conditions: dict[str, Any], language: str) -> Iterator[str]:
    """Threads, versions and day in words."""
    threads = WORDS[language]["thread" if conditions.get("threads") == 1 else "threads"]
    words = {"threads": threads} | VERSIONS | {"date": "{}"}
    return (text.format(conditions[key]) for key, text in words.items() if key in conditions)


def row_lines(report: Report, common: dict[str, Any], language: str) -> Iterator[list[object]]:
    """The lines of a benchmark; each says what of its conditions is not that of the machine's heading."""
    words = WORDS[language]
    others = {key: value for key, value in report.conditions.items() if common[key] != value}
    note = words["note"].format(words["listed"].join(written(others, language))) if others else ""
    for row in report.rows:
        beside = ""
        if row.get("beside"):
            named = translated(row["beside"], language)
            other = row.get("other")
            beside = named if other is None else words["beside"].format(figure(other, row["unit"], language), named)
        value = row.get("value")
        yield [
            cell(translated(row["name"], language)) + note,
            "–" if value is None else figure(value, row["unit"], language),
            cell(beside),
            f"{row['ratio']:.2f}" if "ratio" in row else "",
        ]


def figure(value: float, unit: str, language: str) -> str:
    """A value as it is read: three digits, and seconds below one in milliseconds."""
    if unit == "exponent":
        return f"n^{round(value, 2) + 0.0:.2f}"  # no -0.00
    if unit == "s":
        small = value < 0.9995
        return f"{digits(value * 1000 if small else value)} {WORDS[language]['ms' if small else 's']}"
    if unit == "%":
        return f"{value:.1f}{' ' if language == 'en' else ''}%"
    return f"{digits(value)} {unit}".strip()


def digits(value: float) -> str:
    """Three digits, or all before the point."""
    if abs(value) >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"
