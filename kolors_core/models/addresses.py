"""Where a file can be had, and the only hosts that are ever asked.

A request goes to a mirror of this list; `HF_ENDPOINT` takes the place of huggingface.co. A mirror may pass it on to one
of the hosts that it keeps its files on, and to no other.
"""

from __future__ import annotations

import os
from urllib.parse import quote, urlsplit

from .catalog import ModelFile

HUGGING_FACE = "huggingface"
#: The addresses of the mirrors, in the order in which they are tried.
MIRRORS = {
    HUGGING_FACE: "https://huggingface.co",
    "hf-mirror": "https://hf-mirror.com",
    "modelscope": "https://modelscope.cn",
}
HOSTS = "huggingface.co, hf-mirror.com or modelscope.cn"  # the same in words
#: Hosts, and those below them, that a mirror may pass a request on to.
STORES = ("huggingface.co", "hf.co", "hf-mirror.com", "modelscope.cn", "aliyuncs.com")


def endpoint(mirror: str) -> str:
    """The address of a mirror."""
    chosen = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") if mirror == HUGGING_FACE else ""
    if chosen and "://" not in chosen:
        chosen = f"https://{chosen}"
    return chosen or MIRRORS[mirror]


def address(file: ModelFile, mirror: str) -> str | None:
    """The URL of a file on a mirror; None where the mirror does not have it."""
    if mirror != "modelscope":
        return f"{endpoint(mirror)}/{file.repo}/resolve/{quote(file.revision, safe='')}/{quote(file.path)}"
    if file.modelscope is None:
        return None
    return f"{endpoint(mirror)}/models/{file.modelscope}/resolve/master/{quote(file.path)}"


def addresses(file: ModelFile) -> dict[str, str]:
    """The URLs of a file by mirror."""
    found = {mirror: address(file, mirror) for mirror in MIRRORS}
    return {mirror: url for mirror, url in found.items() if url}


def may_follow(url: str, start: str) -> bool:
    """Whether a request to `start` may be passed on to `url`: never to a less safe protocol or a foreign host."""
    first, then = urlsplit(start), urlsplit(url)
    if then.scheme != "https" and then.scheme != first.scheme:
        return False
    host = (then.hostname or "").lower()
    return host == first.hostname or any(host == store or host.endswith(f".{store}") for store in STORES)
