"""Pictures to pixels, by Pillow: what ImageDecoder stands for. It runs before the compiled model."""

from __future__ import annotations

import io

import numpy as np

from ..diagnostics import CompileError


def decode_image(data: object, pixel_format: str, name: str) -> np.ndarray:
    """The pixels of a picture.

    Args:
        data: the file, as bytes or a vector of uint8.
        pixel_format: `RGB`, `BGR` or `Grayscale`.
        name: the input, for messages.

    Returns:
        `[height, width, channels]` uint8.

    Raises:
        CompileError: E0303 without Pillow, E0401 if it is no picture.
    """
    try:
        from PIL import Image
    except ImportError:
        raise CompileError("E0303", f"decoding the picture '{name}' needs Pillow", hint="pip install onnxc[images]") from None
    try:
        raw = bytes(data) if isinstance(data, (bytes, bytearray, memoryview)) else np.asarray(data, np.uint8).tobytes()
        with Image.open(io.BytesIO(raw)) as image:
            pixels = np.asarray(image.convert("L" if pixel_format == "Grayscale" else "RGB"))
    except Exception as error:  # noqa: BLE001  (whatever a decoder raises)
        raise CompileError("E0401", f"input '{name}' is no picture that Pillow can decode: {error}") from None
    if pixel_format == "Grayscale":
        pixels = pixels[:, :, None]
    return np.ascontiguousarray(pixels[:, :, ::-1] if pixel_format == "BGR" else pixels)
