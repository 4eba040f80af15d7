"""The texts of the nodes in both languages."""

from __future__ import annotations

import re

import pytest
from house import CHINESE, LANGUAGES, flatten, locale, our_classes

LOCALE_MARKUP = re.compile(r"[@{}|]")  # the front end's translator reads these as links, variables and plurals


def chinese_faults(english: dict, chinese: dict) -> list[str]:
    """Keys that only one language has, and Chinese texts without a Chinese character."""
    en, zh = flatten(english), flatten(chinese)
    faults = [f"{key} is only in one language" for key in sorted(en.keys() ^ zh.keys())]
    faults += [f"{key} is not Chinese: {text}" for key, text in zh.items() if not is_translated(key, text)]
    return faults


def is_translated(key: str, text: str) -> bool:
    """Whether a text is Chinese; the name of an input or output may be a term such as CLIP."""
    return bool(CHINESE.search(text)) or (key.endswith(".name") and text.isascii() and text.isupper())


def markup_faults(texts: dict) -> list[str]:
    return [f"{key}: {text}" for key, text in flatten(texts).items() if LOCALE_MARKUP.search(text) or not text.strip()]


@pytest.mark.parametrize("name", ["nodeDefs.json", "main.json"])
def test_locales_have_the_same_keys_in_both_languages(name):
    english, chinese = (locale(language, name) for language in LANGUAGES)
    assert not chinese_faults(english, chinese)
    assert not markup_faults(english) + markup_faults(chinese)


def test_locales_name_our_nodes_and_our_category():
    assert sorted(locale("en", "nodeDefs.json")) == sorted(our_classes())
    # The host has translated the inner categories (loaders, conditioning); ours would replace them for every pack.
    assert locale("en", "main.json") == {"nodeCategories": {"Kolors": "Kolors"}}


def test_locale_rules_find_faults():
    english = {"N": {"display_name": "Load", "inputs": {"clip": {"name": "clip"}}}}
    assert not chinese_faults(english, {"N": {"display_name": "加载", "inputs": {"clip": {"name": "CLIP"}}}})
    assert chinese_faults(english, {"N": {"display_name": "Load", "inputs": {"clip": {"name": "CLIP"}}}})
    assert chinese_faults(english, {"N": {"display_name": "加载"}})
    assert markup_faults({"a": "a|b"}) and markup_faults({"a": ""}) and not markup_faults({"a": "(b:1.2)"})
