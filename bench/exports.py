"""Whether mlx-lm and llama.cpp make the same logits as we do of files that `mlx-hub export` quantised:
how far theirs are from ours, beside how far quantising moved them."""
import array
import json
import math
import pathlib
import shutil
import tempfile

from measure import ROOT, Work, llama, our_engine, row, run, venv

TEXT = "The capital of France is Paris, and the longest river that flows through it is the"
# name → (format and its options, who reads it); all of the same weights in fp32
FILES = {
    "mlx-4bit": (["mlx", "--bits", "4", "--group-size", "64", "--type", "f16"], "mlx-lm"),
    "mlx-8bit": (["mlx", "--bits", "8", "--group-size", "64", "--type", "f16"], "mlx-lm"),
    "gguf-q4_0": (["gguf", "--type", "q4_0"], "llama.cpp"),
    "gguf-q8_0": (["gguf", "--type", "q8_0"], "llama.cpp"),
}


def floats(path):
    values = array.array("f")
    values.frombytes(path.read_bytes())
    return values


def apart(a, b):
    """(root mean square, largest) difference."""
    differences = [abs(x - y) for x, y in zip(a, b, strict=True)]
    return math.sqrt(math.fsum(d * d for d in differences) / len(differences)), max(differences)


def export(source, name, folder):
    out = folder / (name + ".gguf" if name.startswith("gguf") else name)
    run(["build/mlx-hub", "export", source, "--out", out, "--format", *FILES[name][0]], quiet=True)
    return out


def exports(context):
    """A short text, since mlx-lm has a few GFLOP/s here."""
    with tempfile.TemporaryDirectory(prefix="exports-", dir=ROOT / ".cache") as scratch:
        folder = pathlib.Path(scratch)
        ids, out = folder / "ids", folder / "logits"
        words = json.loads(run(["build/mlx-hub", "tokenize", context.model, "--text", TEXT, "--json"]))
        ids.write_text(" ".join(map(str, words["tokens"])) + "\n")

        def ours(path):
            with our_engine(context, path) as engine:
                engine.ask(f"score {ids} 512 {out}")
            return floats(out)

        def theirs(path, reader):
            if reader == "mlx-lm":
                run([venv("mlx"), "bench/mlx_logits.py", path, ids, out], quiet=True)
            else:
                with llama(context, path) as peer:
                    peer.ask(f"score {ids} 512 {out}")
            return floats(out)

        plain = folder / "plain"
        run(["build/mlx-hub", "export", context.model, "--format", "safetensors", "--type", "f32", "--out",
             plain], quiet=True)
        before = ours(plain)
        for name, (_, reader) in FILES.items():
            path = export(plain, name, folder)
            after = ours(path)
            moved, between = apart(before, after), apart(after, theirs(path, reader))
            for i, figure in enumerate(("rms", "largest")):
                yield row("exports", f"{name} {figure}", f"quantising; {reader} reads", "logits",
                          None if i else 1.0, [between[i]], [moved[i]], less=True)
            shutil.rmtree(path) if path.is_dir() else path.unlink()


WORKS = [Work("exports", "inference", exports, quick=False)]
