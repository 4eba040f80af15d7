"""Pictures and captions: emoji of the Noto Color Emoji font on plain backgrounds, named in Chinese and English.

A picture is 128 x 128 pixels: one emoji, its size and place varied a little, on one of eight colours. Some pairs of
emoji and colour are held out: they are never seen together in training, and the evaluation asks for just these.

Source of the pictures: fonts-noto-color-emoji (SIL Open Font License 1.1); the font itself is not part of this folder.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy
from PIL import Image, ImageDraw, ImageFont

SIDE = 128
FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
STRIKE = 109  # the one size the font's bitmaps have

#: English name -> (RGB, Chinese name)
COLOURS: dict[str, tuple[tuple[int, int, int], str]] = {
    "white": ((255, 255, 255), "白色"),
    "black": ((20, 20, 24), "黑色"),
    "red": ((214, 40, 46), "红色"),
    "yellow": ((255, 214, 40), "黄色"),
    "green": ((52, 160, 70), "绿色"),
    "blue": ((40, 96, 214), "蓝色"),
    "purple": ((124, 58, 180), "紫色"),
    "pink": ((250, 160, 196), "粉色"),
}
COLOUR_NAMES = tuple(COLOURS)

#: emoji | Chinese names | English names, with their article; the first of each is the usual one
TABLE = """
🍎 | 红苹果 苹果 | a red apple, an apple
🍌 | 香蕉 | a banana
🍇 | 葡萄 | grapes
🍉 | 西瓜 | a watermelon
🍓 | 草莓 | a strawberry
🍍 | 菠萝 | a pineapple
🥝 | 猕猴桃 奇异果 | a kiwi
🍆 | 茄子 | an eggplant
🥕 | 胡萝卜 | a carrot
🌽 | 玉米 | corn
🍄 | 蘑菇 | a mushroom
🥦 | 西兰花 | broccoli
🥑 | 牛油果 | an avocado
🍞 | 面包 | bread
🧀 | 奶酪 | cheese
🍔 | 汉堡 | a hamburger, a burger
🍕 | 披萨 | a pizza
🍩 | 甜甜圈 | a doughnut, a donut
🎂 | 生日蛋糕 蛋糕 | a birthday cake, a cake
🍦 | 冰淇淋 | an ice cream
☕ | 咖啡 | a coffee, a cup of coffee
🍺 | 啤酒 | a beer
🍷 | 红酒 | a red wine, a glass of wine
🐶 | 小狗 狗 | a dog, a puppy
🐱 | 小猫 猫 | a cat, a kitten
🐰 | 兔子 | a rabbit
🦊 | 狐狸 | a fox
🐼 | 熊猫 | a panda
🦁 | 狮子 | a lion
🐷 | 小猪 猪 | a pig
🐸 | 青蛙 | a frog
🐧 | 企鹅 | a penguin
🦉 | 猫头鹰 | an owl
🦋 | 蝴蝶 | a butterfly
🐝 | 蜜蜂 | a bee
🐢 | 乌龟 | a turtle
🐙 | 章鱼 | an octopus
🦀 | 螃蟹 | a crab
🐳 | 鲸鱼 | a whale
🐘 | 大象 | an elephant
🦄 | 独角兽 | a unicorn
🌹 | 玫瑰 | a rose
🌻 | 向日葵 | a sunflower
🌵 | 仙人掌 | a cactus
🌲 | 松树 | a pine tree
🍁 | 枫叶 | a maple leaf
🍀 | 四叶草 | a clover, a four-leaf clover
☀ | 太阳 | the sun, a sun
🌙 | 月亮 | the moon, a moon
⭐ | 星星 | a star
🔥 | 火焰 | fire, a flame
☂ | 雨伞 | an umbrella
⛄ | 雪人 | a snowman
🌈 | 彩虹 | a rainbow
❄ | 雪花 | a snowflake
🌍 | 地球 | the earth
🚗 | 红色汽车 汽车 | a car, a red car
✈ | 飞机 | an airplane, a plane
🚀 | 火箭 | a rocket
⛵ | 帆船 | a sailboat
🏠 | 房子 | a house
⚽ | 足球 | a soccer ball, a football
🏀 | 篮球 | a basketball
🎈 | 气球 | a balloon
🎁 | 礼物 | a gift, a present
🎸 | 吉他 | a guitar
📷 | 相机 | a camera
🔑 | 钥匙 | a key
🔒 | 锁 | a lock
💡 | 灯泡 | a light bulb
🔔 | 铃铛 | a bell
👑 | 皇冠 | a crown
💎 | 钻石 | a diamond
🎩 | 礼帽 | a top hat
🤖 | 机器人 | a robot
👻 | 幽灵 鬼 | a ghost
💀 | 骷髅 | a skull
🎃 | 南瓜灯 南瓜 | a pumpkin
❤ | 红心 爱心 | a red heart, a heart
😀 | 笑脸 | a smiley, a smiling face
"""


@dataclass(frozen=True)
class Emoji:
    """One of the things the model can draw."""

    character: str
    zh: tuple[str, ...]
    en: tuple[str, ...]  # with article


def _read_table() -> tuple[Emoji, ...]:
    rows = (line.split(" | ") for line in TABLE.strip().splitlines())
    return tuple(Emoji(char, tuple(zh.split()), tuple(en.split(", "))) for char, zh, en in rows)


EMOJI = _read_table()

#: {o} the emoji, {b} its bare name, {c} the colour. Index 0 is the plainest; the evaluation uses all of them.
TEMPLATES = {
    "zh": ("{o}，{c}背景", "{c}背景上的{o}", "一张{o}的图，{c}背景", "{o}，背景是{c}", "{c}背景，{o}"),
    "en": (
        "{o} on a {c} background",
        "{b}, {c} background",
        "a picture of {o} on a {c} background",
        "{o}, the background is {c}",
        "{c} background, {b}",
    ),
}
OBJECT_ONLY = {"zh": "{o}", "en": "{o}"}
BACKGROUND_ONLY = {"zh": "{c}背景", "en": "{c} background"}
NEUTRAL = {"zh": "一张图", "en": "a picture"}


def bare(name: str) -> str:
    """An English name without its article."""
    first, _, rest = name.partition(" ")
    return rest if first in ("a", "an", "the") else name


@dataclass(frozen=True)
class Layout:
    """Where the emoji stands: its larger side and the centre, in pixels; `word` is what a caption says of it."""

    size: int
    x: int
    y: int
    word: str = ""


def sample_layout(rng: random.Random, large: float = 0.82) -> Layout:
    """A large emoji near the middle with probability `large`; else a small one there, or, twice as often, at a side."""
    kind = rng.random()
    middle = SIDE // 2
    if kind < large:
        size, spread, word, x = rng.randint(94, 102), 4, "", middle
    elif kind < large + (1 - large) / 3:
        size, spread, word, x = rng.randint(56, 64), 4, "small", middle
    else:
        word = rng.choice(("left", "right"))
        size, spread, x = rng.randint(56, 64), 3, 36 if word == "left" else SIDE - 36
    return Layout(size, x + rng.randint(-spread, spread), middle + rng.randint(-spread, spread), word)


WORDS = {
    "zh": {"small": "小小的{}", "left": "左边的{}", "right": "右边的{}"},
    "en": {"small": "small {}", "left": "{} on the left", "right": "{} on the right"},
}


def caption(emoji: Emoji, colour: str, language: str, rng: random.Random, word: str = "", template: int | None = None):
    """A caption in `language` ("zh" or "en"); `word` is a Layout's."""
    name = emoji.zh[0] if language == "zh" else emoji.en[0]
    names = emoji.zh if language == "zh" else emoji.en
    if len(names) > 1 and rng.random() < 0.4:
        name = rng.choice(names[1:])
    if template is None:
        forms = TEMPLATES[language]
        kind = rng.random()
        form = OBJECT_ONLY[language] if kind < 0.06 else BACKGROUND_ONLY[language] if kind < 0.1 else rng.choice(forms)
    else:
        form = TEMPLATES[language][template]
    if language == "zh":
        name = WORDS["zh"][word].format(name) if word else name
        return form.format(o=name, c=COLOURS[colour][1])
    article = name.removesuffix(bare(name)).strip()
    plain = bare(name)
    if word:
        plain = WORDS["en"][word].format(plain)
        article = "a" if article == "an" and word == "small" else article
    return form.format(o=f"{article} {plain}".strip(), b=plain, c=colour)


@cache
def held_out() -> frozenset[tuple[int, str]]:
    """Pairs (index of the emoji, colour) that training never shows: one colour per emoji, two for every third."""
    rng = random.Random(2024)
    pairs = set()
    for index in range(len(EMOJI)):
        first = COLOUR_NAMES[(index * 5 + rng.randrange(8)) % 8]
        pairs.add((index, first))
        if index % 3 == 0:
            pairs.add((index, rng.choice([name for name in COLOUR_NAMES if name != first])))
    return frozenset(pairs)


def training_pairs() -> list[tuple[int, str]]:
    """All other pairs, in a fixed order."""
    return [(i, name) for i in range(len(EMOJI)) for name in COLOUR_NAMES if (i, name) not in held_out()]


def test_captions(language: str, count: int = 200, seed: int = 7) -> list[tuple[int, str, str]]:
    """(index of the emoji, colour, caption): distinct captions of held-out pairs, in every template and synonym."""
    rng = random.Random(seed)
    pairs = sorted(held_out())
    rng.shuffle(pairs)
    found: dict[str, tuple[int, str, str]] = {}
    turn = 0
    while len(found) < count:
        index, colour = pairs[turn % len(pairs)]
        template = rng.randrange(len(TEMPLATES[language]))
        text = caption(EMOJI[index], colour, language, rng, template=template)
        found.setdefault(text, (index, colour, text))
        turn += 1
    return list(found.values())


@cache
def glyph(index: int) -> Image.Image:
    """The emoji as drawn by the font, cut to its outline: RGBa (premultiplied), its larger side 100 to 136 pixels."""
    font = ImageFont.truetype(str(FONT), STRIKE)
    canvas = Image.new("RGBA", (160, 160), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((10, 10), EMOJI[index].character, font=font, embedded_color=True)
    box = canvas.getchannel("A").getbbox()
    if box is None:
        raise ValueError(f"{FONT} has no picture of {EMOJI[index].character}")
    return canvas.crop(box).convert("RGBa")


def place(image: Image.Image, layout: Layout) -> tuple[numpy.ndarray, numpy.ndarray]:
    """A glyph where the layout says: premultiplied colour (128, 128, 3) and alpha (128, 128, 1), float32 in 0..1."""
    scale = layout.size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    small = image.resize((width, height), Image.Resampling.LANCZOS)
    canvas = Image.new("RGBa", (SIDE, SIDE), (0, 0, 0, 0))
    canvas.paste(small, (layout.x - width // 2, layout.y - height // 2))
    pixels = numpy.asarray(canvas, dtype=numpy.float32) / 255
    return pixels[..., :3], pixels[..., 3:]


def render(index: int, colour: str | tuple[int, int, int], layout: Layout) -> numpy.ndarray:
    """A picture, uint8 (128, 128, 3); the colour by its English name or as RGB."""
    rgb = COLOURS[colour][0] if isinstance(colour, str) else colour
    front, alpha = place(glyph(index), layout)
    background = numpy.asarray(rgb, dtype=numpy.float32) / 255
    return numpy.clip((front + background * (1 - alpha)) * 255 + 0.5, 0, 255).astype(numpy.uint8)


CENTRED = Layout(98, SIDE // 2, SIDE // 2)
