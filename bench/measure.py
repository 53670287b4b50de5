"""What every work of bench/run is made of: programs that take turns, and rows of figures.

A work is a function of one Context that yields rows as they are measured. In a row more is always
better: times and memory are turned into how often they fit into the peer's, or into the limit that
targets name.
"""
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOISY = 1.25  # a figure is noisy when its rounds' highest ratio is over this many times the lowest


class Failed(Exception):
    """A work that could not be measured; the others go on."""


class Work:
    def __init__(self, name, group, function, quick=True):
        self.name, self.group, self.function, self.quick = name, group, function, quick


class Context:
    """How to measure: what bench/run was asked for."""

    def __init__(self, model, threads, rounds, isa, matrix):
        self.model, self.threads, self.rounds, self.isa, self.matrix = (
            model, threads, rounds, isa, matrix)

    def llama(self):
        """The Python whose llama.cpp was built for the instruction set that is compared."""
        return venv("llama-avx2" if self.isa == "avx2" else "llama")

    def made(self, name, peer=None):
        """A file that bench/make_models.py makes of the fetched one. peer: whose packages make it, not
        llama.cpp's; those of "peft" are enough for random weights."""
        return run([venv(peer) if peer else self.llama(), "bench/make_models.py", self.model, ".cache/bench", name],
                   quiet=True).strip().splitlines()[-1]


def run(command, quiet=False, **keywords):
    """What it prints. quiet: what it complains of is told only when it fails."""
    done = subprocess.run([str(word) for word in command], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                          check=False, stderr=subprocess.PIPE if quiet else None, **keywords)
    if done.returncode != 0:
        why = f": {done.stderr.strip()[-800:]}" if quiet else ", see above"
        raise Failed(f"{' '.join(map(str, command))} failed with {done.returncode}{why}")
    return done.stdout


def last_json(text):
    return json.loads([line for line in text.splitlines() if line.startswith("{")][-1])


def venv(name):
    # pip's cache does not tell a wheel that was built with other flags from another.
    env = {**os.environ, "PIP_NO_CACHE_DIR": "1"} if name.startswith("llama") else None
    return run(["scripts/venv", "bench-" + name, f"bench/{name}-requirements.txt"],
               env=env).strip().splitlines()[-1]


class Driven:
    """A program that answers each line with a line of JSON. Its first line is `hello`, if it has one."""

    def __init__(self, command, hello=True, **keywords):
        self.command = [str(word) for word in command]
        self.errors = tempfile.TemporaryFile(mode="w+")
        self.process = subprocess.Popen(self.command, cwd=ROOT, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.errors, text=True, **keywords)
        self.hello = self.answer() if hello else {}

    def answer(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        self.process.wait()
        self.errors.seek(0)
        raise Failed(f"{' '.join(self.command)} ended with {self.process.returncode}: "
                     f"{self.errors.read()[-800:].strip()}")

    def ask(self, line):
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # answer() tells why
        return self.answer()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.errors.close()


def our_engine(context, path, **options):
    return Driven(["build/bench_engine", path, f"threads={context.threads}", f"isa={context.isa}"]
                  + [f"{key}={value}" for key, value in options.items()])


def llama(context, path):
    peer = Driven([context.llama(), "bench/llama_peer.py", path, "--threads", str(context.threads)])
    if context.isa == "avx2" and "AVX512 = 1" in peer.hello["system"]:
        raise Failed("the llama.cpp for AVX2 alone was built with AVX-512")
    return peer


def memory_probe(context):
    return Driven(["build/bench_memory", str(context.threads)], hello=False)


def take_turns(context, ask_ours, ask_peer, seconds_max=120.0):
    """Figures of both, round by round, the one that goes first changing; at least one round, and no
    further one that would not end within seconds_max."""
    ours, peer = [], []
    start = time.monotonic()
    for i in range(context.rounds):
        if i % 2 == 0:
            ours.append(ask_ours())
            peer.append(ask_peer())
        else:
            peer.append(ask_peer())
            ours.append(ask_ours())
        spent = time.monotonic() - start
        if spent * (i + 2) / (i + 1) > seconds_max:
            break
    return ours, peer


def row(work, figure, peer, unit, target, ours, theirs, less=False):
    """ours and theirs: figures of the rounds. less: fewer is better."""
    ratios = [(b / a if less else a / b) for a, b in zip(ours, theirs)]
    return {"work": f"{work} {figure}", "peer": peer, "unit": unit, "target": target,
            "ours": statistics.median(ours), "theirs": statistics.median(theirs),
            "ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios),
            "rounds": len(ratios), "noisy": max(ratios) > NOISY * min(ratios)}


def limit(work, figure, unit, bound, ours, less=True, target=1.0):
    """Against a fixed bound instead of a peer."""
    return row(work, figure, "a fixed limit", unit, target, ours, [bound] * len(ours), less)


def foretold(work, figure, unit, share, told, measured):
    """What was foretold beside what it was: the ratio is 1 less the share that it was off by."""
    near = 1.0 - abs(told - measured) / measured
    return {"work": f"{work} {figure}", "peer": "what was measured", "unit": unit, "target": share,
            "ours": told, "theirs": measured, "ratio": near, "low": near, "high": near, "rounds": 1,
            "noisy": False}


def tree(pid):
    """A process and all below it."""
    found = [pid]
    for thread in pathlib.Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            found += tree(int(child))
    return found


def pss_mb(pid):
    """Memory of a process and its children, shared pages counted once."""
    total = 0
    for each in tree(pid):
        for line in pathlib.Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1e3


def threads_here():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
