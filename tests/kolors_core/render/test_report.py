"""The page of all that was drawn: its figures, what becomes of texts, and what it says where there is nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from comfyui_kolors.kolors_core.errors import KolorsError
from comfyui_kolors.kolors_core.render import report
from comfyui_kolors.kolors_core.render.manifest import Manifest, encode
from comfyui_kolors.kolors_core.render.report import Tally, percentile, write_report
from comfyui_kolors.kolors_core.render.storage import open_storage

TEMPLATE = report.TEMPLATE.read_text(encoding="utf-8")
BAD = "</script><img src=x onerror=alert(1)><!-- 红苹果 \u2028 & \\u003c"
#: What is where in a row, as the page reads it.
(ORDER,) = re.findall(r"const \[(ROW, .*)\] = ", TEMPLATE)
PLACES = {name.lower(): place for place, name in enumerate(ORDER.split(", "))}


def line(row: int, number: int = 0, **others: Any) -> dict[str, Any]:
    """Of a job that began at second 60·row and took one minute."""
    name = f"images/0000/{row:06}.png"
    return {
        "row": row,
        "number": number,
        "seed": row,
        "values": {"prompt": f"prompt {row}"},
        "hash": f"hash {row}",
        "files": [{"name": name, "bytes": 1, "sha256": ""}],
        "seconds": {"sample": float(row), "all": 2.0 * row},
        "attempts": 1,
        "worker": "one/1",
        "device": "cpu",
        "versions": {"comfyui": "0.3.75"},
        "began": 60.0 * row,
        "ended": 60.0 * row + 60,
        "error": None,
        **others,
    }


def files(*names: str) -> list[dict[str, Any]]:
    return [{"name": f"images/0000/{name}", "bytes": 1, "sha256": ""} for name in names]


class Page(HTMLParser):
    """Elements of a page as a browser finds them, and the content of its scripts and styles."""

    def __init__(self, path: Path):
        super().__init__(convert_charrefs=False)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inline: list[tuple[str, str]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] in ("script", "style") and self.cdata_elem:
            kind = self.elements[-1][1].get("type") or self.elements[-1][0]
            if self.inline and self.inline[-1][0] == kind:
                data = self.inline.pop()[1] + data
            self.inline.append((kind, data))

    @property
    def data(self) -> dict[str, Any]:
        """The data of the page, with names in the rows."""
        data = json.loads(dict(self.inline)["application/json"])
        assert {len(row) for row in data["rows"]} == {len(PLACES)}
        data["rows"] = [{name: row[place] for name, place in PLACES.items()} for row in data["rows"]]
        return data


def page_of(folder: Path, *lines: dict[str, Any]) -> Page:
    manifest = Manifest(open_storage(str(folder)))
    for each in lines:
        manifest.record(each)
    assert write_report(str(folder)) == f"{folder}/report.html"
    return Page(folder / "report.html")


def values(data: dict[str, Any], row: int) -> dict[str, str]:
    return {name: data["texts"][at] for name, at in zip(data["columns"], data["rows"][row]["values"]) if at >= 0}


def test_the_figures_are_those_of_the_lines(tmp_path):
    lines = [line(row) for row in range(1, 12)]
    lines += [line(12, files=[], seconds={}, error="Out of memory", worker="two/2", versions={"comfyui": "0.3.80"})]
    data = page_of(tmp_path, *lines).data
    assert (data["jobs"], data["images"], data["files"], data["failed"]) == (12, 11, 11, 1)
    assert (data["began"], data["ended"], data["seconds"]) == (60, 780, 720)
    assert data["perMinute"] == pytest.approx(11 / 12, abs=1e-3)
    assert data["stages"] == [["sample", 11, 6, 10], ["all", 11, 12, 20]]
    assert sorted(data["workers"]) == [["one/1", "cpu", 11, 0, 1], ["two/2", "cpu", 1, 1, 0]]
    assert data["versions"] == {"comfyui": ["0.3.75", "0.3.80"]}
    row = data["rows"][1]
    assert dict(zip(data["stageNames"], row["seconds"])) == {**dict.fromkeys(report.STAGES, -1), "sample": 2, "all": 4}
    assert (data["workers"][row["worker"]][0], row["attempts"], row["hash"]) == ("one/1", 1, "hash 2")


def test_jobs_side_by_side_count_once_and_a_pause_not_at_all():
    tally = Tally()
    for began, ended in ((100, 160), (70, 130), (80, 90), (86400, 86430)):
        tally.add(line(1, began=float(began), ended=float(ended)))
    assert tally.seconds() == 120
    assert tally.per_minute() == 2


def test_a_percentile_lies_between_two_values_in_proportion():
    assert percentile([3.0], 0.9) == 3
    assert percentile([0.0, 10.0], 0.9) == pytest.approx(9)
    assert percentile([1.0, 2.0, 4.0, 8.0], 0.5) == pytest.approx(3)


def test_a_text_with_markup_stays_a_text(tmp_path):
    error = "<b>Failed</b></script>"
    page = page_of(tmp_path, line(1, values={"prompt": BAD, "<i>": 1}), line(2, files=[], error=error))
    assert [tag for tag, _ in page.elements].count("script") == 2
    assert not [tag for tag, names in page.elements if tag == "img" or "onerror" in names]
    assert values(page.data, 0) == {"prompt": BAD, "<i>": "1"}
    assert page.data["rows"][1]["error"] == error


def test_the_template_makes_no_html_of_texts_and_fetches_nothing():
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|fetch\(", TEMPLATE)
    assert "//" not in re.sub(r"^\s*//.*|; // .*", "", TEMPLATE, flags=re.MULTILINE)  # an address
    assert not re.search(r"<(link|iframe|object|embed)|@import|url\(", TEMPLATE)


def test_the_page_shows_as_images_what_is_counted_as_such():
    (pattern,) = re.findall(r"const IMAGE = /(.*)/i;", TEMPLATE)
    names = [
        "a.png",
        "a.jpg",
        "a.JPEG",
        "a.webp",
        "a.gif",
        "a.avif",
        "a.bmp",
        "a.svg",
        "a.latent",
        "a.mp4",
        "png",
        "a.png.json",
    ]
    shown = [name for name in names if re.search(pattern, name, re.IGNORECASE)]
    assert shown == [name for name in names if report.is_image(name)] == names[:8]


def test_the_page_has_a_word_in_both_languages_for_each_stage():
    for words in re.findall(r"stages: \{(.*?)\}", TEMPLATE, re.DOTALL):
        assert tuple(re.findall(r"(\w+):", words)) == report.STAGES
    assert len(re.findall(r"stages: \{", TEMPLATE)) == 2


def test_only_the_scripts_and_styles_of_the_page_may_run(tmp_path):
    page = page_of(tmp_path, line(1))
    (policy,) = (names["content"] for tag, names in page.elements if tag == "meta" and "http-equiv" in names)
    rules = dict(rule.strip().split(" ", 1) for rule in (policy or "").split(";"))
    assert rules["default-src"] == "'none'"
    for kind in ("script", "style"):
        (content,) = (text for each, text in page.inline if each == kind)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"


def test_rows_are_in_order_with_all_their_files(tmp_path):
    several = files("000002-001_1.png", "000002-001_2.PNG", "000002-001.latent", "000002-001.mp4")
    open_storage(str(tmp_path)).write("manifest/rows-1.jsonl", encode([line(10), line(2, 1, files=several)]))
    data = page_of(tmp_path, line(2, 2), line(1)).data
    assert [(row["row"], row["number"]) for row in data["rows"]] == [(1, 0), (2, 1), (2, 2), (10, 0)]
    assert data["rows"][1]["files"] == [file["name"] for file in several]
    assert (data["files"], data["images"]) == (7, 5)


def test_a_rate_is_of_files_where_there_is_no_image(tmp_path):
    data = page_of(tmp_path, line(1, files=files("000001.mp4"))).data
    assert (data["images"], data["files"], data["perMinute"]) == (0, 1, 1)


def test_values_are_texts_and_a_missing_one_is_told_from_an_empty_one(tmp_path):
    seed = 2**64 - 1
    data = page_of(
        tmp_path,
        line(1, seed=seed, values={"prompt": "", "cfg": 4.5}),
        line(2, seed=None, values={"steps": 20, "prompt": "x", "tags": ["红", 1], "on": True}),
    ).data
    assert data["texts"][data["rows"][0]["seed"]] == str(seed)
    assert data["rows"][1]["seed"] == -1
    assert values(data, 0) == {"prompt": "", "cfg": "4.5"}
    assert values(data, 1) == {"prompt": "x", "steps": "20", "tags": '["红", 1]', "on": "true"}


def test_a_text_that_utf_8_cannot_hold_does_not_stop_the_page(tmp_path):
    (tmp_path / "manifest").mkdir()
    content = json.dumps(line(1, values={"prompt": "half \ud83c of one"}))  # with escapes, as JSON may have them
    (tmp_path / "manifest" / "rows-1.jsonl").write_text(content, encoding="utf-8")
    assert values(page_of(tmp_path).data, 0) == {"prompt": "half \ud83c of one"}


def test_the_table_is_named_where_the_run_left_its_record(tmp_path):
    assert page_of(tmp_path, line(1)).data["table"] == ""
    (tmp_path / "run.json").write_text('{"table": "春.csv"}', encoding="utf-8")
    assert page_of(tmp_path).data["table"] == "春.csv"


@pytest.mark.parametrize("made", [True, False])
def test_a_folder_without_a_manifest_gets_no_page(tmp_path, made):
    folder = tmp_path / "renders"
    if made:
        folder.mkdir()
    with pytest.raises(KolorsError) as raised:
        write_report(str(folder))
    for part in (str(folder), "holds no manifest", "--out"):
        assert part in str(raised.value)
    assert not (folder / "report.html").exists()


def test_a_place_that_cannot_be_read_is_named(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(KolorsError, match=re.escape(f"{file} cannot be read")):
        write_report(str(file))
