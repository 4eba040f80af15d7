"""devtools/bench_words.py: every name of a figure in both languages."""

from __future__ import annotations

import json

from comfyui_kolors.devtools import places
from comfyui_kolors.devtools.bench_words import CHINESE, PLOTS, VALUE, WORDS, translated

RESULTS = places.ROOT / "benchmarks" / "results"


def test_names_are_translated_with_their_numbers():
    assert translated("Converting 1,000 graphs", "zh") == "转换 1,000 个旧工作流"
    assert (
        translated("Prompt of 20 tokens, stored in fp8_e4m3fn", "zh") == "编码 20 个 token 的提示词，以 fp8_e4m3fn 存放"
    )
    assert translated("Nobody knows 3 of them", "zh") == "Nobody knows 3 of them"
    assert all(english.count("{}") == chinese.count("{}") for english, chinese in CHINESE.items())
    assert not [english for english in CHINESE if VALUE.search(english)]


def test_every_kept_name_has_its_chinese():
    rows = [row for path in RESULTS.glob("*/*.json") for row in json.loads(path.read_text(encoding="utf-8"))["page"]]
    names = {row["name"] for row in rows} | {row["beside"] for row in rows if "beside" in row}
    assert names and not [name for name in names if VALUE.sub("{}", name) not in CHINESE]


def test_both_languages_have_the_same_words():
    for words in (WORDS, PLOTS):
        assert words["en"].keys() == words["zh"].keys()
