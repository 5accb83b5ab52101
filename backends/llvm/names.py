"""The public names of a compiled model: plain C identifiers, whatever the model is called."""

from __future__ import annotations

import re

_LIMIT = 32


def model_name(name: str) -> str:
    """The prefix of a model's symbols and files: lower-case ASCII letters, digits and single underscores, first a letter."""
    text = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:_LIMIT].rstrip("_")
    return text if text and text[0].isalpha() else f"x{text}"
