"""How far quantised products move the logits: KL divergence from fp32 on the same, de-quantised
weights, and perplexity, on a fixed text, ours beside llama.cpp's of the same file."""
import contextlib
import os

from measure import ROOT, Work, last_json, limit, llama, our_engine, row, run, venv

WINDOW, TOKENS = 512, 9 * 512  # read from scratch, window by window
KL_MAX = 1.05                  # ours over llama.cpp's


def quality(name, path):
    def work(context):
        file = path(context)
        scratch = ROOT / ".cache" / "bench"
        ids, ours, theirs = (scratch / f"score-{os.getpid()}.{end}" for end in ("ids", "ours", "peer"))
        try:
            with llama(context, file) as peer:
                peer.ask(f"tokens {ROOT / 'bench/data/text.txt'} {ids}")
                words = ids.read_text().split()[:TOKENS]
                ids.write_text(" ".join(words) + "\n")
                peer.ask(f"score {ids} {WINDOW} {theirs}")
            with our_engine(context, file) as engine:
                engine.ask(f"score {ids} {WINDOW} {ours}")
            figures = last_json(run([venv("peft"), "bench/quality_reference.py", file, ids, WINDOW, ours,
                                     theirs], quiet=True))
        finally:
            for each in (ids, ours, theirs):
                with contextlib.suppress(FileNotFoundError):
                    each.unlink()
        return [row(name, "kl", "llama.cpp", "nats", 1 / KL_MAX, [figures["kl"][0]], [figures["kl"][1]],
                    less=True),
                row(name, "kl-between", "llama.cpp's own kl", "nats", None, [figures["between"]],
                    [figures["kl"][1]], less=True),
                row(name, "perplexity", "llama.cpp", "", None, [figures["perplexity"][0]],
                    [figures["perplexity"][1]], less=True),
                limit(name, "perplexity-fp32", "", figures["perplexity"][2], [figures["perplexity"][0]],
                      target=None)]

    return work


def made(name):
    return lambda context: context.made(name)


WORKS = [
    Work("quality-q4_1", "inference", quality("quality-q4_1", lambda context: context.model)),
    Work("quality-q8_0", "inference", quality("quality-q8_0", made("q8_0"))),
    Work("quality-q4_0", "inference", quality("quality-q4_0", made("q4_0"))),
    Work("quality-q4_k_m", "inference", quality("quality-q4_k_m", made("q4_k_m"))),
    Work("quality-q5_1", "inference", quality("quality-q5_1", made("q5_1")), quick=False),
    Work("quality-q6_k", "inference", quality("quality-q6_k", made("q6_k")), quick=False),
]
