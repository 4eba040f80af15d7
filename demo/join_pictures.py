"""Join pictures in rows and columns.

    python demo/join_pictures.py FOLDER OUT

Of every folder in FOLDER, which holds pictures ROW-COLUMN.png of one size, it makes a JPEG of its name in OUT.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

GAP = 4  # pixels between pictures


def join(folder: Path) -> Image.Image:
    """All pictures of a folder by their row and column; numbers that do not occur take no place."""
    places = {tuple(map(int, file.stem.split("-"))): Image.open(file) for file in folder.glob("*.png")}
    rows, columns = (sorted(set(numbers)) for numbers in zip(*places))
    width, height = (side + GAP for side in next(iter(places.values())).size)
    sheet = Image.new("RGB", (len(columns) * width - GAP, len(rows) * height - GAP), "white")
    for (row, column), picture in places.items():
        sheet.paste(picture, (columns.index(column) * width, rows.index(row) * height))
    return sheet


def main(folders: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for folder in sorted(path for path in folders.iterdir() if path.is_dir()):
        file = out / f"{folder.name}.jpg"
        join(folder).save(file, quality=88, optimize=True)
        print(file.resolve())


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
