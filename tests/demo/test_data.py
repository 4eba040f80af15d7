"""What training shows and what the evaluation asks for have no pair in common."""

from itertools import product
from types import SimpleNamespace

import data
import pytest

LANGUAGES = ("zh", "en")


def all_captions(pairs, language: str) -> set[str]:
    """Every caption of these pairs: all names, templates and places."""
    found = set()
    for (index, colour), template, word in product(
        pairs, range(len(data.TEMPLATES[language])), ("", *data.WORDS["en"])
    ):
        names = data.EMOJI[index].zh if language == "zh" else data.EMOJI[index].en
        usual = SimpleNamespace(random=lambda: 1.0)
        others = [SimpleNamespace(random=lambda: 0.0, choice=lambda _, name=name: name) for name in names[1:]]
        found |= {data.caption(data.EMOJI[index], colour, language, rng, word, template) for rng in (usual, *others)}
    return found


def test_pairs_are_either_shown_or_held_out():
    shown, hidden = set(data.training_pairs()), set(data.held_out())
    assert not shown & hidden
    assert shown | hidden == set(product(range(len(data.EMOJI)), data.COLOUR_NAMES))
    assert len(data.EMOJI) == 80 and len(hidden) == 107
    assert {index for index, _ in shown} == {index for index, _ in hidden} == set(range(80))
    assert {colour for _, colour in hidden} == set(data.COLOUR_NAMES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_training_caption_is_asked_for(language):
    asked = data.test_captions(language)
    texts = {text for *_, text in asked}
    assert len(texts) == 200 and {(index, colour) for index, colour, _ in asked} <= data.held_out()
    assert texts <= all_captions(data.held_out(), language)  # so that the next line means something
    assert not texts & all_captions(data.training_pairs(), language)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_caption_names_one_emoji(language):
    captions = [all_captions([(index, "red")], language) for index in range(len(data.EMOJI))]
    assert sum(map(len, captions)) == len(set().union(*captions))


def test_every_emoji_has_names_of_its_own():
    for names in ([name for emoji in data.EMOJI for name in getattr(emoji, language)] for language in LANGUAGES):
        assert len(set(names)) == len(names)
    assert len({emoji.character for emoji in data.EMOJI}) == len(data.EMOJI)
