"""devtools/hosts_page.py."""

from __future__ import annotations

import re
from pathlib import Path

from comfyui_kolors.devtools.hosts_page import PAGES, record

ROOT = Path(__file__).resolve().parents[2]


def test_a_new_result_replaces_its_older_one_and_others_stay(tmp_path, result):
    old, other = result(passed=1), result("0.16.0", suite="tests/server", skipped={"no | card": 4})
    novram = result(flags="--novram", failed={"tests/a.py::test_b[1]": "it | broke"})
    record(tmp_path, [old, other])
    record(tmp_path, [novram, result("0.8.0"), result(passed=2, commit="def5678")])
    rows = [line for line in (tmp_path / "hosts.md").read_text(encoding="utf-8").splitlines() if line.startswith("| 0")]
    assert rows[:4] == [
        "| 0.3.75 | `tests/host` | 2 | 0 | 0 | 1.5 | `def5678` | 2026-01-02 |",
        "| 0.3.75 | `tests/host` with `--novram` | 3 | 1 | 0 | 1.5 | `abc1234` | 2026-01-02 |",
        "| 0.8.0 | `tests/host` | 3 | 0 | 0 | 1.5 | `abc1234` | 2026-01-02 |",
        "| 0.16.0 | `tests/server` | 3 | 0 | 4 | 1.5 | `abc1234` | 2026-01-02 |",
    ]
    assert rows[4] == "| 0.3.75 | `tests/host`, `tests/host` with `--novram` | 3.11.7 | 2.13.0 | 1.2 | a CPU |"
    for page in PAGES.values():
        text = (tmp_path / page).read_text(encoding="utf-8")
        assert "`tests/a.py::test_b[1]` (it \\| broke)" in text
        assert "| `tests/server` | no \\| card |  |  | 4 |" in text
        assert (tmp_path / page).parent.joinpath(re.search(r"\[hosts.json\]\((.+)\)", text)[1]).is_file()


def test_the_pages_of_the_repository_are_those_of_its_record(tmp_path):
    docs = ROOT / "docs"
    (tmp_path / "hosts.json").write_bytes((docs / "hosts.json").read_bytes())
    record(tmp_path, [])
    for name in ("hosts.json", *PAGES.values()):
        assert (tmp_path / name).read_text(encoding="utf-8") == (docs / name).read_text(encoding="utf-8"), name
