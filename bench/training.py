"""LoRA steps and whole runs against PyTorch + PEFT and mlx-lm, and what a step costs us by shape."""
import contextlib
import json
import shutil
import statistics
import tempfile

from measure import ROOT, Driven, Work, limit, row, run, take_turns, venv

DATA = "bench/data/chat.jsonl"
PEFT = "PyTorch + PEFT"
CONFIG = {"lora_rank": 16, "lora_alpha": 32, "learning_rate": 5e-4, "lr_schedule": "constant",
          "warmup_steps": 0, "weight_decay": 0.01, "max_grad_norm": 1.0, "batch_size": 8,
          "max_steps": 12, "max_seq_length": 512, "mask_prompt": True, "packing": True,
          "val_fraction": 0.0, "log_every": 1, "seed": 7}
MLX_CONFIG = {**CONFIG, "batch_size": 1, "max_steps": 4, "max_seq_length": 64}
SHAPES = {"135m-15l": "135m-15l-q4_0", "135m": None, "135m-60l": "135m-60l-q4_0", "360m": "360m-q4_0",
          "1b": "1b-q4_0"}
LENGTHS = (256, 512, 1024, 2048, 4096)
MEMORY_SHARE = 0.9  # foretold and measured memory differ by at most a tenth


def trainer(context, path, **options):
    return Driven(["build/bench_train", path, f"threads={context.threads}", f"isa={context.isa}"]
                  + [f"{key}={value}" for key, value in options.items()])


def lora_step(context):
    """Rank 16 on q, k, v, o, four rows of 512 tokens, every token a target."""
    figures = {"ours": [], "peer": []}
    with trainer(context, context.model) as ours, \
            Driven([venv("peft"), "bench/peft_step.py", "--gguf", context.model, "--threads",
                    context.threads]) as peer:

        def ask(who, which):
            answer = who.ask("step")
            figures[which].append(answer["rss_peak_mb"])
            return answer["tokens"] / answer["seconds"]

        mine, theirs = take_turns(context, lambda: ask(ours, "ours"), lambda: ask(peer, "peer"), 240)
    return [row("train-lora", "step", PEFT, "tok/s", 1.3, mine, theirs),
            row("train-lora", "memory", PEFT, "MB", 5.0, figures["ours"][-1:], figures["peer"][-1:],
                less=True)]


@contextlib.contextmanager
def batches(context, config):
    """A scratch folder with rows.jsonl (what every step holds) and init.safetensors."""
    folder = tempfile.mkdtemp(prefix="train-", dir=ROOT / ".cache")
    try:
        text = json.dumps(config)
        run(["build/bench_finetune", "rows", context.model, DATA, text, folder + "/rows.jsonl"])
        run([venv("peft"), "bench/peft_finetune.py", "init", context.model, text,
             folder + "/init.safetensors"], quiet=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def finetune(context, config, folder):
    return Driven(["build/bench_finetune", context.model, DATA, json.dumps(config),
                   folder + "/init.safetensors", folder + "/ours", context.threads, context.isa])


def side_by_side(ours, peer, n_steps):
    """Steps of both in turns; the last line of ours comes after its last step."""
    mine, theirs = [], []
    for _ in range(n_steps):
        mine.append(ours.ask("step"))
        theirs.append(peer.ask("step"))
    return mine, theirs, ours.ask("end")


def read_steps(folder):
    return [json.loads(line) for line in open(folder + "/rows.jsonl", encoding="utf-8")]


def print_histogram(steps):
    lengths = [len(each["tokens"]) for rows in steps for each in rows]
    print(f"{DATA}: {len(lengths)} rows, {min(lengths)} to {max(lengths)} tokens, "
          f"{statistics.mean(lengths):.0f} on average")
    for low in range(0, max(lengths) + 1, 40):
        n = sum(low <= each < low + 40 for each in lengths)
        print(f"  {low:4}–{low + 39:<4} {'#' * n}")


def print_curves(mine, theirs, peer):
    print(f"  {'step':>4} {'loss, ours':>11} {'loss, ' + peer:>22} {'difference':>11}")
    top = max(each["loss"] for each in mine)
    for i, (a, b) in enumerate(zip(mine, theirs), 1):
        bar = "*" * round(40 * a["loss"] / top)
        print(f"  {i:4} {a['loss']:11.6f} {b['loss']:22.6f} {a['loss'] - b['loss']:11.1e}  {bar}")


def loss_row(work, peer, mine, theirs):
    """The largest difference of two losses of the same step, against one in a thousand."""
    return limit(work, f"loss-apart-{peer}", "nats", 1e-3 * mine[0]["loss"],
                 [max(max(abs(a["loss"] - b["loss"]) for a, b in zip(mine, theirs)), 1e-9)])


def memory_rows(work, foretold, measured):
    share = min(foretold, measured) / max(foretold, measured)
    return [limit(work, "memory-foretold", "MB", measured, [foretold], target=None),
            limit(work, "foretold-within", "", MEMORY_SHARE, [share], less=False)]


def chat(context):
    """A run on chat rows of 20 to 300 tokens, prompts masked; PEFT pads to the longest of a batch."""
    with batches(context, CONFIG) as folder:
        steps = read_steps(folder)
        with finetune(context, CONFIG, folder) as ours, \
                Driven([venv("peft"), "bench/peft_finetune.py", context.model, folder + "/rows.jsonl",
                        json.dumps(CONFIG), folder + "/init.safetensors", context.threads]) as peer:
            mine, theirs, last = side_by_side(ours, peer, len(steps))
            foretold = ours.hello["foretold_mb"]
    print_histogram(steps)
    print_curves(mine, theirs, "PEFT")
    tokens = [sum(len(each["tokens"]) for each in rows) for rows in steps]
    padded = sum(len(rows) * max(len(each["tokens"]) for each in rows) for rows in steps)
    print(f"  padding to the longest of a batch makes {padded / sum(tokens):.2f} tokens of one")
    # The first step pays for opening the model, and for page faults.
    rates = [[n / each["seconds"] for n, each in zip(tokens[1:], who[1:])] for who in (mine, theirs)]
    return [row("train-chat", "useful", PEFT, "tok/s", 3.0, *rates),
            row("train-chat", "memory", PEFT, "MB", 5.0, [last["rss_peak_mb"]],
                [theirs[-1]["rss_peak_mb"]], less=True),
            loss_row("train-chat", "PEFT", mine, theirs),
            *memory_rows("train-chat", foretold, last["rss_peak_mb"])]


def mlx(context):
    """The same with mlx-lm on short rows: its CPU path takes minutes for a usual batch."""
    with batches(context, MLX_CONFIG) as folder:
        steps = read_steps(folder)
        run([venv("peft"), "bench/peft_finetune.py", "weights", context.model, folder + "/weights"],
            quiet=True)
        with finetune(context, MLX_CONFIG, folder) as ours, \
                Driven([venv("mlx"), "bench/mlx_finetune.py", folder + "/weights", folder + "/rows.jsonl",
                        json.dumps(MLX_CONFIG), folder + "/init.safetensors"]) as peer:
            mine, theirs, last = side_by_side(ours, peer, len(steps))
    print_curves(mine, theirs, "mlx-lm")
    tokens = [sum(len(each["tokens"]) for each in rows) for rows in steps]
    rates = [[n / each["seconds"] for n, each in zip(tokens[1:], who[1:])] for who in (mine, theirs)]
    return [row("train-mlx", "useful", "mlx-lm", "tok/s", None, *rates),
            row("train-mlx", "memory", "mlx-lm", "MB", None, [last["rss_peak_mb"]],
                [theirs[-1]["rss_peak_mb"]], less=True),
            loss_row("train-mlx", "mlx-lm", mine, theirs)]


def one_cost(context, shape, length):
    """{seconds a token, GFLOP/s, memory} of one row of that length; the faster of two short ones."""
    path = context.model if SHAPES[shape] is None else context.made(SHAPES[shape])
    with trainer(context, path, rows=1, length=length) as ours:
        answers = [ours.ask("step") for _ in range(2 if length <= 1024 else 1)]
        hello = ours.hello
    best = min(answers, key=lambda each: each["seconds"])
    return {"layers": hello["layers"], "s": best["seconds"] / best["tokens"],
            "gflops": best["gflop"] / best["seconds"], "planned": hello["planned_mb"],
            "heap": best["heap_peak_mb"], "rss": best["rss_peak_mb"]}


def cost(context):
    """What a token costs by shape and length: without attention it would be the same at all lengths."""
    lengths = LENGTHS if context.matrix else (256, 1024)
    shapes = SHAPES if context.matrix else ("135m-15l", "135m", "135m-60l")
    costs = {shape: {n: one_cost(context, shape, n) for n in lengths} for shape in shapes}
    print(f"  {'shape':9} {'layers':>6} {'tokens':>6} {'tok/s':>8} {'µs/tok':>8} {'GFLOP/s':>8}"
          f" {'planned MB':>10} {'heap MB':>8} {'peak RSS':>8}")
    for shape, each in costs.items():
        for n, c in each.items():
            print(f"  {shape:9} {c['layers']:6} {n:6} {1 / c['s']:8.1f} {c['s'] * 1e6:8.0f}"
                  f" {c['gflops']:8.0f} {c['planned']:10.0f} {c['heap']:8.0f} {c['rss']:8.0f}")
    rows = []
    for shape, each in costs.items():
        short, long = each[lengths[0]], each[lengths[-1]]
        rows.append(limit(f"train-cost {shape}", f"speed-{lengths[-1]}", "GFLOP/s", short["gflops"],
                          [long["gflops"]], less=False, target=None))
    few, some, many = (costs[shape][256]["s"] for shape in ("135m-15l", "135m", "135m-60l"))
    # Thirty more layers should cost twice what fifteen more do.
    rows.append(limit("train-cost", "30-layers-over-15", "µs", 2e6 * (some - few), [1e6 * (many - some)],
                      target=None))
    return rows


WORKS = [
    Work("train-lora", "training", lora_step),
    Work("train-chat", "training", chat),
    Work("train-cost", "training", cost),
    Work("train-mlx", "training", mlx, quick=False),
]
