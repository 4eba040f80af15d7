"""devtools/cards/draw.py."""

from __future__ import annotations

import pytest
from comfyui_kolors.devtools.cards import draw as draw_cards
from comfyui_kolors.devtools.cards.card import Card, Run, Shown
from comfyui_kolors.devtools.cards.draw import BADGE, BAND, DIAGRAM, GROUND, MADE, SIDE, draw_card, find_font, tile
from PIL import Image, ImageFont

RED, GREEN, BLUE = (250, 0, 0), (0, 250, 0), (0, 0, 250)
CAPTION = ("an image", "一张图")


@pytest.fixture(autouse=True)
def latin_font(monkeypatch, tmp_path):
    """One that Pillow has: what is drawn does not matter here, and a machine may have no Chinese font."""
    plain = ImageFont.load_default(20)
    monkeypatch.setattr(ImageFont, "truetype", lambda name, size: plain)


def squares(*colours) -> list[Image.Image]:
    return [Image.new("RGB", (128, 128), colour) for colour in colours]


def areas(picture: Image.Image) -> list[tuple[int, int, int, int]]:
    """The box of each pure colour."""
    found = []
    for colour in (RED, GREEN, BLUE):
        mask = Image.eval(picture.convert("RGB"), lambda value: value)
        hits = Image.new("L", picture.size)
        hits.putdata([255 if pixel == colour else 0 for pixel in mask.getdata()])
        if hits.getbbox():
            found.append(hits.getbbox())
    return found


def width(box) -> int:
    return box[2] - box[0]


def test_one_image_stands_in_the_middle():
    card = Card(CAPTION, (Shown(Run()),), prompt="a cat")
    picture = draw_card("font", card, squares(RED))
    (box,) = areas(picture)
    assert picture.size == (SIDE, SIDE) and width(box) > SIDE / 2 and abs(box[0] + box[2] - SIDE) <= 2
    assert picture.getpixel((2, 2)) == GROUND and picture.getpixel((2, SIDE - 2)) == BAND


def test_a_result_is_larger_than_what_it_was_made_from():
    card = Card(CAPTION, (Shown(Run(), ("before", "原图"), "→"), Shown(Run())))
    first, last = areas(draw_card("font", card, squares(RED, GREEN)))
    assert first[2] < last[0] and width(first) < 0.7 * width(last)


def test_what_is_to_be_compared_is_equally_large():
    card = Card(CAPTION, (Shown(Run(), None, "→"), Shown(Run())), even=True)
    first, last = areas(draw_card("font", card, squares(RED, GREEN)))
    assert width(first) == width(last) and first[1] == last[1] and first[2] < last[0]


def test_two_inputs_stand_above_each_other_beside_the_result():
    card = Card(CAPTION, (Shown(Run(), ("a", "一"), "+"), Shown(Run(), ("b", "二"), "→"), Shown(Run())))
    first, second, last = areas(draw_card("font", card, squares(RED, GREEN, BLUE)))
    assert first[3] < second[1] and max(first[2], second[2]) < last[0]
    assert last[3] < SIDE - 100  # room for the words


@pytest.mark.parametrize(("signs", "arrows"), [("→", 1), ("+→", 1), ("→→", 2)])
def test_arrows_lead_to_the_result(monkeypatch, signs, arrows):
    """To the right, but down from an image to what was made of it."""
    drawn = []
    monkeypatch.setattr(draw_cards.Drawing, "sign", lambda self, sign, x, y: drawn.append((sign, x, y)))
    shown = tuple(Shown(Run(), None, sign) for sign in (*signs, ""))
    picture = draw_card("font", Card(CAPTION, shown), squares(RED, GREEN, BLUE)[: len(shown)])
    result = areas(picture)[-1]
    assert [sign for sign, *_ in drawn if sign in "→↓"] == ["↓", "→"][-arrows:]
    assert all(x < result[0] and result[1] < y < result[3] for _, x, y in drawn)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("even", [False, True])
def test_the_badge_of_the_front_end_covers_no_image(count, even):
    shown = tuple(Shown(Run(), None, "→") for _ in range(count))
    corner = draw_card("font", Card(CAPTION, shown, even=even), squares(RED, GREEN, BLUE)[:count]).crop((0, 0, *BADGE))
    assert areas(corner) == []


def test_the_mask_of_an_image_is_seen():
    image = Image.new("RGBA", (128, 128), (*BLUE, 255))
    image.paste((*BLUE, 0), (0, 0, 64, 128))
    shown = tile(image, 128)
    assert shown.getpixel((100, 64)) == BLUE
    assert len(set(shown.crop((8, 8, 56, 120)).getdata())) > 2 and BLUE not in set(
        shown.crop((8, 8, 56, 120)).getdata()
    )


@pytest.mark.parametrize(("source", "said"), [(Run(), MADE), ("face", DIAGRAM)], ids=["of a run", "a diagram"])
def test_a_diagram_is_called_one(monkeypatch, source, said):
    texts = []
    monkeypatch.setattr(draw_cards.Drawing, "text", lambda self, middle, top, text, *rest: texts.append(text))
    draw_card("font", Card(CAPTION, (Shown(source),)), squares(RED) if source == Run() else ["face"])
    assert texts[-1] == said and {MADE, DIAGRAM} & set(texts) == {said}


def test_a_missing_font_is_named_with_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(draw_cards, "FONTS", (str(tmp_path / "none.ttc"),))
    with pytest.raises(SystemExit, match=r"(?s)No font with Chinese.*none\.ttc.*fonts-wqy-microhei"):
        find_font()
    (tmp_path / "none.ttc").touch()
    assert find_font() == str(tmp_path / "none.ttc")


def test_a_picture_keeps_to_its_limit(monkeypatch, tmp_path):
    noise = Image.effect_noise((SIDE, SIDE), 200).convert("RGB")
    with pytest.raises(SystemExit, match=r"a\.jpg has \d+ bytes"):
        draw_cards.save(noise, tmp_path / "a.jpg")
    draw_cards.save(Image.new("RGB", (SIDE, SIDE), GROUND), tmp_path / "b.jpg")
    assert Image.open(tmp_path / "b.jpg").size == (SIDE, SIDE)
