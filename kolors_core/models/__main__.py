"""python -m kolors_core.models list | check | get: the model files of Kolors for ComfyUI."""

from __future__ import annotations

import argparse
import io
import os
import sys
from pathlib import Path

from ..errors import KolorsError
from .addresses import HUGGING_FACE, MIRRORS, addresses
from .catalog import BY_NAME, FEATURES, ModelFile
from .check import check
from .folders import find_root, models_folder
from .get import ENCODERS, Source, describe_size, get, plan

SMALLER = "smaller text encoders, one in the place of encoder"
EXAMPLES = """examples:
  python -m kolors_core.models get text-to-image                 all that the first image needs
  python -m kolors_core.models get encoder --encoder int8        the text encoder in half the size
  python -m kolors_core.models get unet vae --mirror hf-mirror   from another address
  python -m kolors_core.models get text-to-image --from ~/Downloads
"""


def list_files() -> str:
    """Every file of every feature: size, place, licence and addresses."""
    shown = {name for names in FEATURES.values() for name in names}
    groups = FEATURES | {SMALLER: tuple(name for name in BY_NAME if name not in shown)}
    blocks = []
    for feature, names in groups.items():
        blocks.append(f"{feature}\n" + "".join(_describe(BY_NAME[name]) for name in names))
    return "\n".join(blocks)


def _describe(file: ModelFile) -> str:
    lines = [f"models/{file.place}", file.licence, *addresses(file).values()]
    return f"  {file.name:26} {describe_size(file):>19}  " + f"\n{'':50}".join(lines) + "\n"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m kolors_core.models",
        description="The model files of Kolors for ComfyUI: which there are, which are there, and where to get them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="every file of every feature: size, folder, licence, addresses")
    checking = commands.add_parser("check", help="what is there, whether it is whole, and what is missing")
    checking.add_argument("root", nargs="?", type=Path, help="a ComfyUI or its models folder; this one by default")
    checking.add_argument("--quick", action="store_true", help="compare sizes only, not what is in the files")
    getting = commands.add_parser("get", help="fetch files, or take them from another folder")
    getting.add_argument("names", nargs="+", metavar="NAME", help=f"a file of the list, or {', '.join(FEATURES)}")
    getting.add_argument("--encoder", choices=ENCODERS, default="fp16", help="what the text encoder is stored in")
    getting.add_argument("--mirror", choices=MIRRORS, default=HUGGING_FACE, help="where to fetch from")
    getting.add_argument("--root", type=Path, help="a ComfyUI or its models folder; this one by default")
    getting.add_argument("--from", type=Path, dest="folder", help="take the files from a folder, not from the network")
    getting.add_argument(
        "--overwrite", action="store_true", help="compare the hashes of what is there, and replace what differs"
    )
    return parser.parse_args(arguments)


def existing(folder: Path) -> Path:
    """Raises KolorsError where it is no folder."""
    folder = folder.expanduser()
    if not folder.is_dir():
        raise KolorsError(f"{folder} is not a folder. Give --from the folder that the files lie in.")
    return folder


def main(arguments: list[str] | None = None) -> int:
    given = parse(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a console that cannot show every name of a file
    try:
        if given.command == "list":
            sys.stdout.write(list_files())
        elif given.command == "check":
            return check(given.root, given.quick, _say)
        else:
            models = models_folder(find_root(given.root))
            source = Source(given.mirror, models, given.folder and existing(given.folder))
            get(plan(given.names, models, given.encoder), source, given.overwrite, _say)
    except KeyError as error:
        sys.stderr.write(f"There is no {error.args[0]}. Choose of {', '.join((*FEATURES, *BY_NAME))}.\n")
        return 2
    except KolorsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except BrokenPipeError:  # whoever reads the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. The same command goes on where it stopped.\n")
        return 130
    return 0


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
