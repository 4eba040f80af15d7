"""Which tokenizer serves which encoder: inside its file, beside it, or where every loader looks."""

from __future__ import annotations

from .folders import NODES
from .scan import Found


def settle(found: list[Found]) -> list[Found]:
    """The same without the tokenizers that are other models' own.

    A tokenizer that no loader finds gets a sentence about its place, and so does an encoder that has none while another
    has. A bad one is left out where it is of no concern: no encoder lies beside it, or all of them have another.
    """
    encoders = [each for each in found if "encoder" in each.roles]
    for each in found:
        if each.roles == ("tokenizer",) and each.usable and not _is_found(each, encoders):
            where = each.shown.rpartition("/")[0] or "models"
            each.misplaced = f"lies in {where}, where no loader looks. Move it to models/text_encoders."
    bare = [each for each in encoders if not each.has_tokenizer and find_tokenizer(each, found) is None]
    served = len(encoders) > len(bare) or any(each.roles == ("tokenizer",) and each.usable for each in found)
    if served:
        for each in bare:
            each.note = each.note or "has no tokenizer. Put tokenizer.model beside it."
    wanted = [each for each in found if each.roles != ("tokenizer",) or each.usable or not served]
    return [each for each in wanted if each.roles != ("tokenizer",) or not each.fault or _is_found(each, encoders)]


def find_tokenizer(encoder: Found, found: list[Found]) -> Found | None:
    """The tokenizer that the loader finds for an encoder without one inside."""
    usable = (each for each in found if each.roles == ("tokenizer",) and each.usable)
    return next((each for each in usable if _is_found(each, [encoder])), None)


def _is_found(tokenizer: Found, encoders: list[Found]) -> bool:
    """Whether a loader of one of the encoders looks where a tokenizer lies."""
    if tokenizer.kinds & {"text_encoders", NODES}:
        return True
    folder = tokenizer.path.parent
    owns = [each.path.parent for each in encoders]
    return any(folder == own or (own.name == "text_encoder" and folder == own.with_name("tokenizer")) for own in owns)
