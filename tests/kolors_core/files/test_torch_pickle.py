"""What a torch file would do is told before torch reads it."""

import itertools
import pickle
import pickletools
import zipfile

import pytest
import torch
from comfyui_kolors.kolors_core.files.torch_pickle import find_danger

TENSORS = {"a": torch.ones(3), "b": {"c": torch.zeros(2, 2, dtype=torch.float16)}}
MORE_THAN_TENSORS = "is a pickle that holds more than tensors. It was not executed. Expected plain weights"
COMPRESSED = "is a compressed archive. Expected a file as torch writes it, which is not compressed. Unpack it"
zipped = pytest.mark.parametrize("zipped", [True, False], ids=["zipped", "bare"])


@pytest.fixture
def danger(tmp_path):
    """What is dangerous in a file that torch writes of `content`."""

    def judge(content, zipped, **options):
        torch.save(content, tmp_path / "a.bin", _use_new_zipfile_serialization=zipped, **options)
        assert zipfile.is_zipfile(tmp_path / "a.bin") is zipped
        return find_danger(tmp_path / "a.bin")

    return judge


# ---- what it holds --------------------------------------------------------------------------------------------------


@zipped
@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize(
    "extra",
    [{}, {"epoch": 3, "name": "文字", "ratio": 0.5, "nothing": None, "flags": (True, [1, 2], {"x": ()}), "set": {1}}],
    ids=["tensors", "plain values"],
)
def test_weights_are_no_danger(danger, zipped, protocol, extra):
    assert danger(TENSORS | extra, zipped, pickle_protocol=protocol) is None


@zipped
def test_an_array_of_zeros_is_one(danger, zipped):
    """torch makes a bytearray of any length from a few bytes."""
    assert danger(TENSORS | {"x": bytearray(9)}, zipped) == MORE_THAN_TENSORS
    assert danger(TENSORS | {"bytearray": "bytearray", "x": "builtins bytearray"}, zipped) is None  # only its name


@zipped
def test_bytes_that_lie_in_the_file_are_none(danger, zipped):
    """Protocol 2, which torch writes, has no bytes: it writes a text and how to encode it."""
    assert danger({"state_dict": TENSORS, "hash": b"abc", "all": bytes(range(256)), "again": b"xyz"}, zipped) is None


def test_bytes_made_of_one_text_again_and_again_are_one(tmp_path):
    """A few bytes each that refer to the same text: fifty times a thousand of two thousand here."""
    text = b"X" + (1000).to_bytes(4, "little") + b"x" * 1000 + b"q\x01"
    again = b"c_codecs\nencode\nh\x01h\x02\x86R" * 50
    content = b"\x80\x02" + text + b"X\x06\x00\x00\x00latin1q\x02}X\x01\x00\x00\x00a](" + again + b"es."
    assert [len(part) for part in pickle.loads(content)["a"]] == [1000] * 50
    (tmp_path / "a.bin").write_bytes(content)
    assert find_danger(tmp_path / "a.bin") == MORE_THAN_TENSORS


def nested(depth):
    """Tuples in tuples, so many."""
    value = 1
    for _ in range(depth):
        value = (value,)
    return value


@zipped
@pytest.mark.parametrize(("depth", "message"), [(100, None), (101, MORE_THAN_TENSORS)], ids=["100", "101"])
def test_tuples_may_be_a_hundred_deep(danger, zipped, depth, message):
    assert danger(TENSORS | {"x": nested(depth)}, zipped) == message
    assert danger(TENSORS | {"x": [[nested(depth)], {"y": 2}]}, zipped) == message
    assert danger(TENSORS | {"x": (1, 2, 3, nested(depth - 1), 5)}, zipped) == message
    assert danger(TENSORS | {"x": (nested(depth - 1), 2, 3)}, zipped) == message
    inner = nested(depth // 2)  # written once, and then referred to
    assert danger(TENSORS | {"x": inner, "y": [nested(3), (inner,)]}, zipped) is None


def test_a_tuple_that_is_referred_to_is_as_deep_as_it_was_written(tmp_path):
    """Fifty deep, kept, and fifty more around it from the memory, as pickle writes what stands twice."""
    for more, message in ((50, None), (51, MORE_THAN_TENSORS)):
        content = b"\x80\x02K\x01" + b"\x85" * 50 + b"q\x07" + b"0" + b"h\x07" + b"\x85" * more + b"."
        (tmp_path / "a.bin").write_bytes(content)
        assert find_danger(tmp_path / "a.bin") == message
        assert pickle.loads(content) == nested(50 + more)


# ---- where it stands ------------------------------------------------------------------------------------------------


def test_every_pickle_of_a_bare_file_is_looked_at(danger, tmp_path):
    """It has five, one behind the other: number, version, machine, content, names of the storages."""
    assert danger(TENSORS, zipped=False) is None
    content, bad, ends = (tmp_path / "a.bin").read_bytes(), pickle.dumps(bytearray(9), protocol=2), [0]
    with (tmp_path / "a.bin").open("rb") as file:
        for _ in range(5):
            assert list(pickletools.genops(file))[-1][0].name == "STOP"
            ends.append(file.tell())
    for begin, end in itertools.pairwise(ends):
        (tmp_path / "bad.bin").write_bytes(content[:begin] + bad + content[end:])
        assert find_danger(tmp_path / "bad.bin") == MORE_THAN_TENSORS
    (tmp_path / "good.bin").write_bytes(content[: ends[-1]] + bad)  # where the tensors' values lie
    assert find_danger(tmp_path / "good.bin") is None


def test_every_pickle_of_an_archive_is_looked_at(tmp_path):
    good, bad = pickle.dumps(1, protocol=2), pickle.dumps(bytearray(9), protocol=2)
    for members, message in (
        ({"a/data.pkl": good, "a/data/0": bad}, None),
        ({"a/data.pkl": bad, "a/data/0": good}, MORE_THAN_TENSORS),
        ({"a/data.pkl": good, "b/other.pkl": bad}, MORE_THAN_TENSORS),
    ):
        with zipfile.ZipFile(tmp_path / "a.bin", "w") as file:
            for name, content in members.items():
                file.writestr(name, content)
        assert find_danger(tmp_path / "a.bin") == message


@pytest.mark.parametrize("packed", ["a/data.pkl", "a/data/0"])
def test_an_archive_with_one_compressed_member_is_one(tmp_path, packed):
    with zipfile.ZipFile(tmp_path / "a.bin", "w") as file:
        for name in ("a/data.pkl", "a/data/0"):
            kind = zipfile.ZIP_DEFLATED if name == packed else zipfile.ZIP_STORED
            file.writestr(name, pickle.dumps(1, protocol=2), kind)
    assert find_danger(tmp_path / "a.bin") == COMPRESSED


def test_members_that_lie_over_each_other_are_one(tmp_path):
    """Names cost 50 bytes each, however much lies under them: another way to make much of little."""
    with zipfile.ZipFile(tmp_path / "a.bin", "w") as file:
        file.writestr("a/data.pkl", pickle.dumps("x" * 10_000, protocol=2))
    assert find_danger(tmp_path / "a.bin") is None
    with zipfile.ZipFile(tmp_path / "a.bin", "a") as file:
        file.writestr("a/byteorder", b"little")  # so that the list of names is written again
        file.filelist += [file.filelist[0]] * 2
    assert find_danger(tmp_path / "a.bin") == COMPRESSED


# ---- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"\x80\x02", b"\x80\x02h\x00.", b"\x80\x02\x85.", b"\x80\x02\xff"], ids=repr)
def test_a_damaged_pickle_raises_instead_of_being_no_danger(tmp_path, content):
    with zipfile.ZipFile(tmp_path / "a.bin", "w") as file:
        file.writestr("a/data.pkl", content)
    with pytest.raises(Exception, match=r"\w"):
        find_danger(tmp_path / "a.bin")
