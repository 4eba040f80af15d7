"""ComfyUI with Kolors in a browser."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import places, prepare
from .demo import DEMO_TEMPLATE
from .folders import model_paths_yaml, skip_tutorial
from .places import MODEL_FOLDERS, PACK_NAME
from .progress import SetupError
from .server import running_server


def serve_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=8188, metavar="N", help="default: %(default)s")
    parser.add_argument("--models", type=Path, metavar="DIR", help="one more folder of models, laid out like ComfyUI's")


def run_serve(args: argparse.Namespace) -> int:
    if args.models and not args.models.is_dir():
        raise SetupError(f"--models {args.models}: no such folder; expected one with {', '.join(MODEL_FOLDERS)} in it.")
    setup, progress = prepare.set_up(args, draws=True, more=2)
    model_paths = places.DEV / "extra_model_paths.yaml" if args.models else None
    if model_paths:
        model_paths.write_text(model_paths_yaml(args.models.resolve()), encoding="utf-8")
    skip_tutorial(setup)
    with running_server(setup, progress, args.port, model_paths) as server:
        canvas = f"{server.url}/?template={DEMO_TEMPLATE}&source={PACK_NAME}"
        print(f"ComfyUI with Kolors: {canvas}   (Ctrl-C ends it; its log: {server.log})", flush=True)
        server.process.wait()
        raise server.ended("serving")
