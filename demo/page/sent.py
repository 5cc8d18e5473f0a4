"""What visitors send as values of fields, made safe before Gradio looks at it.

Gradio fetches files from addresses, and decodes pictures in any format that Pillow knows, without
a limit of size. Here every file, whatever it came as, becomes the path of an upload; pictures are
opened by :func:`masa.pictures.read.read_photo` alone.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from gradio.exceptions import InvalidPathError
from gradio_client.utils import decode_base64_to_binary

from demo.page.guard import MOST_TEXT_OF_PICTURE, SERVED_AT
from demo.runs.served import is_served, serve
from demo.settings import LIMITS
from masa.errors import UserError

_LARGEST = 1e15
_LONGEST_KEY = 1000  # characters

MOST_TEXTS = 1 + LIMITS.max_references
"""Pictures that one request may hold as text: a photo and its references."""


def check_texts(value: Any) -> int:
    """How many pictures as text ``value`` holds; none is decoded.

    Raises ``UserError`` for more than a form holds.
    """
    count = _texts(value)
    if count > MOST_TEXTS:
        raise UserError(
            f"{count} pictures as text are too many for one request: send a photo and up to "
            f"{LIMITS.max_references} references."
        )
    return count


def _texts(value: Any) -> int:
    if isinstance(value, str):
        return value.startswith("data:")
    if isinstance(value, dict):
        return sum(map(_texts, value.values()))
    return sum(map(_texts, value)) if isinstance(value, (list, tuple)) else 0


def checked(value: Any) -> Any:
    """``value`` as it may be passed on; the same again if it was checked before.

    Every file in it is named by its path alone, which lies among the uploads: text of a picture
    (``data:``) is written there, and an address that this page serves is turned into its path.
    Raises ``InvalidPathError`` for other files, ``ValueError`` for what is no value of any field,
    ``UserError`` if the disk is full, and ``OSError`` if nothing can be written.
    """
    if isinstance(value, (int, float)) and not -_LARGEST < value < _LARGEST:
        raise ValueError("a number that no field can take")
    if isinstance(value, str):
        return _written(value) if value.startswith("data:") else value
    if isinstance(value, (list, tuple)):
        return [checked(item) for item in value]
    if isinstance(value, dict):
        if "path" in value or "url" in value:
            place = value.get("path") or value.get("url")
            return {"path": file_path(place), "meta": {"_type": "gradio.FileData"}}
        if any(len(key) > _LONGEST_KEY for key in value):
            raise ValueError("a name that no value has")
        return {key: checked(item) for key, item in value.items()}
    return value


def file_path(value: Any) -> str:
    """The path of the file that ``value``, a field's or what :func:`checked` made of it, names.

    Raises as :func:`checked` does.
    """
    if isinstance(value, dict):
        value = value.get("path")
    if not isinstance(value, str):
        raise ValueError("this names no file")
    if value.startswith("data:"):
        return _written(value)
    path = unquote(value.partition(SERVED_AT)[2]) if SERVED_AT in value else value
    if not is_served(path):
        raise InvalidPathError("not among the uploads")
    return path


def _written(text: str) -> str:
    if len(text) > MOST_TEXT_OF_PICTURE:
        raise ValueError("too long a text for a picture")
    data, ending = decode_base64_to_binary(text)
    return serve(data, f"file.{ending}" if ending else "file")
