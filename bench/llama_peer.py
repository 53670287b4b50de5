"""llama.cpp through llama-cpp-python, driven by the commands that bench_engine takes.

usage: llama_peer.py MODEL [--threads 2] [--context 4608]

Reads prefill N, decode DEPTH N, batch S N, score FILE W OUT and tokens TEXT OUT (a text file's ids, as
score reads them), one a line, and answers each with {"seconds": …}. Run it in a virtual environment that has llama-cpp-python built from source for the
instruction set that is to be compared.
"""
import argparse
import json
import sys
import time

import llama_cpp
import numpy as np

BATCH_DEPTH, SESSIONS_MAX, UBATCH = 32, 32, 512


class Peer:
    def __init__(self, model, threads, context):
        llama_cpp.llama_backend_init()
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(model.encode(), params)
        self.vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.threads = threads
        self.context = context
        self.ctx = None
        self.sequences = 0
        self.length = 0

    def open(self, sequences):
        """One context for long texts, or one for many short ones: their caches differ in shape."""
        if self.ctx is None or self.sequences != sequences:
            if self.ctx is not None:
                llama_cpp.llama_free(self.ctx)
            params = llama_cpp.llama_context_default_params()
            params.n_ctx = self.context if sequences == 1 else sequences * 512
            params.n_batch = params.n_ubatch = UBATCH
            params.n_seq_max = sequences
            params.n_threads = params.n_threads_batch = self.threads
            self.ctx = llama_cpp.llama_init_from_model(self.model, params)
            self.sequences = sequences
            self.length = 0
            self.batch = llama_cpp.llama_batch_init(UBATCH, 0, 1)

    def truncate(self, length):
        llama_cpp.llama_memory_seq_rm(llama_cpp.llama_get_memory(self.ctx), 0, length, -1)
        self.length = length

    def decode(self, rows):
        """rows: (token, position, sequence, whether its logits are wanted)."""
        for i, (token, position, sequence, wanted) in enumerate(rows):
            self.batch.token[i] = token
            self.batch.pos[i] = position
            self.batch.n_seq_id[i] = 1
            self.batch.seq_id[i][0] = sequence
            self.batch.logits[i] = wanted
        self.batch.n_tokens = len(rows)
        if llama_cpp.llama_decode(self.ctx, self.batch) != 0:
            raise SystemExit("llama_peer: llama_decode failed")

    def fill(self, end, sequence=0, start=None):
        at = self.length if start is None else start
        while at < end:
            n = min(end - at, UBATCH)
            self.decode([((at + i) * 7919 % self.vocab, at + i, sequence, at + i == end - 1)
                         for i in range(n)])
            at += n
        llama_cpp.llama_synchronize(self.ctx)
        if start is None:
            self.length = end

    def prefill(self, n):
        self.open(1)
        self.truncate(0)
        start = time.perf_counter()
        self.fill(n)
        return time.perf_counter() - start

    def decode_at(self, depth, n):
        self.open(1)
        if self.length > depth:
            self.truncate(depth)
        self.fill(depth)
        start = time.perf_counter()
        for i in range(n):
            self.decode([(5, depth + i, 0, True)])
            llama_cpp.llama_get_logits(self.ctx)
        self.length = depth + n
        return time.perf_counter() - start

    def batched(self, sessions, n):
        self.open(SESSIONS_MAX)
        memory = llama_cpp.llama_get_memory(self.ctx)
        llama_cpp.llama_memory_clear(memory, True)
        for s in range(sessions):
            self.fill(BATCH_DEPTH, s, 0)
        start = time.perf_counter()
        for i in range(n):
            self.decode([(5, BATCH_DEPTH + i, s, True) for s in range(sessions)])
            llama_cpp.llama_get_logits(self.ctx)
        return time.perf_counter() - start

    def score(self, path, window, out):
        self.open(1)
        ids = [int(word) for word in open(path).read().split()]
        start = time.perf_counter()
        with open(out, "wb") as file:
            for at in range(0, len(ids), window):
                part = ids[at:at + window]
                self.truncate(0)
                self.decode([(token, i, 0, True) for i, token in enumerate(part)])
                logits = llama_cpp.llama_get_logits(self.ctx)
                np.ctypeslib.as_array(logits, (len(part), self.vocab)).tofile(file)
        return time.perf_counter() - start


    def tokens(self, path, out):
        text = open(path, "rb").read()
        ids = (llama_cpp.llama_token * (len(text) + 1))()
        start = time.perf_counter()
        n = llama_cpp.llama_tokenize(llama_cpp.llama_model_get_vocab(self.model), text, len(text), ids,
                                     len(ids), False, False)
        with open(out, "w") as file:
            file.write(" ".join(map(str, ids[:n])) + "\n")
        return time.perf_counter() - start


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--context", type=int, default=4608)
    a = p.parse_args()
    peer = Peer(a.model, a.threads, a.context)
    print(json.dumps({"version": llama_cpp.__version__, "vocab_size": peer.vocab,
                      "system": llama_cpp.llama_print_system_info().decode()}), flush=True)
    for line in sys.stdin:
        word, *rest = line.split()
        seconds = {"prefill": lambda: peer.prefill(int(rest[0])),
                   "decode": lambda: peer.decode_at(int(rest[0]), int(rest[1])),
                   "batch": lambda: peer.batched(int(rest[0]), int(rest[1])),
                   "tokens": lambda: peer.tokens(*rest),
                   "score": lambda: peer.score(rest[0], int(rest[1]), rest[2])}[word]()
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
