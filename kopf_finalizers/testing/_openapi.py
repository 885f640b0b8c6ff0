"""As much of OpenAPI as kubectl needs: a description in which no kind is described.

kubectl (1.20 and later) downloads it before it sends an object, and checks nothing of a kind that
is not in it. It asks for it as a protocol buffer and takes no other form.
"""

import json

PATH = "/openapi/v2"
_PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
_TITLE, _VERSION = "Kubernetes", "v1.20.2"


def description(accept: str) -> tuple[bytes, str]:
    """The description in the form that is asked for, and its media type in the server's words."""
    if _PROTOBUF in accept:
        info = _text(1, _TITLE) + _text(2, _VERSION)
        return _text(1, "2.0") + _field(2, info) + _field(8, b""), "application/octet-stream"
    plain = {"swagger": "2.0", "info": {"title": _TITLE, "version": _VERSION}, "paths": {}}
    return json.dumps(plain).encode(), "text/plain"


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _field(number: int, content: bytes) -> bytes:
    """A field of a protocol buffer that has a length: of fewer than 128 bytes here."""
    return bytes([number << 3 | 2, len(content)]) + content
