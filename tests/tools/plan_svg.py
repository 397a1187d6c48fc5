#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws the arena of activations as SVG: operations to the right, bytes upwards.

  driftctl plan -m MODEL.gguf --picture --json | tests/tools/plan_svg.py [FIRST LAST] > docs/memory-plan.svg

Only operations FIRST to LAST (default 0 to 27, three layers of a llama model). A rectangle is an activation: as
wide as it is needed, as high as it is large, where the plan puts it.
"""
import json
import sys
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 920, 380, 70, 46, 40
COLOURS = {"q8": "#e8a33d", "s8": "#e8a33d", "q16": "#d9704a", "s16": "#d9704a", "attn": "#4a7fb5",
           "q_rope": "#4a7fb5", "ffn_act": "#5a9a68", "attn_sum": "#8d8d8d", "ffn_sum": "#8d8d8d",
           "embd": "#8d8d8d"}


def colour(name):
    return COLOURS.get(name.split(".")[-1], "#7aa6c9")


def main():
    first, last = (int(a) for a in sys.argv[1:3]) if len(sys.argv) > 2 else (0, 27)
    plan = json.load(sys.stdin)
    total = plan["activations_bytes"]
    x_of = (WIDTH - LEFT - 10) / (last - first + 1)
    y_of = (HEIGHT - TOP - BOTTOM) / total
    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" '
           'font-family="sans-serif" font-size="11">' % (WIDTH, HEIGHT, WIDTH, HEIGHT),
           '<rect width="100%" height="100%" fill="#ffffff"/>',
           '<text x="%d" y="18" font-size="14">Activations of %s, %d rows a step: %s kB in place of %s MB</text>' %
           (LEFT, escape(plan["model"]), plan["batch_tokens"], format(total // 1000, ","),
            round(plan["activations_naive_bytes"] / 1e6, 1)),
           '<text x="%d" y="35" fill="#555">lower bound %s kB; operations %d to %d of %d</text>' %
           (LEFT, format(plan["activations_bound_bytes"] // 1000, ","), first, last, plan["operations"]),
           '<rect x="%d" y="%d" width="%.1f" height="%.1f" fill="#f4f4f4" stroke="#bbb"/>' %
           (LEFT, TOP, x_of * (last - first + 1), y_of * total)]
    for row in plan["arena"]:
        a, b = max(row["first_operation"], first), min(row["last_operation"], last)
        if a > b:
            continue
        w, h = (b - a + 1) * x_of, row["bytes"] * y_of
        x = LEFT + (a - first) * x_of
        y = TOP + (total - row["offset_bytes"] - row["bytes"]) * y_of
        out.append('<g><title>%s: %d bytes at %d, operations %d to %d</title>'
                   '<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s" stroke="#fff" '
                   'stroke-width="0.8"/>' % (escape(row["name"]), row["bytes"], row["offset_bytes"],
                                             row["first_operation"], row["last_operation"], x, y, w,
                                             h, colour(row["name"])))
        label = row["name"].split(".", 2)[-1] if row["name"].startswith("blk.") else row["name"]
        if h >= 13 and w >= 6.2 * len(label):
            out.append('<text x="%.1f" y="%.1f" fill="#fff">%s</text>' % (x + 3, y + 12, escape(label)))
        out.append("</g>")
    for i in range(5):
        y = TOP + (HEIGHT - TOP - BOTTOM) * (4 - i) / 4
        out.append('<text x="%d" y="%.1f" text-anchor="end" fill="#555">%d kB</text>' %
                   (LEFT - 6, y + 4, total * i // 4 // 1000))
    for op in range(first, last + 1, 9):
        out.append('<text x="%.1f" y="%d" fill="#555">%d</text>' %
                   (LEFT + (op - first + 0.3) * x_of, HEIGHT - BOTTOM + 16, op))
    out.append("</svg>")
    print("\n".join(out))


if __name__ == "__main__":
    main()
