"""The sheets of the gallery."""

import pytest
from comfyui_kolors.demo.join_pictures import GAP, main
from PIL import Image

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def test_pictures_stand_at_their_row_and_column(tmp_path, capsys):
    folder = tmp_path / "all" / "sheet"
    folder.mkdir(parents=True)
    for name, colour in {"2-0": RED, "10-1": BLUE}.items():  # rows by number, not by name
        Image.new("RGB", (16, 24), colour).save(folder / f"{name}.png")
    main(tmp_path / "all", tmp_path / "out")
    sheet = Image.open(tmp_path / "out" / "sheet.jpg")
    assert sheet.size == (32 + GAP, 48 + GAP)
    seen = [sheet.getpixel(place) for place in ((8, 12), (24 + GAP, 36 + GAP), (24 + GAP, 12), (8, 36 + GAP))]
    for found, expected in zip(seen, (RED, BLUE, WHITE, WHITE)):
        assert found == pytest.approx(expected, abs=12)  # JPEG
    assert capsys.readouterr().out.strip() == str((tmp_path / "out" / "sheet.jpg").resolve())
