"""The exception that users see, its logger, and numbers that are none."""

import logging
import re

import pytest
from comfyui_kolors.kolors_core.errors import KolorsError, check_numbers, log


def test_numbers_pass_and_what_is_none_is_named_by_its_input():
    check_numbers(weight=1.0, start_at=0, end_at=float("inf"), seed=-1)
    check_numbers()
    with pytest.raises(KolorsError, match=re.escape("The input end_at is NaN. Expected a number.")):
        check_numbers(weight=1.0, end_at=float("nan"))


def test_the_first_of_several_is_named():
    with pytest.raises(KolorsError, match="input first"):
        check_numbers(first=float("nan"), second=float("nan"))


def test_the_logger_is_found_by_the_packs_name():
    assert log is logging.getLogger("ComfyUI-Kolors")
    assert not log.handlers, "the host decides where a line goes"
