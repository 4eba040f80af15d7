"""The pages for people: help, READMEs, SECURITY, CHANGELOG."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from house import CHINESE, LANGUAGES, ROOT, locale, name_of, our_classes

READMES = {"en": ROOT / "README.md", "zh": ROOT / "README_zh.md"}
SECURITY = {"en": ROOT / "SECURITY.md", "zh": ROOT / "SECURITY_zh.md"}
TEST_COMMAND = "python3 dev.py test"


def page_faults(page: str, texts: dict) -> list[str]:
    """What a help page of a node leaves out; `texts` is the node's entry of the English locale."""
    faults = [] if page.startswith("# ") else ["no title"]
    faults += [f"the input {name} is not explained" for name in texts["inputs"] if f"`{name}`" not in page]
    return faults + [
        f"the output {o['name']} is not explained" for o in texts["outputs"].values() if f"`{o['name']}`" not in page
    ]


def headings(text: str) -> list[int]:
    """Levels of the headings of a Markdown text, fenced blocks left out."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [len(marks) for marks in re.findall(r"^(#+) ", text, flags=re.MULTILINE)]


def broken_links(text: str, folder: Path) -> list[str]:
    """Relative links of a Markdown text to files that are not there."""
    links = re.findall(r"\]\(([^)#\s]+)", text)
    return [link for link in links if not re.match(r"\w+:", link) and not (folder / link).exists()]


def chinese_page(node: str) -> Path:
    return ROOT / "web" / "docs" / node / "zh.md"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_node_has_a_help_page(language):
    """The front end asks for <NodeId>/<language>.md and then for <NodeId>.md."""
    for name, texts in locale("en", "nodeDefs.json").items():
        page = ROOT / "web" / "docs" / f"{name}.md" if language == "en" else chinese_page(name)
        text = page.read_text(encoding="utf-8")
        assert not page_faults(text, texts), name_of(page)
        assert bool(CHINESE.search(text.splitlines()[0])) == (language == "zh"), name_of(page)
        assert headings(text) == headings(chinese_page(name).read_text(encoding="utf-8")), name


def test_no_help_page_is_left_over():
    pages = {path.stem for path in (ROOT / "web" / "docs").glob("*.md")}
    folders = {path.name for path in (ROOT / "web" / "docs").iterdir() if path.is_dir()}
    assert pages == folders - {"images"} == set(our_classes())


def test_every_help_page_shows_a_small_picture():
    """The front end looks for a page's pictures beside the English pages, whatever the language.

    `python3 dev.py test tests/browser/pictures.py` draws them.
    """
    docs, shown = ROOT / "web" / "docs", set()
    for name in our_classes():
        for page, picture in ((docs / f"{name}.md", f"{name}.webp"), (chinese_page(name), f"{name}.zh.webp")):
            shown.add(picture)
            assert re.findall(r"!\[.+\]\((.+)\)", page.read_text(encoding="utf-8")) == [f"images/{picture}"], page
            assert 1_000 < (docs / "images" / picture).stat().st_size < 40_000, picture
    assert {path.name for path in (docs / "images").iterdir()} == shown


@pytest.mark.parametrize("pages", [READMES, SECURITY], ids=["readme", "security"])
def test_pages_in_both_languages_have_the_same_headings(pages):
    english, chinese = (path.read_text(encoding="utf-8") for path in pages.values())
    assert headings(english) == headings(chinese)
    assert len(headings(english)) > 5


def missing_tests(text: str) -> list[str]:
    """Tests that a text names and that are not there; a parametrised one goes by its function."""
    missing = []
    for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text):
        path = ROOT / file
        if not path.is_file() or f"\ndef {name}(" not in path.read_text(encoding="utf-8"):
            missing.append(f"{file}::{name}")
    return missing


def test_the_security_page_names_tests_that_are_there():
    english, chinese = (path.read_text(encoding="utf-8") for path in SECURITY.values())
    assert not missing_tests(english)
    assert re.findall(r"`tests/.*?`", english) == re.findall(r"`tests/.*?`", chinese)
    assert missing_tests("`tests/test_contract.py::test_gone` `tests/gone.py::test_gone`")


@pytest.mark.parametrize("path", [*READMES.values(), *SECURITY.values(), ROOT / "CHANGELOG.md"], ids=name_of)
def test_links_lead_to_files(path):
    assert not broken_links(path.read_text(encoding="utf-8"), ROOT)


def test_ci_runs_the_test_command_of_the_readmes():
    script = ROOT / ".ci" / "run"
    assert script.read_text(encoding="utf-8").splitlines()[-1] == TEST_COMMAND
    assert os.name == "nt" or os.access(script, os.X_OK)
    for path in READMES.values():
        fences = re.findall(r"^```\w*\n(.*?)^```", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        assert any(TEST_COMMAND in fence.splitlines() for fence in fences), name_of(path)


def test_changelog_begins_with_the_current_version():
    """After what is not released yet."""
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)[1]
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert next(heading for heading in headings if heading != "Unreleased") == version
    assert "Unreleased" not in headings[1:]


def test_page_rules_find_faults(tmp_path):
    texts = {"inputs": {"clip": {}}, "outputs": {"0": {"name": "model"}}}
    assert not page_faults("# Node\n`clip` `model`", texts)
    assert (
        page_faults("`clip` `model`", texts)
        and page_faults("# N\n`model`", texts)
        and page_faults("# N\n`clip`", texts)
    )
    assert headings("# a\n```\n# b\n```\n## c\n") == [1, 2]
    assert broken_links("[a](gone.md) [b](https://example.org)", tmp_path) == ["gone.md"]
