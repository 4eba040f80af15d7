#!/usr/bin/env python3
"""One command for people without a ComfyUI, and for developers of this pack: `python3 dev.py --help`.

The body is devtools/; this file is also read by Pythons that are too old for it.
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - people start this with whatever Python they have
    sys.exit("dev.py found Python %s, expected 3.10 or newer. Run it with a newer Python." % sys.version.split()[0])  # noqa: UP031

from devtools import cli

if __name__ == "__main__":
    sys.exit(cli.main())
