# SPDX-License-Identifier: Apache-2.0
"""Runs llama.cpp through the low-level interface of llama-cpp-python; started by peer_env.Worker in an environment
that has it. Reads commands, a JSON object a line, and answers with one each:

  info                                    versions and what it was built for
  open    model                           loads a file; the one before it is closed
  run     test tokens batch settings repeat seed
                                          seconds of each repetition. test: prefill (one sequence, logits of the last
                                          token) or decode (`batch` sequences at once, each from one token)
  quantize source out type                writes another file of the same model, as llama.cpp's own tool does
"""
import ctypes
import json
import os
import random
import sys
import time

import llama_cpp as lc

WARM_STEPS = 2
CELL_PAD = 256  # llama.cpp's own padding of the KV cache


@lc.llama_log_callback
def quiet(level, text, user_data):
    pass


def check(ok, what):
    if not ok:
        raise RuntimeError(what)


class Peer:
    def __init__(self):
        lc.llama_log_set(quiet, ctypes.c_void_p(0))
        lc.llama_backend_init()
        self.threads = len(os.sched_getaffinity(0))
        self.model = None

    def info(self):
        return {"version": lc.__version__, "system": lc.llama_print_system_info().decode().strip(),
                "threads": self.threads}

    def open(self, model):
        if self.model:
            lc.llama_model_free(self.model)
        self.model = lc.llama_model_load_from_file(model.encode(), lc.llama_model_default_params())
        check(self.model, "%s can't be loaded" % model)
        self.n_vocab = lc.llama_vocab_n_tokens(lc.llama_model_get_vocab(self.model))
        return {"n_vocab": self.n_vocab}

    def quantize(self, source, out, type):
        p = lc.llama_model_quantize_default_params()
        p.ftype = getattr(lc, "LLAMA_FTYPE_MOSTLY_" + type)
        p.nthread = self.threads
        p.allow_requantize = True
        check(lc.llama_model_quantize(source.encode(), out.encode(), ctypes.byref(p)) == 0, "can't write " + out)
        return {}

    def context(self, cells, sequences, settings):
        p = lc.llama_context_default_params()
        p.n_ctx = (cells + CELL_PAD - 1) // CELL_PAD * CELL_PAD * sequences
        p.n_batch = max(settings.get("n_batch", 512), sequences)
        p.n_ubatch = max(settings.get("n_ubatch", 512), sequences)
        p.n_seq_max = sequences
        p.n_threads = p.n_threads_batch = self.threads
        p.flash_attn_type = (lc.LLAMA_FLASH_ATTN_TYPE_ENABLED if settings.get("flash") else
                             lc.LLAMA_FLASH_ATTN_TYPE_DISABLED)
        p.kv_unified = bool(settings.get("unified"))
        p.no_perf = True
        context = lc.llama_init_from_model(self.model, p)
        check(context, "no context with %s" % settings)
        return context

    def run(self, test, tokens, settings, batch=1, repeat=1, seed=1):
        rng = random.Random(seed)
        run_one = self.prefill if test == "prefill" else self.decode
        context = self.context(tokens, batch, settings)
        llama_batch = lc.llama_batch_init(max(tokens, batch), 0, 1)
        try:
            warm = tokens if test == "prefill" else min(tokens, WARM_STEPS)
            run_one(context, llama_batch, warm, batch, settings, rng)
            return {"seconds": [run_one(context, llama_batch, tokens, batch, settings, rng) for _ in range(repeat)]}
        finally:
            lc.llama_batch_free(llama_batch)
            lc.llama_free(context)

    def prefill(self, context, b, tokens, batch, settings, rng):
        """One prompt, in pieces of n_batch (llama.cpp cuts those into n_ubatch itself)."""
        ids = [rng.randrange(self.n_vocab) for _ in range(tokens)]
        step = settings.get("n_batch", 512)
        lc.llama_memory_clear(lc.llama_get_memory(context), True)
        start = time.perf_counter()
        for at in range(0, tokens, step):
            piece = ids[at:at + step]
            b.n_tokens = len(piece)
            for i, token in enumerate(piece):
                b.token[i], b.pos[i], b.n_seq_id[i], b.seq_id[i][0] = token, at + i, 1, 0
                b.logits[i] = at + i == tokens - 1
            check(lc.llama_decode(context, b) == 0, "llama_decode failed")
        lc.llama_synchronize(context)
        return time.perf_counter() - start

    def decode(self, context, b, tokens, batch, settings, rng):
        """Random tokens in place of sampled ones: sampling is not in its time, which favours it."""
        ids = [[rng.randrange(self.n_vocab) for _ in range(batch)] for _ in range(tokens)]
        lc.llama_memory_clear(lc.llama_get_memory(context), True)
        b.n_tokens = batch
        for i in range(batch):
            b.n_seq_id[i], b.seq_id[i][0], b.logits[i] = 1, i, True
        start = time.perf_counter()
        for step in range(tokens):
            for i in range(batch):
                b.token[i], b.pos[i] = ids[step][i], step
            check(lc.llama_decode(context, b) == 0, "llama_decode failed")
            lc.llama_synchronize(context)
        return time.perf_counter() - start


def main():
    peer = Peer()
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no reply
    for line in sys.stdin:
        fields = json.loads(line)
        try:
            reply = getattr(peer, fields.pop("command"))(**fields)
        except Exception as e:  # the caller decides what an error means
            reply = {"error": "%s: %s" % (type(e).__name__, e)}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
