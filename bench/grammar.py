"""What a JSON schema enforced costs beside decoding, on the rows of data/schemas.jsonl."""
import statistics

from measure import Driven, Work, limit

DATA = "bench/data/schemas.jsonl"
SHARE = 0.1  # of decode time, at most


def spent(answer):
    """A choice among few tokens may take less time than one among all; that is not set off."""
    return answer["compile"] + answer["masks"] + max(answer["choosing"], 0.0)


def per_token(answers, seconds):
    return [1e6 * seconds(each) / each["tokens"] for each in answers]


def grammar(context):
    """Time for the masks of an answer, the schema's compilation included, against a tenth of what its
    tokens take to decode."""
    with Driven(["build/bench_grammar", context.model, DATA, f"threads={context.threads}",
                 f"isa={context.isa}"]) as ours:
        print(f"  the vocabulary, once a model: {1e3 * ours.hello['vocab_seconds']:.1f} ms")
        for name in ours.hello["names"]:
            answers = [ours.ask(name) for _ in range(context.rounds)]
            decode = statistics.median(per_token(answers, lambda each: each["decode"]))
            worst = 1e3 * max(each["worst"] for each in answers)
            print(f"  {name}: {answers[0]['tokens']} tokens, compiled in"
                  f" {1e3 * answers[0]['compile']:.2f} ms, slowest mask {worst:.2f} ms")
            yield limit("grammar", name, "µs/tok", SHARE * decode, per_token(answers, spent))


WORKS = [Work("grammar", "inference", grammar)]
