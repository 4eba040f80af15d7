"""devtools/bench_page.py: the tables of docs/performance.md."""

from __future__ import annotations

import json

import pytest
from comfyui_kolors.devtools import places
from comfyui_kolors.devtools.bench_page import BEGIN, END, PAGES, figure, write_pages
from comfyui_kolors.devtools.bench_words import PLOTS
from comfyui_kolors.devtools.progress import SetupError

MACHINE = {"processor": "Fast(R) CPU", "cores": 2, "threads": 2, "python": "3.11.7", "torch": "2.13.0"}
STEP = {"name": "Guided step, 256 px", "value": 0.0693, "unit": "s", "beside": "diffusers", "other": 0.101}
STEP |= {"ratio": 0.675}
RESULTS = places.ROOT / "benchmarks" / "results"


@pytest.fixture
def pages(tmp_path):
    """docs/ with both pages, and a folder of results."""
    (tmp_path / "docs/zh").mkdir(parents=True)
    (tmp_path / "results").mkdir()
    for name in PAGES.values():
        (tmp_path / "docs" / name).write_text(f"# Before\n\n{BEGIN}\nold\n{END}\n\nAfter.\n", encoding="utf-8")
    return tmp_path


def save(pages, folder="fast-2-cores", name="unet", date="2026-01-02", rows=(STEP,), **machine):
    path = pages / "results" / folder / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    report = {"machine": MACHINE | machine, "date": date, "page": list(rows), "raw": [1, 2]}
    path.write_text(json.dumps(report), encoding="utf-8")
    return path


def written(pages, language="en") -> str:
    write_pages(pages / "docs", pages / "results")
    return (pages / "docs" / PAGES[language]).read_text(encoding="utf-8")


def test_both_pages_have_the_table_and_keep_what_is_around_it(pages):
    save(pages).with_suffix(".png").touch()
    english, chinese = written(pages), written(pages, "zh")
    assert english.startswith(
        f"# Before\n\n{BEGIN}\n\n### Fast CPU, 2 cores\n\n2 threads, Python 3.11.7, torch 2.13.0, "
    )
    assert "old" not in english and english.endswith(f"{END}\n\nAfter.\n")
    assert "| Guided step, 256 px | 69.3 ms | 101 ms (diffusers) | 0.68 |" in english
    assert "| 带引导的一步，256 px | 69.3 毫秒 | 101 毫秒（diffusers） | 0.68 |" in chinese
    for language, text, up in (("en", english, "../"), ("zh", chinese, "../../")):
        assert f"![{PLOTS[language]['unet']}]({up}benchmarks/results/fast-2-cores/unet.png)" in text
    assert written(pages) == english and written(pages, "zh") == chinese


def test_what_was_not_measured_again_stays_with_its_own_conditions(pages):
    save(pages, rows=[STEP, {"name": "Gone", "value": 1.0, "unit": "s"}])
    save(pages, name="load", rows=[{"name": "Loading text encoder and UNet", "value": 0.08, "unit": "s"}])
    assert "(2026" not in written(pages)
    save(pages, date="2026-02-03", torch="2.14.0", rows=[STEP | {"value": 0.05, "ratio": 0.5}])
    english, chinese = written(pages), written(pages, "zh")
    assert "2 threads, Python 3.11.7, torch 2.14.0, 2026-02-03." in english
    assert "| Guided step, 256 px | 50.0 ms | 101 ms (diffusers) | 0.50 |" in english and "Gone" not in english
    assert "| Loading text encoder and UNet (torch 2.13.0, 2026-01-02) | 80.0 ms |  |  |" in english
    assert "| 加载文本编码器和 UNet（torch 2.13.0，2026-01-02） | 80.0 毫秒 |  |  |" in chinese


def test_each_machine_has_a_table(pages):
    save(pages)
    alone = written(pages)
    save(pages, folder="slow-card", processor="Slow", accelerator="Card", rows=[STEP | {"value": 0.5, "ratio": 5}])
    both = written(pages)
    assert both.index("### Fast CPU, 2 cores") < both.index("### Slow, 2 cores, Card")
    save(
        pages, folder="slow-card", name="load", threads=1, rows=[{"name": "Start of ComfyUI", "value": 9, "unit": "s"}]
    )
    assert "(1 thread)" in written(pages)
    assert alone.split(END)[0].strip() in both and "| 500 ms | 101 ms (diffusers) | 5.00 |" in both


def test_a_ratio_without_values_and_a_benchmark_without_rows_are_no_fault(pages):
    save(pages, name="products", rows=[])
    save(pages, name="first", rows=[{"name": "A | B", "unit": "ratio", "beside": "diffusers", "ratio": 0.85}])
    assert "| A \\| B | – | diffusers | 0.85 |" in written(pages)


def test_damage_is_named_and_leaves_the_pages(pages):
    save(pages).write_text('{"machine": {}}', encoding="utf-8")
    with pytest.raises(SetupError, match=r"unet\.json is no report"):
        written(pages)
    save(pages)
    page = pages / "docs" / PAGES["zh"]
    page.write_text("# No place\n", encoding="utf-8")
    with pytest.raises(SetupError, match="no place for the tables"):
        written(pages)
    assert "old" in (pages / "docs" / PAGES["en"]).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.00058, "s", "0.58 ms"), (0.0852, "s", "85.2 ms"), (0.9999, "s", "1.00 s"), (1234.5, "s", "1,234 s"),
        (10.94, "MiB", "10.9 MiB"), (11958.6, "MiB", "11,959 MiB"), (1.69, "%", "1.7 %"),
        (-0.001, "exponent", "n^0.00"),
    ],
)  # fmt: skip
def test_figures_are_short(value, unit, text):
    assert figure(value, unit, "en") == text


def test_the_pages_are_those_of_the_results(tmp_path):
    for name in PAGES.values():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((places.ROOT / "docs" / name).read_text(encoding="utf-8"), encoding="utf-8")
    write_pages(tmp_path, RESULTS)
    for name in PAGES.values():
        assert (tmp_path / name).read_text(encoding="utf-8") == (places.ROOT / "docs" / name).read_text(
            encoding="utf-8"
        )
