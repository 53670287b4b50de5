"""llama.cpp through llama-cpp-python: prefill and decode speed of one GGUF file.

Prints one JSON object: {"prefill": tokens/s, "decode": tokens/s, "version": …}. Run it in a virtual
environment that has llama-cpp-python built from source, so that it uses what this machine has.
"""
import argparse
import json
import time

import llama_cpp


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--prompt", type=int, default=512)
    p.add_argument("--decode", type=int, default=64)
    p.add_argument("--repeat", type=int, default=3)
    a = p.parse_args()
    llm = llama_cpp.Llama(
        model_path=a.model, n_ctx=a.prompt + a.decode + 64, n_batch=512, n_ubatch=512,
        n_threads=a.threads, n_threads_batch=a.threads, verbose=False)
    tokens = [(i * 7919) % llm.n_vocab() for i in range(a.prompt)]
    prefill, decode = [], []
    for _ in range(a.repeat + 1):
        llm.reset()
        start = time.perf_counter()
        llm.eval(tokens)
        prefill.append(a.prompt / (time.perf_counter() - start))
        start = time.perf_counter()
        for _ in range(a.decode):
            llm.eval([5])
        decode.append(a.decode / (time.perf_counter() - start))
    # the first round pays for page faults and buffers
    print(json.dumps({"prefill": sorted(prefill[1:])[a.repeat // 2],
                      "decode": sorted(decode[1:])[a.repeat // 2],
                      "version": llama_cpp.__version__}))


if __name__ == "__main__":
    main()
