"""What a visitor of the repository meets: pages, links, workflows. Needs Python and pytest alone.

Every rule is a function from a text to a list of faults, and has a test that shows it finding one.
"""

from __future__ import annotations

import ast
import re
import unicodedata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAIRS = [(page, page.parent / "zh" / page.name) for page in DOCS]
PAIRS += [(ROOT / f"{name}.md", ROOT / f"{name}_zh.md") for name in ("README", "SECURITY", "CONTRIBUTING")]
PAGES = [page for pair in PAIRS for page in pair]
ENGLISH = [english for english, _ in PAIRS]
HELP = sorted((ROOT / "web" / "docs").glob("*.md"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

README_BYTES, README_LINES = 16384, 200
PARAGRAPH = 4 * 120  # columns
FENCE = re.compile(r"^(```+).*?^\1", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
ACTION = re.compile(r"^\s*(?:- )?uses: *(\S+)(.*)$", re.MULTILINE)
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}$")
#: What is no prose: code, fenced or not, and where a link or an image leads.
NO_PROSE = re.compile(rf"{FENCE.pattern}|`[^`\n]+`|(?<=\])\([^)\s]+\)", re.DOTALL | re.MULTILINE)
#: The section of docs/architecture.md that says which words replace which: the one place that may name the old ones.
GLOSSARY = re.compile(r"^## Words$.*?(?=^## )", re.DOTALL | re.MULTILINE)
OLD_WORDS = re.compile(
    r"\b(towers?|pictures?|the hosts?|the reference|(?:a|the|this|that|other|older|Kolors) packs?"
    r"|tell apart|told (?:apart|by)|by (?:its|their) content|styles? of keys|text states|padded rows?"
    r"|counts (?:nowhere|only|no more|beside)|(?:it|face|image) counts|\d+ wide|mend(?:s|ed)?"
    r"|do not add up|belongs? into)\b",
    re.IGNORECASE,
)
#: The tables that a benchmark writes, one for each machine.
MEASURED = re.compile(r"^<!-- measured by .*?^<!-- /measured by", re.DOTALL | re.MULTILINE)
MODULE = re.compile(r"`((?:kolors_core|nodes)/[\w/]+\.py)`")
STEP = re.compile(r"^\d+\. `(\S+?\.py)`[:：](.*)$", re.MULTILINE)


def name_of(path: object) -> str:
    return path.relative_to(ROOT).as_posix() if isinstance(path, Path) else str(path)


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


# ---- pages ----------------------------------------------------------------------------------------------------------


def titles(text: str) -> list[tuple[int, str]]:
    """Level and text of each heading, fenced blocks left out."""
    return [
        (len(marks), title.strip()) for marks, title in re.findall(r"^(#+) (.*)$", FENCE.sub("", text), re.MULTILINE)
    ]


def anchors(text: str) -> set[str]:
    """What GitHub calls the headings of a page in links."""
    found: dict[str, int] = {}
    for _, title in titles(text):
        slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
    return {slug if not number else f"{slug}-{number}" for slug, count in found.items() for number in range(count + 1)}


def bad_links(text: str, page: Path) -> list[str]:
    """Relative links to files or headings that are not there."""
    faults = []
    for link in LINK.findall(FENCE.sub("", text)):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if target != page and not target.exists():
            faults.append(f"{link}: no such file")
        elif anchor and anchor not in anchors(text if target == page else read(target)):
            faults.append(f"{link}: no such heading")
    return faults


def width(text: str) -> int:
    """Columns of a text, in which a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def long_paragraphs(text: str) -> list[str]:
    """Paragraphs and list items of more than four lines; tables and fenced blocks are none."""
    lines = [line for line in FENCE.sub("", text).splitlines() if not line.startswith("|")]
    return [
        f"{width(line)} columns: {line[:40]}" for line in lines if width(re.sub(r"\]\([^)]*\)", "]", line)) > PARAGRAPH
    ]


def old_words(text: str) -> list[str]:
    """Words that the glossary replaces, in the prose of a page."""
    return [match[0] for match in OLD_WORDS.finditer(NO_PROSE.sub("", text))]


def lone_ratios(text: str) -> list[str]:
    """Lines of prose that give a step's ratio to diffusers on one kind of processor and not on the other."""
    return [
        line[:60]
        for line in MEASURED.sub("", text).splitlines()
        if bool(re.search(r"\b0\.6[89]\b", line)) != bool(re.search(r"\b0\.85\b", line))
    ]


def test_every_page_is_there_in_both_languages():
    assert {page.name for page in DOCS} == {page.name for page in (ROOT / "docs" / "zh").glob("*.md")}
    assert [name_of(page) for page in PAGES if not page.is_file()] == []


@pytest.mark.parametrize("english, chinese", PAIRS, ids=name_of)
def test_both_languages_have_the_same_headings(english, chinese):
    ours, theirs = titles(read(english)), titles(read(chinese))
    assert [level for level, _ in ours] == [level for level, _ in theirs]
    assert len(ours) > 2


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=name_of)
def test_links_lead_to_files_and_headings(page):
    assert not bad_links(read(page), page)


@pytest.mark.parametrize("page", PAIRS[len(DOCS)], ids=name_of)
def test_the_readme_is_a_front_door(page):
    assert page.stat().st_size <= README_BYTES
    assert len(read(page).splitlines()) <= README_LINES
    assert not long_paragraphs(read(page))


@pytest.mark.parametrize("page", [*ENGLISH, *HELP], ids=name_of)
def test_pages_use_the_words_of_the_architecture(page):
    assert not old_words(GLOSSARY.sub("", read(page)))


def test_the_glossary_names_the_old_words():
    (glossary,) = GLOSSARY.findall(read(ROOT / "docs" / "architecture.md"))
    assert {"tower", "padded row", "mend", "text states", "the reference", "picture"} <= set(old_words(glossary))


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=name_of)
def test_a_ratio_that_depends_on_the_processor_stands_with_the_other_one(page):
    assert not lone_ratios(read(page))


def test_the_ratio_is_given_for_more_than_one_processor():
    (measured,) = MEASURED.findall(read(ROOT / "docs" / "performance.md"))
    assert len(re.findall(r"^\| Guided step, 512 px .*diffusers.* \d\.\d\d \|$", measured, re.MULTILINE)) > 1


def test_page_rules_find_faults(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# The `title`, again\n## One\n## One\n```\n# no\n```\n## 可图 K采样器的噪声\n", encoding="utf-8")
    text = read(page)
    assert titles(text) == [(1, "The `title`, again"), (2, "One"), (2, "One"), (2, "可图 K采样器的噪声")]
    assert anchors(text) == {"the-title-again", "one", "one-1", "可图-k采样器的噪声"}
    other = tmp_path / "other.md"
    good = "[a](page.md) [b](page.md#one-1) [c](https://example.org#x) ![d](page.md)\n```\n[e](gone)\n```\n"
    assert not bad_links(good, other)
    assert bad_links("[a](gone.md) [b](page.md#two) [c](#here)", other) == [
        "gone.md: no such file",
        "page.md#two: no such heading",
        "#here: no such heading",
    ]
    assert not long_paragraphs(f"{'x' * PARAGRAPH}\n|{'x' * 999}|\n```\n{'x' * 999}\n```\n")
    assert long_paragraphs("x" * (PARAGRAPH + 1)) and long_paragraphs("图" * (PARAGRAPH // 2 + 1))
    assert old_words("the vision tower is told apart") == ["tower", "told apart"]
    for planted in ("Pictures", "The reference", "the host's", "this pack", "is 4096 wide", "it counts", "Mended"):
        assert old_words(f"One sentence. {planted} in another one."), planted
    assert not old_words("`a picture` ![package](images/picture.webp) ref\n```\nthe host\n```\npackage, depict, amend")
    assert not old_words(GLOSSARY.sub("", "## Words\n| image | picture |\n## House rules\n"))
    assert not lone_ratios("0.69, 0.85\n<!-- measured by x -->\n0.69\n<!-- /measured by x -->\n")
    assert lone_ratios("it takes 0.69 of the time") and lone_ratios("0.85") and not lone_ratios("0.69, 0.85, and 10.69")


# ---- the map --------------------------------------------------------------------------------------------------------


def missing_modules(text: str) -> list[str]:
    """Modules that a page names and that are not there."""
    return sorted({path for path in MODULE.findall(text) if not (ROOT / path).is_file()})


def definitions(path: Path) -> set[str]:
    """Names of functions and classes of a module, methods as `Class.method` too."""
    tree, found = ast.parse(read(path)), set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
    return found


def missing_names(text: str) -> list[str]:
    """Functions that a step of a journey, `module.py`: text, names and that its module does not define.

    Of the text, what stands before the next module is meant: the first name in backticks.
    """
    faults = []
    for path, rest in STEP.findall(text):
        names = re.findall(r"`([A-Za-z_][\w.]*)`", rest)
        if names and (ROOT / path).is_file() and names[0] not in definitions(ROOT / path):
            faults.append(f"{path}: {names[0]}")
    return faults


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name in ("architecture.md", "CONTRIBUTING.md")], ids=name_of
)
def test_the_map_names_modules_and_functions_that_are_there(page):
    text = read(page)
    assert not missing_modules(text)
    assert not missing_names(text)


def test_map_rules_find_faults():
    assert missing_modules("`kolors_core/gone.py` `nodes/__init__.py`") == ["kolors_core/gone.py"]
    assert missing_names(
        "1. `nodes/prompt.py`: `KolorsPromptEncode.encode` calls\n2. `nodes/prompt.py`: `gone` too\n"
    ) == ["nodes/prompt.py: gone"]


# ---- workflows ------------------------------------------------------------------------------------------------------


def unpinned(text: str) -> list[str]:
    """Actions that are not named by a whole commit with the version beside it; workflows of this repository may be."""
    return [
        action
        for action, rest in ACTION.findall(text)
        if not action.startswith("./") and not (PINNED.match(action) and re.match(r" +# \S", rest))
    ]


def jobs(text: str) -> dict[str, str]:
    """The text of each job of a workflow, which are indented by two spaces."""
    _, _, body = text.partition("\njobs:\n")
    parts = re.split(r"^  ([\w-]+):\n", body, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2]))


def publish_faults(text: str) -> list[str]:
    """What lets a version out that was not tested, or that its tag does not name."""
    faults = []
    triggers = text.partition("\non:")[2].partition("\npermissions:")[0]
    if not re.fullmatch(r'\s*push:\s*tags: \["v\*"\]\s*', triggers):
        faults.append("it starts from something else than a tag")
    found = jobs(text)
    called = {name: match[1] for name, job in found.items() if (match := re.search(r"uses: \./\S*/(\w+)\.yml", job))}
    secret = [job for job in found.values() if "secrets." in job]
    for job in secret:
        needed = re.search(r"needs: \[(.*)\]", job)
        names = re.findall(r"[\w-]+", needed[1]) if needed else []
        faults += [
            f"{file}.yml does not come first" for file in ("test", "hosts") if file not in map(called.get, names)
        ]
        if not any("GITHUB_REF_NAME" in found[name] and "pyproject.toml" in found[name] for name in names):
            faults.append("the tag is not compared with the version")
    return faults if secret else [*faults, "nothing is published"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=name_of)
def test_actions_are_pinned_and_may_only_read(path):
    text = read(path)
    assert not unpinned(text)
    assert "\npermissions:\n  contents: read\n\n" in text and text.count("permissions:") == 1
    assert "pull_request_target" not in text


def test_nothing_is_published_untested():
    assert not publish_faults(read(ROOT / ".github" / "workflows" / "publish.yml"))
    for name in ("test", "hosts"):
        assert "\n  workflow_call:\n" in read(ROOT / ".github" / "workflows" / f"{name}.yml")


def test_a_pull_request_is_tested():
    text = read(ROOT / ".github" / "workflows" / "test.yml")
    assert "\n  pull_request:\n" in text
    for command in ("dev.py lint", "dev.py test --quick"):
        assert command in text


def test_workflow_rules_find_faults():
    commit = "0123456789abcdef" * 2 + "01234567"
    assert not unpinned(f"      - uses: a/b@{commit} # v1\n    uses: ./.github/workflows/test.yml\n")
    for bad in ("a/b@v1", "a/b@main # v1", f"a/b@{commit}", f"a/b@{commit[:-1]} # v1"):
        assert unpinned(f"      - uses: {bad}\n"), bad
    good = read(ROOT / ".github" / "workflows" / "publish.yml")
    for change in (
        ('tags: ["v*"]', "branches: [main]"),
        ("needs: [version, quick, hosts]", "needs: [version, quick]"),
        ("needs: [version, quick, hosts]", "needs: [quick, hosts]"),
        ("    needs: [version, quick, hosts]\n", ""),
        ("workflows/hosts.yml", "workflows/other.yml"),
        ("secrets.REGISTRY_ACCESS_TOKEN", "nothing"),
    ):
        assert change[0] in good and publish_faults(good.replace(*change)), change
