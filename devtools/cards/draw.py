"""Make the pictures of the templates from the images that their graphs drew.

    python -m devtools.cards.draw IMAGES OUT [TEMPLATE ...]

IMAGES holds a folder of 0.png, 1.png … for each template; what stands beside them is in the table of this package. OUT
gets a JPEG of 512 x 512 for each, which a card of the template browser shows at about 280.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from . import CARDS
from .card import Card, Words
from .icons import SCALE, icon, shape

SIDE = 512
LIMIT = 60_000  # bytes of a file
GROUND, TEXT, QUIET, PROMPT = (38, 40, 46), (238, 240, 244), (166, 172, 184), (255, 205, 110)
BAND, EDGE, ARROW = (24, 25, 29), (78, 82, 92), (150, 200, 255)
MADE = "drawn by the miniature · 微型模型绘制"
DIAGRAM = "diagram · 示意图"
MARGIN, GAP, BAND_HEIGHT = 18, 46, 44
TOP = 18  # of the room for images
HERO, LARGE = 294, 286  # sides of an image alone, and of a result beside two others
SMALL, STACKED = 166, 108  # of what stands before a result, and of each of two
STACK_LEFT = 28
BADGE = 206, 50  # what the front end's badge covers in the upper left corner
STRIPED = 384  # side of an image with stripes over its mask

#: Where a font with Chinese characters is: Linux, macOS, Windows.
FONTS = (
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc",
    "/System/Library/Fonts/PingFang.ttc",
    "/System/Library/Fonts/STHeiti Light.ttc",
    "C:/Windows/Fonts/msyh.ttc",
)


def find_font() -> str:
    for name in FONTS:
        if Path(name).is_file():
            return name
    places = "\n    ".join(FONTS)
    raise SystemExit(
        f"No font with Chinese characters; expected one of\n    {places}\n"
        "Install one, on Debian with: apt-get install fonts-wqy-microhei"
    )


def fitting(font: str, text: str, size: int, width: int, least: int = 15) -> ImageFont.FreeTypeFont:
    """The font in `size` pixels, or as much smaller as the text needs to be no wider than `width`."""
    while size > least and ImageFont.truetype(font, size).getlength(text) > width:
        size -= 1
    return ImageFont.truetype(font, size)


def rounded(side: int, radius: int = 14) -> Image.Image:
    whole = side * SCALE - 1
    return shape((side, side), lambda draw: draw.rounded_rectangle((0, 0, whole, whole), radius * SCALE, fill=255))


def with_mask_shown(image: Image.Image) -> Image.Image:
    """Where an image is transparent, stripes over what lies there."""
    size = STRIPED, STRIPED
    # apart: Pillow leaves no colour where it makes something transparent larger
    plain = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    covered = image.getchannel("A").resize(size, Image.Resampling.BICUBIC).point(lambda value: 255 - value)
    stripes = Image.new("L", size)
    for x in range(-STRIPED, STRIPED, 26):
        ImageDraw.Draw(stripes).line((x, STRIPED, x + STRIPED, 0), fill=190, width=7)
    veil = Image.blend(plain, Image.new("RGB", size, GROUND), 0.25)
    veil.paste("white", mask=stripes)
    return Image.composite(veil, plain, covered)


def tile(image: Image.Image, side: int) -> Image.Image:
    """An image as a square of `side` pixels, with its mask shown where it has one."""
    if image.mode == "RGBA":
        image = with_mask_shown(image)
    return image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)


class Drawing:
    """The picture of one template while it is made."""

    def __init__(self, font: str):
        self.font = font
        self.image = Image.new("RGB", (SIDE, SIDE), GROUND)
        self.draw = ImageDraw.Draw(self.image)

    def text(self, middle: float, top: int, text: str, size: int, colour: tuple[int, int, int], width: int) -> None:
        font = fitting(self.font, text, size, width)
        self.draw.text((middle, top + size // 2), text, fill=colour, font=font, anchor="mm")

    def put(self, image: Image.Image, left: int, top: int) -> None:
        side = image.width
        self.image.paste(EDGE, (left - 2, top - 2), rounded(side + 4, 16))
        self.image.paste(image, (left, top), rounded(side))

    def sign(self, sign: str, x: float, y: float) -> None:
        """An arrow to the right or down, or a character, around a point."""
        if sign not in ("→", "↓"):
            self.draw.text((x, y), sign, fill=ARROW, font=ImageFont.truetype(self.font, 36), anchor="mm")
            return
        points = [(-17, -3), (3, -3), (3, -12), (17, 0), (3, 12), (3, 3), (-17, 3)]
        if sign == "↓":
            points = [(-b, a) for a, b in points]

        def arrow(draw: ImageDraw.ImageDraw) -> None:
            draw.polygon([((20 + a) * SCALE, (20 + b) * SCALE) for a, b in points], fill=255)

        self.image.paste(ARROW, (round(x) - 20, round(y) - 20), shape((40, 40), arrow))


def words_below(drawing: Drawing, words: Words | None, left: float, top: int, side: int) -> None:
    if words:
        drawing.text(left + side / 2, top, " · ".join(words), 21, QUIET, side + 24)


def draw_images(drawing: Drawing, card: Card, images: Sequence[Image.Image | str]) -> None:
    """One alone; two in a row; or the last large on the right and the two others above each other on the left."""

    def place(number: int, left: float, top: float, side: int) -> None:
        image = images[number]
        drawing.put(icon(image, side) if isinstance(image, str) else tile(image, side), round(left), round(top))
        words_below(drawing, card.shown[number].words, left, round(top) + side + 4, side)

    *signs, _ = [shown.sign for shown in card.shown] + [""]
    middle = TOP + LARGE / 2
    if len(images) == 1:
        place(0, (SIDE - HERO) / 2, BADGE[1], HERO)
    elif len(images) == 2:
        room = SIDE - 2 * MARGIN - GAP
        first, last = (room // 2, room // 2) if card.even else (SMALL, room - SMALL)
        place(0, MARGIN, middle - first / 2, first)
        place(1, SIDE - MARGIN - last, middle - last / 2, last)
        drawing.sign(signs[0], MARGIN + first + GAP / 2, middle)
    else:
        left, top, pitch = SIDE - MARGIN - LARGE, BADGE[1] + 2, STACKED + 36
        for number in (0, 1):
            place(number, STACK_LEFT, top + number * pitch, STACKED)
        place(2, left, TOP, LARGE)
        column = (STACK_LEFT + STACKED + left) / 2
        drawing.sign("↓" if signs[0] == "→" else signs[0], column, top + pitch - 18)
        drawing.sign("→", column, top + pitch + STACKED / 2)


def draw_card(font: str, card: Card, images: Sequence[Image.Image | str]) -> Image.Image:
    """The whole picture."""
    drawing, middle, width = Drawing(font), SIDE / 2, SIDE - 2 * MARGIN
    draw_images(drawing, card, images)
    top = 352 if card.prompt else 366
    if card.prompt:
        quoted = f"“{card.prompt}”"
        drawing.text(middle, top, quoted, 29, PROMPT, width)
        top += 40
    for line, colour in zip(card.caption, (TEXT, TEXT)):
        drawing.text(middle, top, line, 30, colour, width)
        top += 37
    drawing.draw.rectangle((0, SIDE - BAND_HEIGHT, SIDE, SIDE), fill=BAND)
    made = MADE if card.runs() else DIAGRAM
    drawing.text(middle, SIDE - BAND_HEIGHT + 9, made, 26, QUIET, width)
    return drawing.image


def save(image: Image.Image, path: Path) -> None:
    """As a JPEG of no more than `LIMIT` bytes."""
    for quality in (88, 84, 80, 75, 70):
        image.save(path, quality=quality, optimize=True, subsampling=0)
        if path.stat().st_size <= LIMIT:
            return
    raise SystemExit(f"{path.name} has {path.stat().st_size} bytes at quality 70; expected no more than {LIMIT}.")


def main(images: Path, out: Path, names: list[str]) -> None:
    font = find_font()
    out.mkdir(parents=True, exist_ok=True)
    for name in names or CARDS:
        card = CARDS[name]
        sources = [
            shown.source if isinstance(shown.source, str) else Image.open(images / name / f"{number}.png")
            for number, shown in enumerate(card.shown)
        ]
        save(draw_card(font, card, sources), out / f"{name}.jpg")
        print((out / f"{name}.jpg").resolve())


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
