"""The hub of the tests answers as huggingface.co and modelscope.cn do, and goes wrong where it is told to."""

from __future__ import annotations

import hashlib
import http.client
import os
import ssl
import time
import urllib.error
import urllib.request

import pytest
from comfyui_kolors.kolors_core.models import addresses
from comfyui_kolors.kolors_core.models.catalog import BY_NAME
from hub import Hub, self_signed

REPO, PATH, CONTENT = "org/repo", "folder/a.bin", os.urandom(200_000)
ADDRESS = f"/{REPO}/resolve/main/{PATH}"


class Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect; it is an error with its headers."""

    def redirect_request(self, *_):
        return None


STAY = urllib.request.build_opener(Stay)


@pytest.fixture
def hub():
    with Hub() as hub:
        hub.put(REPO, PATH, CONTENT)
        yield hub


def get(url: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(url, method=method, headers={k.replace("_", "-"): v for k, v in headers.items()})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return answer.status, dict(answer.headers), answer.read()


def status_of(url: str, **headers: str) -> int:
    with pytest.raises(urllib.error.HTTPError) as error:
        get(url, **headers)
    return error.value.code


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_the_hub_says_what_a_file_is_and_sends_to_its_store(hub, method):
    request = urllib.request.Request(hub.url + ADDRESS, method=method)
    with pytest.raises(urllib.error.HTTPError) as error:
        STAY.open(request)
    headers = error.value.headers
    assert error.value.code == 302
    assert headers["Location"].startswith(hub.store) and hub.store != hub.url
    assert headers["X-Linked-Etag"].strip('"') == hashlib.sha256(CONTENT).hexdigest()
    assert headers["X-Linked-Size"] == str(len(CONTENT))


def test_the_store_has_the_bytes_and_every_request_is_counted(hub):
    status, headers, body = get(hub.url + ADDRESS)
    assert (status, body) == (200, CONTENT)
    assert headers["Content-Length"] == str(len(CONTENT)) and headers["Accept-Ranges"] == "bytes"
    assert 'filename="a.bin"' in headers["Content-Disposition"]
    assert [(asked.at, asked.method, asked.path) for asked in hub.asked] == [
        (at, "GET", PATH) for at in ("hub", "store")
    ]
    assert [f"http://{asked.host}" for asked in hub.asked] == [hub.url, hub.store]
    status, headers, body = get(hub.store + ADDRESS, "HEAD")
    assert (status, headers["Content-Length"], body) == (200, str(len(CONTENT)), b"")
    assert (hub.count(), hub.count(PATH, at="store"), hub.count(method="HEAD"), hub.count("b")) == (3, 2, 1, 0)


def test_ranges(hub):
    status, headers, body = get(hub.url + ADDRESS, Range="bytes=150000-")
    assert (status, body) == (206, CONTENT[150_000:])
    assert headers["Content-Range"] == f"bytes 150000-199999/{len(CONTENT)}"
    assert get(hub.url + ADDRESS, Range="bytes=5-9")[2] == CONTENT[5:10]
    assert status_of(hub.url + ADDRESS, Range=f"bytes={len(CONTENT)}-") == 416
    assert get(hub.url + ADDRESS, Range="bytes=5-", If_Range='"another"')[0] == 200
    hub.fail(PATH, ranges=False)
    assert get(hub.url + ADDRESS, Range="bytes=5-")[::2] == (200, CONTENT)


def test_it_has_the_addresses_of_the_catalog(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setitem(addresses.MIRRORS, "modelscope", hub.url)
    file = BY_NAME["vision-encoder"]
    hub.put(file.repo, file.path, b"tower", file.revision)
    assert "refs%2Fpr%2F4" in addresses.address(file, "huggingface")
    assert get(addresses.address(file, "huggingface"))[2] == b"tower"
    assert status_of(addresses.address(file, "huggingface").replace("%2F", "/")) == 404
    file = BY_NAME["tokenizer"]
    assert status_of(addresses.address(file, "modelscope")) == 404
    hub.put(file.modelscope, file.path, b"words", "master")
    assert get(addresses.address(file, "modelscope"))[2] == b"words"
    with pytest.raises(urllib.error.HTTPError) as error:
        STAY.open(addresses.address(file, "modelscope"))
    assert "X-Linked-Etag" not in error.value.headers


def test_faults(hub):
    for at, status in (("hub", 404), ("hub", 403), ("store", 500)):
        hub.fail(PATH, at=at, status=status, times=1)
        assert status_of(hub.url + ADDRESS) == status
    hub.fail(PATH, length=10, times=1)
    assert get(hub.url + ADDRESS)[2] == CONTENT[:10]
    hub.fail(PATH, flip=3, times=1)
    body = get(hub.url + ADDRESS)[2]
    assert body[3] == CONTENT[3] ^ 0xFF and body[4:] == CONTENT[4:]
    hub.fail(PATH, drop_after=70_000, times=1)
    with pytest.raises(http.client.IncompleteRead) as error:
        get(hub.url + ADDRESS)
    assert error.value.partial == CONTENT[:70_000]
    hub.fail(PATH, at="hub", location=f"{hub.url}/{REPO}/resolve/main/other", times=1)
    assert status_of(hub.url + ADDRESS) == 404
    hub.fail(PATH, wait=1, times=1)
    with pytest.raises(TimeoutError), urllib.request.urlopen(hub.url + ADDRESS, timeout=0.2) as answer:
        answer.read()
    hub.fail(PATH, pause=0.1, piece=50_000, times=1)
    begun = time.monotonic()
    assert get(hub.url + ADDRESS)[2] == CONTENT and time.monotonic() - begun >= 0.3
    assert get(hub.url + ADDRESS)[2] == CONTENT


def test_it_speaks_https(hub, tmp_path):
    certificate = self_signed(tmp_path) or pytest.skip("no openssl, which makes the certificate")
    context = ssl.create_default_context(cafile=certificate)
    with Hub(certificate, hub.files) as safe:
        assert safe.url.startswith("https:") and safe.store.startswith("https:")
        with urllib.request.urlopen(safe.url + ADDRESS, timeout=5, context=context) as answer:
            assert answer.read() == CONTENT
        assert (safe.count(), hub.count()) == (2, 0)
