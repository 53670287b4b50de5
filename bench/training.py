"""LoRA steps and whole runs against PyTorch + PEFT and mlx-lm, and what a step costs us by shape."""
import contextlib
import json
import math
import os
import shutil
import statistics
import tempfile

from measure import ROOT, Driven, Failed, Work, foretold, limit, row, run, take_turns, venv

DATA = "bench/data/chat.jsonl"
PEFT = "PyTorch + PEFT"
CONFIG = {"lora_rank": 16, "lora_alpha": 32, "learning_rate": 5e-4, "lr_schedule": "constant",
          "warmup_steps": 0, "weight_decay": 0.01, "max_grad_norm": 1.0, "batch_size": 8,
          "max_steps": 12, "max_seq_length": 512, "mask_prompt": True, "packing": True,
          "val_fraction": 0.0, "log_every": 1, "seed": 7}
MLX_CONFIG = {**CONFIG, "batch_size": 1, "max_steps": 16, "max_seq_length": 64}
MLX_SECONDS = 300  # mlx-lm begins no step that would end later; ours goes on to its end
LONG_TEXT = "bench/data/text.txt"
SHAPES = {"135m-15l": "135m-15l-q4_0", "135m": None, "135m-60l": "135m-60l-q4_0", "360m": "360m-q4_0",
          "1b": "1b-q4_0"}
LENGTHS = (256, 512, 1024, 2048, 4096)
LONG = 1024         # longer rows are measured in one step: it takes long, and then repeats well
MEMORY_SHARE = 0.9  # foretold and measured memory differ by at most a tenth
LINEAR = 0.8        # of the speed with short rows, or few layers, that must be left with long and many


def trainer(context, path, **options):
    return Driven(["build/bench_train", path, f"threads={context.threads}", f"isa={context.isa}"]
                  + [f"{key}={value}" for key, value in options.items()])


def peft(context, script, *arguments):
    """PyTorch, held to the instruction set that ours is held to."""
    only = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    env = {**os.environ, **(only if context.isa == "avx2" else {})}
    peer = Driven([venv("peft"), script, *arguments], env=env)
    if context.isa == "avx2" and peer.hello["isa"] != "AVX2":
        raise Failed(f"PyTorch takes {peer.hello['isa']}, not AVX2")
    return peer


def lora_step(context):
    """Rank 16 on q, k, v, o, four rows of 512 tokens, every token a target."""
    figures = {"ours": [], "peer": []}
    with trainer(context, context.model) as ours, \
            peft(context, "bench/peft_step.py", "--gguf", context.model, "--threads",
                 context.threads) as peer:

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


def finetune(context, config, folder, model=None, data=DATA, init=None):
    return Driven(["build/bench_finetune", model or context.model, data, json.dumps(config),
                   init or folder + "/init.safetensors", folder + "/ours", context.threads, context.isa])


def side_by_side(ours, peer, name, n_steps, seconds_max=math.inf):
    """Steps of both in turns, shown as they come, and the last line of ours, which comes after its last
    step. The peer stops early when its next step would not end within seconds_max, but takes two."""
    mine, theirs, spent = [], [], 0.0
    print(f"  {'step':>4} {'loss, ours':>11} {'loss, ' + name:>22} {'difference':>11} {'s, ours':>8}"
          f" {'s, ' + name:>17}")
    for i in range(n_steps):
        mine.append(ours.ask("step"))
        a = mine[i]
        line = f"  {i + 1:4} {a['loss']:11.6f}"
        times = f"{a['seconds']:8.2f}"
        if len(theirs) == i and (i < 2 or spent * (i + 1) / i <= seconds_max):
            theirs.append(peer.ask("step"))
            b = theirs[i]
            spent += b["seconds"]
            line += f" {b['loss']:22.6f} {a['loss'] - b['loss']:11.1e}"
            times += f" {b['seconds']:17.2f}"
        else:
            line += " " * 35
            times += " " * 18
        print(f"{line} {times}  {'*' * round(40 * a['loss'] / mine[0]['loss'])}")
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


def loss_row(work, peer, mine, theirs):
    """The largest difference of two losses of the same step, against one in a thousand."""
    return limit(work, f"loss-apart-{peer}", "nats", 1e-3 * mine[0]["loss"],
                 [max(max(abs(a["loss"] - b["loss"]) for a, b in zip(mine, theirs)), 1e-9)])


def chat(context):
    """A run on chat rows of 20 to 300 tokens, prompts masked; PEFT pads to the longest of a batch."""
    with batches(context, CONFIG) as folder:
        steps = read_steps(folder)
        print_histogram(steps)
        with finetune(context, CONFIG, folder) as ours, \
                peft(context, "bench/peft_finetune.py", context.model, folder + "/rows.jsonl",
                     json.dumps(CONFIG), folder + "/init.safetensors", context.threads) as peer:
            mine, theirs, last = side_by_side(ours, peer, "PEFT", len(steps))
            told = ours.hello["foretold_mb"]
    tokens = [sum(len(each["tokens"]) for each in rows) for rows in steps]
    padded = sum(len(rows) * max(len(each["tokens"]) for each in rows) for rows in steps)
    print(f"  padding to the longest of a batch makes {padded / sum(tokens):.2f} tokens of one")
    # The first step pays for opening the model, and for page faults.
    rates = [[n / each["seconds"] for n, each in zip(tokens[1:], who[1:])] for who in (mine, theirs)]
    return [row("train-chat", "useful", PEFT, "tok/s", 3.0, *rates),
            row("train-chat", "memory", PEFT, "MB", 5.0, [last["rss_peak_mb"]],
                [theirs[-1]["rss_peak_mb"]], less=True),
            loss_row("train-chat", "PEFT", mine, theirs),
            foretold("train-chat", "foretold", "MB", MEMORY_SHARE, told, last["rss_peak_mb"])]


def mlx(context):
    """The same with mlx-lm, a short row a step: its CPU path takes minutes for a usual batch."""
    with batches(context, MLX_CONFIG) as folder:
        steps = read_steps(folder)
        run([venv("peft"), "bench/peft_finetune.py", "weights", context.model, folder + "/weights"],
            quiet=True)
        with finetune(context, MLX_CONFIG, folder) as ours, \
                Driven([venv("mlx"), "bench/mlx_finetune.py", folder + "/weights", folder + "/rows.jsonl",
                        json.dumps(MLX_CONFIG), folder + "/init.safetensors"]) as peer:
            mine, theirs, last = side_by_side(ours, peer, "mlx-lm", len(steps), MLX_SECONDS)
    print(f"  mlx-lm took {sum(each['seconds'] for each in theirs):.0f} s for {len(theirs)} steps of one"
          f" row, ours {sum(each['seconds'] for each in mine):.1f} s for {len(mine)}")
    tokens = [sum(len(each["tokens"]) for each in rows) for rows in steps]
    rates = [[n / each["seconds"] for n, each in zip(tokens[1:len(theirs)], who[1:])]
             for who in (mine, theirs)]
    return [row("train-mlx", "useful", "mlx-lm", "tok/s", None, *rates),
            row("train-mlx", "memory", "mlx-lm", "MB", None, [last["rss_peak_mb"]],
                [theirs[-1]["rss_peak_mb"]], less=True),
            loss_row("train-mlx", "mlx-lm", mine, theirs)]


@contextlib.contextmanager
def long_rows(n):
    """A scratch folder with rows.jsonl: n rows, each of a text longer than any length asked for."""
    folder = tempfile.mkdtemp(prefix="train-", dir=ROOT / ".cache")
    try:
        line = json.dumps({"text": (ROOT / LONG_TEXT).read_text(encoding="utf-8")}) + "\n"
        with open(folder + "/rows.jsonl", "w", encoding="utf-8") as file:
            file.write(line * n)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def one_cost(context, shape, length):
    """A run of the trainer on rows of that length, one a step: what the fastest step took."""
    path = context.model if SHAPES[shape] is None else context.made(SHAPES[shape], "peft")
    steps = 2 if length <= LONG else 1
    config = {**CONFIG, "batch_size": 1, "max_steps": steps, "max_seq_length": length}
    with long_rows(steps) as folder, \
            finetune(context, config, folder, path, folder + "/rows.jsonl", "-") as ours:
        seconds = min([ours.ask("step")["seconds"] for _ in range(steps)])
        last, plan = ours.ask("end"), ours.hello
    if last["targets"] != steps * (length - 1):
        raise Failed(f"{last['targets']} targets in {steps} rows of {length} tokens")
    return {"layers": plan["layers"], "s": seconds / length, "foretold": plan["foretold_mb"],
            "gflops": plan["gflop_per_token"] * length / seconds, "rss": last["rss_peak_mb"]}


def cost(context):
    """What a token costs by shape and length: without attention it would be the same at all lengths."""
    lengths = LENGTHS if context.matrix else (256, 1024)
    shapes = SHAPES if context.matrix else ("135m-15l", "135m", "135m-60l")
    speeds = {}
    print(f"  {'shape':9} {'layers':>6} {'tokens':>6} {'tok/s':>8} {'µs/tok':>8} {'GFLOP/s':>8}"
          f" {'foretold MB':>11} {'peak MB':>8}")
    for shape in shapes:
        short = None
        for n in lengths:
            c = one_cost(context, shape, n)
            short = short or c
            print(f"  {shape:9} {c['layers']:6} {n:6} {1 / c['s']:8.1f} {c['s'] * 1e6:8.0f}"
                  f" {c['gflops']:8.0f} {c['foretold']:11.0f} {c['rss']:8.0f}")
            yield foretold("train-cost", f"{shape} foretold-{n}", "MB", MEMORY_SHARE, c["foretold"],
                           c["rss"])
        speeds[shape] = short["gflops"]
        yield limit("train-cost", f"{shape} speed-{n}", "GFLOP/s", short["gflops"], [c["gflops"]],
                    less=False, target=LINEAR)
    yield limit("train-cost", "60-layers-over-15", "GFLOP/s", speeds["135m-15l"], [speeds["135m-60l"]],
                less=False, target=LINEAR)


WORKS = [
    Work("train-lora", "training", lora_step),
    Work("train-chat", "training", chat),
    Work("train-cost", "training", cost),
    Work("train-mlx", "training", mlx, quick=False),
]
