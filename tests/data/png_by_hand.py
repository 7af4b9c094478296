"""PNG files written out by hand, of every kind and depth."""

import struct
import zlib


def png(path, rows, bits, kind, *, palette=None, transparency=None):
    """A PNG written out by hand from samples [h, w, c]; kinds 0, 2, 3, 4, 6 are grey, RGB, palette, LA, RGBA."""
    height, width, channels = rows.shape
    lines = b""
    for row in rows.reshape(height, width * channels):
        text = "".join(f"{int(value):0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        lines += b"\0" + int(text, 2).to_bytes(len(text) // 8, "big")

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    data += chunk(b"PLTE", bytes(palette)) if palette is not None else b""
    data += chunk(b"tRNS", transparency) if transparency is not None else b""
    path.write_bytes(data + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b""))
    return path
