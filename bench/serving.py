"""Prefill and decode of one session, and of eight at once, against llama.cpp on the same files."""
import statistics

from measure import Work, limit, llama, memory_probe, our_engine, row, take_turns

BANDWIDTH_SECONDS = 0.3


def all_figures(decoded):
    """figure → (command, tokens of it). In this order 2048 tokens are there already when decoding after
    1024 and 4096 comes: filling a session of 7B takes minutes."""
    prefills = {f"prefill-{n}": (f"prefill {n}", n) for n in (128, 512, 2048)}
    decodes = {f"decode-{depth}": (f"decode {depth} {decoded}", decoded) for depth in (0, 1024, 4096)}
    return {"decode-0": decodes["decode-0"], **prefills, **decodes}


def serve(name, path, decode_tokens, targets, share_target=None, left_out=()):
    """targets: {figure: ratio to reach}; those without one are measured in the matrix only, but for
    figures that are left out."""

    def work(context):
        file = path(context)
        figures = all_figures(decode_tokens)
        with our_engine(context, file) as ours, llama(context, file) as peer, \
                memory_probe(context) as memory:
            for each in (ours, peer):  # the first ones pay for page faults
                each.ask("prefill 32")
                each.ask("decode 0 2")
            shares = []
            for figure, (command, tokens) in figures.items():
                if figure in left_out or not (context.matrix or figure in targets):
                    continue
                gb = ours.hello["weight_bytes"] / 1e9

                def ask_ours():
                    rate = tokens / ours.ask(command)["seconds"]
                    if figure == "decode-0":
                        read = memory.ask(str(BANDWIDTH_SECONDS))["gb_per_s"]
                        shares.append((rate * gb, read))
                    return rate

                mine, theirs = take_turns(
                    context, ask_ours, lambda: tokens / peer.ask(command)["seconds"])
                yield row(name, figure, "llama.cpp", "tok/s", targets.get(figure), mine, theirs)
                if figure == "decode-0":
                    yield row(name, "bandwidth", "reading memory", "GB/s", share_target,
                              [a for a, _ in shares], [b for _, b in shares])

    return work


def fetched(context):
    return context.model


def made(name):
    return lambda context: context.made(name)


def batch(context):
    """Eight streams in the engines alone; socket-eight measures the same through the servers."""
    with our_engine(context, context.model) as ours, llama(context, context.model) as peer:
        commands = "batch 8 64"
        for each in (ours, peer):
            each.ask("batch 8 2")
        mine, theirs = take_turns(context, lambda: 512 / ours.ask(commands)["seconds"],
                                  lambda: 512 / peer.ask(commands)["seconds"])
        alone = [64 / ours.ask("decode 32 64")["seconds"] for _ in range(context.rounds)]
    return [row("batch-8", "decode", "llama.cpp", "tok/s", None, mine, theirs),
            limit("batch-8", "over-alone", "tok/s", statistics.median(alone), mine, less=False,
                  target=None)]


SMOL, ONE, SEVEN = 64, 32, 12  # tokens decoded in a round
WORKS = [
    Work("serve-q4_1", "inference", serve(
        "serve-q4_1", fetched, SMOL, {"prefill-512": 2.0, "decode-0": 1.5})),
    Work("serve-q8_0", "inference", serve(
        "serve-q8_0", made("q8_0"), SMOL, {"prefill-512": 1.4, "decode-0": 1.25})),
    Work("serve-q4_0", "inference", serve(
        "serve-q4_0", made("q4_0"), SMOL, {"prefill-512": 1.5, "decode-0": 1.25})),
    Work("serve-q4_k_m", "inference", serve(
        "serve-q4_k_m", made("q4_k_m"), SMOL, {"prefill-512": 1.5, "decode-0": 1.25})),
    Work("serve-1b-q4_0", "inference", serve(
        "serve-1b-q4_0", made("1b-q4_0"), ONE, {"prefill-128": 1.3, "decode-0": 1.2}, 0.7)),
    Work("serve-1b-q4_k", "inference", serve(
        "serve-1b-q4_k", made("1b-q4_k"), ONE, {"prefill-128": 1.3, "decode-0": 1.2}, 0.7)),
    Work("serve-7b-q4_0", "inference", serve(
        "serve-7b-q4_0", made("7b-q4_0"), SEVEN, {"prefill-128": 1.3, "decode-0": 1.2}), quick=False),
    # Ten minutes more would show of long texts what 7b-q4_0 and 1b-q4_k show.
    Work("serve-7b-q4_k", "inference", serve(
        "serve-7b-q4_k", made("7b-q4_k"), SEVEN, {"prefill-128": 1.3, "decode-0": 1.2},
        left_out=("prefill-2048", "decode-4096")), quick=False),
    Work("batch-8", "inference", batch),
]
