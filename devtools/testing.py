"""The tests."""

from __future__ import annotations

import argparse

from . import prepare


def run_test(args: argparse.Namespace) -> int:
    setup, _ = prepare.set_up(args)
    return prepare.run_here(setup, "-m", "pytest", *args.rest)
