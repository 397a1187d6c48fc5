#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""16 streams at once at temperature 0 say exactly what each of them says alone. Speeds are printed."""
import threading
import time

import server

N = 16
MAX_TOK = 64
TOPICS = ("a lighthouse", "the number seven", "rain in spring", "an old library", "bread", "copper wire",
          "the river Rhine", "chess", "a red bicycle", "winter mornings", "tea", "the moon", "a small dog",
          "maps", "snow", "violins")


def prompts():
    """Of different lengths, some over a page of the KV pool, two with a common beginning."""
    rows = ["A story about %s" % ", ".join(TOPICS[i:] + TOPICS[:2 * i]) + ". It begins like this:"
            for i in range(N)]
    rows[9] = rows[8] + " One day"
    return rows


def main():
    fields = {"temperature": 0, "max_tokens": MAX_TOK, "ignore_eos": True}
    with server.Server("--context", "2048", "--kv-tokens", "8192", "--parallel", str(N)) as s:
        s.complete("Hello", max_tokens=4)
        began = time.monotonic()
        alone = [s.stream(p, **fields) for p in prompts()]
        alone_s = time.monotonic() - began
        together = [None] * N

        def one(i, prompt):
            together[i] = s.stream(prompt, **fields)

        # The second time everything but the last page of a prompt is in the cache; that is no matter.
        threads = [threading.Thread(target=one, args=x) for x in enumerate(prompts())]
        began = time.monotonic()
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        together_s = time.monotonic() - began
    server.check(all(text and n == MAX_TOK for text, n in alone), "%d streams alone, of %d tokens" %
                 (N, MAX_TOK))
    server.check(len({text for text, _ in alone}) > N / 2, "their texts are different")
    for i in range(N):
        server.check(together[i] == alone[i], "stream %d says in company what it says alone" % i)
    server.note("alone %.1f tokens/s, %d together %.1f tokens/s: %.2f times as many" %
                (N * MAX_TOK / alone_s, N, N * MAX_TOK / together_s, alone_s / together_s))
    server.finish()


if __name__ == "__main__":
    main()
