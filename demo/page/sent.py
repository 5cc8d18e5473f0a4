"""What visitors send as values of fields, made safe before Gradio looks at it.

Gradio fetches files from addresses, and decodes pictures in any format that Pillow knows, without
a limit of size. Here every file, whatever it came as, becomes the path of an upload; pictures are
opened by :func:`masa.pictures.read.read_photo` alone.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from gradio.exceptions import InvalidPathError
from gradio.processing_utils import save_base64_to_cache
from gradio.utils import get_upload_folder

from demo.page.guard import SERVED_AT
from demo.runs.served import is_served
from demo.settings import LIMITS

_LARGEST = 1e15


def checked(value: Any) -> Any:
    """``value`` as it may be passed on; the same again if it was checked before.

    Every file in it is named by its path alone, which lies among the uploads: text of a picture
    (``data:``) is written there, and an address that this page serves is turned into its path.
    Raises ``InvalidPathError`` for other files, ``ValueError`` for what is no value of any field,
    and ``OSError`` if nothing can be written.
    """
    if isinstance(value, (int, float)) and not -_LARGEST < value < _LARGEST:
        raise ValueError("a number is no use to anybody")
    if isinstance(value, str):
        return _written(value) if value.startswith("data:") else value
    if isinstance(value, (list, tuple)):
        return [checked(item) for item in value]
    if isinstance(value, dict):
        if "path" in value or "url" in value:
            place = value.get("path") or value.get("url")
            return {"path": file_path(place), "meta": {"_type": "gradio.FileData"}}
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
    if len(text) > 1.4 * LIMITS.max_file_bytes:  # base64 takes four characters for three bytes
        raise ValueError("too long a text for a picture")
    return save_base64_to_cache(text, get_upload_folder())
