#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# picture.py A B [PERMILLE]: whether two pictures (PNG as screendump writes them, or PPM) are alike: same size, and at most PERMILLE
# (default 10) of the pixels differ by more than a viewer's compression would explain. Says how many do; exit status 0 or 1.
# picture.py --black WIDTH HEIGHT FILE writes a black PPM, for tests that a test can fail.
import struct
import sys
import zlib

TOLERANCE = 64      # of 255, in any of the three colours


def png(data):
    at, idat, width, height, colour = 8, b"", 0, 0, 2
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", body[:10])
            if depth != 8 or colour not in (2, 6):
                sys.exit("8 bits of RGB or RGBA expected")
        elif kind == b"IDAT":
            idat += body
        at += 12 + length
    bpp = 3 if colour == 2 else 4
    raw, stride = zlib.decompress(idat), width * bpp
    rows, before = [], bytes(stride)
    for y in range(height):
        kind = raw[y * (stride + 1)]
        row = bytearray(raw[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
        if kind:
            for x in range(stride):
                a = row[x - bpp] if x >= bpp else 0
                b, c = before[x], before[x - bpp] if x >= bpp else 0
                if kind == 1:
                    p = a
                elif kind == 2:
                    p = b
                elif kind == 3:
                    p = (a + b) // 2
                else:
                    da, db, dc = abs(b - c), abs(a - c), abs(a + b - 2 * c)
                    p = a if da <= db and da <= dc else b if db <= dc else c
                row[x] = (row[x] + p) & 255
        before = bytes(row)
        rows.append(before if bpp == 3 else b"".join(before[i:i + 3] for i in range(0, stride, 4)))
    return width, height, b"".join(rows)


def ppm(data):
    words = data.split(None, 4)
    return int(words[1]), int(words[2]), data[len(data) - int(words[1]) * int(words[2]) * 3:]


def load(path):
    with open(path, "rb") as f:
        data = f.read()
    return png(data) if data[:4] == b"\x89PNG" else ppm(data)


if sys.argv[1] == "--black":
    with open(sys.argv[4], "wb") as f:
        f.write(b"P6 %s %s 255\n" % (sys.argv[2].encode(), sys.argv[3].encode()) + bytes(int(sys.argv[2]) * int(sys.argv[3]) * 3))
    sys.exit(0)
(w, h, a), (w2, h2, b) = load(sys.argv[1]), load(sys.argv[2])
if (w, h) != (w2, h2):
    sys.exit("%ux%u and %ux%u pixels" % (w, h, w2, h2))
differ = sum(1 for i in range(0, len(a), 3)
             if abs(a[i] - b[i]) > TOLERANCE or abs(a[i + 1] - b[i + 1]) > TOLERANCE or abs(a[i + 2] - b[i + 2]) > TOLERANCE)
print("%u of %u pixels differ" % (differ, w * h))
sys.exit(differ * 1000 > w * h * (int(sys.argv[3]) if len(sys.argv) > 3 else 10))
