#!/usr/bin/env python3
"""Golden training run of a tiny random llama, from dataset rows to losses, by PyTorch and PEFT; and
proof that what we export is what PEFT and mlx-lm load.

Writes tests/fixtures/train/:
    base/            the model (fp32), a byte-level BPE tokenizer and a chat template
    dataset.jsonl    conversations, prompt and completion pairs, plain texts
    init.safetensors LoRA factors before the first step, in mlx-lm's names and shapes
    golden.json      tokens and targets of every row, the shuffled order, and loss, gradient norm and
                     learning rate of ten optimizer steps (warm-up, linear, accumulation, clipping)
    export.json      checksums of what we exported after those ten steps, and how far the logits of
                     PEFT and of mlx-lm with it are from the factors multiplied out by hand

The second half needs the test binary that trains and exports (TRAIN_EXPORT_BINARY, default
build/tests/train_test_export) and a Python with mlx-lm (MLX_PYTHON); without the latter it is
refused, so that no half-checked export.json is written.

usage: train_run.py [base|export]      both without an argument
Needs scripts/golden/requirements.txt, and mlx-lm for the export.
"""
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
OUT = os.path.join(ROOT, "tests", "fixtures", "train")
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]
TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + "
            "message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
# What the test trains with, too (tests/train/run_fixture.h).
CONFIG = dict(lora_rank=4, lora_alpha=8, learning_rate=5e-3, weight_decay=0.05, warmup_steps=3,
              max_grad_norm=0.5, max_steps=10, batch_size=2, gradient_accumulation_steps=2,
              max_seq_length=96, seed=7)
STEPS = CONFIG["max_steps"]
WARMUP = min(CONFIG["warmup_steps"], STEPS // 10)
MASK = (1 << 32) - 1


# --- Philox4x32-10, as src/base/rng.c -------------------------------------------------------------
def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & MASK, (p0 >> 32) ^ c[3] ^ k[1], p0 & MASK]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return c


def shuffle(seed, epoch, n):
    key = [seed & MASK, ((seed >> 32) ^ (2 * 0x9E3779B9)) & MASK]
    order = list(range(n))
    for i in range(n, 1, -1):
        out = philox([epoch & MASK, epoch >> 32, i - 1, 0], key)
        j = (((out[1] << 32) | out[0]) * i) >> 64
        order[i - 1], order[j] = order[j], order[i - 1]
    return order


# --- fixture --------------------------------------------------------------------------------------
def make_rows():
    rng = random.Random(3)
    who = ["Anneka", "Tomas", "Ilse", "Borin", "Marit", "Kees"]
    what = ["a green lamp", "two old maps", "the harbour keys", "a silver horn", "salted plums"]
    rows = []
    for i in range(12):
        name, thing = who[i % len(who)], what[rng.randrange(len(what))]
        rows.append({"messages": [
            {"role": "user", "content": f"What does {name} keep?"},
            {"role": "assistant", "content": f"{name} keeps {thing}."}]})
    for i in range(4):
        name = who[rng.randrange(len(who))]
        rows.append({"messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": f"Is {name} here?"},
            {"role": "assistant", "content": "No."},
            {"role": "user", "content": "Where then?"},
            {"role": "assistant", "content": f"In the tower, with {what[i]}."},
            {"role": "user", "content": "Thanks!"}]})
    for i in range(4):
        rows.append({"prompt": f"{who[i]} likes ", "completion": f"{what[i]}, naturally"})
    for i in range(3):
        rows.append({"text": f"{who[i]} went to the harbour on a cold morning. caf\u00e9 \u2603"})
    return rows


def make_tokenizer(rows):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=special, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator((json.dumps(r, ensure_ascii=False) for r in rows), trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in special])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|endoftext|>",
                                   eos_token="<|im_end|>", chat_template=TEMPLATE)


def tokens_of(tokenizer, row):
    """Tokens and targets, by the tokenizer's character offsets; the row ends with its last target."""
    end = tokenizer.eos_token_id
    if "messages" in row:
        text, spans = "", []
        for m in row["messages"]:
            head = f"<|im_start|>{m['role']}\n"
            body = m["content"] + "<|im_end|>"
            if m["role"] == "assistant":
                spans.append((len(text) + len(head), len(text) + len(head) + len(body)))
            text += head + body + "\n"
        assert text == tokenizer.apply_chat_template(row["messages"], tokenize=False)
        coded = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
        ids = coded["input_ids"]
        targets = [int(any(b <= s and e <= t for b, t in spans))
                   for s, e in coded["offset_mapping"]]
    elif "prompt" in row:
        before = tokenizer(row["prompt"]).input_ids
        after = tokenizer(row["completion"]).input_ids + [end]
        ids, targets = before + after, [0] * len(before) + [1] * len(after)
    else:
        ids = tokenizer(row["text"]).input_ids + [end]
        targets = [1] * len(ids)
    targets[0] = 0
    last = max(i for i, t in enumerate(targets) if t)
    return ids[:last + 1], targets[:last + 1]


def factor_name(key):
    key = key[key.index("model.layers."):]
    return key.replace(".lora_A.default.weight", ".lora_a").replace(".lora_B.default.weight",
                                                                     ".lora_b")


def rate(step):
    """Of step 1, 2, …"""
    if step <= WARMUP:
        return CONFIG["learning_rate"] * step / WARMUP
    return CONFIG["learning_rate"] * (STEPS - (step - 1)) / (STEPS - WARMUP)


def row_loss(model, row):
    tokens, targets = torch.tensor(row[0]), torch.tensor(row[1])
    logits = model(input_ids=tokens[None]).logits[0]
    log_p = torch.log_softmax(logits[:-1].float(), -1)
    picked = log_p[torch.arange(len(tokens) - 1), tokens[1:]]
    return -(picked * targets[1:]).sum()


def make_base():
    torch.manual_seed(5)
    generator = torch.Generator().manual_seed(9)
    os.makedirs(os.path.join(OUT, "base"), exist_ok=True)
    rows = make_rows()
    with open(os.path.join(OUT, "dataset.jsonl"), "w", encoding="utf-8") as f:
        f.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
    tokenizer = make_tokenizer(rows)
    tokenizer.save_pretrained(os.path.join(OUT, "base"))
    with open(os.path.join(OUT, "base", "chat_template.jinja"), "w") as f:
        f.write(TEMPLATE)
    config = LlamaConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                         num_attention_heads=2, num_key_value_heads=1, head_dim=16,
                         vocab_size=len(tokenizer), max_position_embeddings=256, rms_norm_eps=1e-5,
                         rope_theta=10000.0, initializer_range=0.15, tie_word_embeddings=True,
                         bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
                         attn_implementation="eager")
    base = LlamaForCausalLM(config).float().eval()
    base.save_pretrained(os.path.join(OUT, "base"))

    samples = [tokens_of(tokenizer, r) for r in rows]
    model = get_peft_model(base, LoraConfig(r=CONFIG["lora_rank"], lora_alpha=CONFIG["lora_alpha"],
                                            target_modules=TARGETS, lora_dropout=0.0))
    model.eval()
    params = {factor_name(k): p for k, p in model.named_parameters() if "lora_" in k}
    init = {}
    with torch.no_grad():
        for key, p in params.items():
            if key.endswith("lora_a"):
                bound = p.shape[1] ** -0.5
                p.copy_((2 * torch.rand(p.shape, generator=generator) - 1) * bound)
            init[key] = p.detach().T.contiguous()
    save_file(init, os.path.join(OUT, "init.safetensors"), metadata={"format": "mlx"})

    per_step = CONFIG["batch_size"] * CONFIG["gradient_accumulation_steps"]
    steps_per_epoch = -(-len(rows) // per_step)
    optimizer = torch.optim.AdamW(list(params.values()), lr=1.0, betas=(0.9, 0.999), eps=1e-8,
                                  weight_decay=CONFIG["weight_decay"])
    golden = {"torch": torch.__version__.split("+")[0], "config": CONFIG,
              "rows": [{"tokens": t, "targets": m} for t, m in samples],
              "orders": [shuffle(CONFIG["seed"], e, len(rows)) for e in range(2)],
              "loss": [], "grad_norm": [], "learning_rate": []}
    for step in range(STEPS):
        order = golden["orders"][step // steps_per_epoch]
        at = step % steps_per_epoch * per_step
        chosen = [samples[i] for i in order[at:at + per_step]]
        n = sum(sum(m) for _, m in chosen)
        optimizer.zero_grad()
        total = 0.0
        for sample in chosen:
            loss = row_loss(model, sample) / n
            loss.backward()
            total += float(loss.detach().double())
        norm = torch.nn.utils.clip_grad_norm_(list(params.values()), CONFIG["max_grad_norm"])
        for group in optimizer.param_groups:
            group["lr"] = rate(step + 1)
        optimizer.step()
        golden["loss"].append(total)
        golden["grad_norm"].append(float(norm))
        golden["learning_rate"].append(rate(step + 1))
    with open(os.path.join(OUT, "golden.json"), "w") as f:
        json.dump(golden, f, separators=(",", ":"))
        f.write("\n")
    print("losses", golden["loss"], "norms", golden["grad_norm"])


# --- export ---------------------------------------------------------------------------------------
MLX_SCRIPT = """
import json, sys
import mlx.core as mx
from mlx_lm import load
model, _ = load(sys.argv[1], adapter_path=sys.argv[2])
tokens = json.loads(sys.argv[3])
logits = model(mx.array([tokens]))[0].astype(mx.float32)
import importlib.metadata as m
print(json.dumps({"logits": logits.tolist(), "mlx": m.version("mlx"), "mlx_lm": m.version("mlx-lm")}))
"""


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def by_hand(base_dir, adapter_path, scale):
    """The base with W + scale · (a b)ᵀ put in place of every W."""
    model = AutoModelForCausalLM.from_pretrained(base_dir, dtype=torch.float32,
                                                 attn_implementation="eager").eval()
    factors = load_file(adapter_path)
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for name, a in factors.items():
            if name.endswith("lora_a"):
                module = name[:-len(".lora_a")]
                weights[module + ".weight"] += scale * (a @ factors[module + ".lora_b"]).T
    return model


def check_export():
    binary = os.environ.get("TRAIN_EXPORT_BINARY",
                            os.path.join(ROOT, "build", "tests", "train_test_export"))
    mlx_python = os.environ.get("MLX_PYTHON")
    if not mlx_python:
        sys.exit("MLX_PYTHON must name a Python with mlx-lm")
    base_dir = os.path.join(OUT, "base")
    with open(os.path.join(OUT, "golden.json")) as f:
        golden = json.load(f)
    tokens = golden["rows"][12]["tokens"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([os.path.abspath(binary), "export", folder], check=True, cwd=ROOT)
        version = os.path.join(folder, "version")
        with torch.no_grad():
            plain = AutoModelForCausalLM.from_pretrained(
                base_dir, dtype=torch.float32, attn_implementation="eager").eval()
            bare = plain(input_ids=torch.tensor([tokens])).logits[0]
            want = by_hand(base_dir, os.path.join(version, "adapter.safetensors"),
                           CONFIG["lora_alpha"] / CONFIG["lora_rank"])(
                               input_ids=torch.tensor([tokens])).logits[0]
            peft = PeftModel.from_pretrained(plain, os.path.join(folder, "peft")).eval()
            peft_logits = peft(input_ids=torch.tensor([tokens])).logits[0]
            loss = float(row_loss(peft, (tokens, golden["rows"][12]["targets"])))
        mlx = {}
        for name in ["mlx", "version"]:  # the export, and the version's own folder
            result = subprocess.run(
                [mlx_python, "-c", MLX_SCRIPT, base_dir, os.path.join(folder, name),
                 json.dumps(tokens)], check=True, capture_output=True, text=True)
            mlx = json.loads(result.stdout.strip().splitlines()[-1])
            mlx[name] = float(np.abs(np.array(mlx["logits"]) - want.numpy()).max())
            assert mlx[name] < 1e-3, mlx[name]
        peft_difference = float((peft_logits - want).abs().max())
        adapter_changes = float((want - bare).abs().max())
        assert peft_difference < 1e-4, peft_difference
        assert adapter_changes > 0.1, adapter_changes
        record = {
            "adapter.safetensors": sha256(os.path.join(version, "adapter.safetensors")),
            "mlx/adapters.safetensors": sha256(os.path.join(folder, "mlx", "adapters.safetensors")),
            "mlx/adapter_config.json": sha256(os.path.join(folder, "mlx", "adapter_config.json")),
            "peft/adapter_model.safetensors":
                sha256(os.path.join(folder, "peft", "adapter_model.safetensors")),
            "peft/adapter_config.json":
                sha256(os.path.join(folder, "peft", "adapter_config.json")),
            "row": 12, "peft_row_loss": loss, "adapter_changes_logits_by": adapter_changes,
            "peft_logits_differ_by": peft_difference, "mlx_logits_differ_by": mlx["version"],
            "mlx": mlx["mlx"], "mlx_lm": mlx["mlx_lm"],
        }
    with open(os.path.join(OUT, "export.json"), "w") as f:
        json.dump(record, f, indent=1)
        f.write("\n")
    print(json.dumps(record, indent=1))


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    what = sys.argv[1] if len(sys.argv) > 1 else "both"
    if what in ("base", "both"):
        make_base()
    if what in ("export", "both"):
        check_export()


if __name__ == "__main__":
    main()
