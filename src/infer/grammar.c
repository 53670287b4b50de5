/* The mask of a state is found by walking the sorted vocabulary: tokens that share a beginning with
 * the one before share its states, and one whose beginning is dead takes all that share it along.
 */
#include "infer/grammar.h"

#include <string.h>

#include "base/mem.h"
#include "infer/grammar_match.h"
#include "infer/grammar_schema.h"
#include "infer/grammar_vocab.h"

struct grammar {
    const struct grammar_vocab *vocab;
    struct matcher matcher;
    uint32_t state;
    size_t mask_words, mask_bytes;
    int32_t special[TOOL_FORMAT_TOKENS_MAX]; /* tags of the format, which no vocabulary holds */
    int n_special;
};

/* Models begin a call with a token of its own, not with the letters of its name. */
static void find_special(struct grammar *g, const struct tool_format *format)
{
    for (int i = 0; format != NULL && i < TOOL_FORMAT_TOKENS_MAX; i++) {
        const char *text = format->tokens[i];
        const int32_t id =
            text != NULL ? tokenizer_id_of(g->vocab->tokenizer, text, strlen(text)) : -1;
        if (id >= 0 && id < g->vocab->vocab_size && tokenizer_is_special(g->vocab->tokenizer, id)) {
            g->special[g->n_special++] = id;
        }
    }
}

int grammar_new(struct grammar **out, const struct grammar_vocab *vocab, const json_t *source,
                const struct tool_format *format, struct err *err)
{
    struct rules rules = {0};
    uint32_t root = 0;
    struct grammar *g = mem_calloc(1, sizeof *g);
    if (g == NULL) {
        return mem_err(err, sizeof *g);
    }
    g->vocab = vocab;
    g->mask_words = ((size_t)vocab->vocab_size + 63) / 64;
    find_special(g, format);
    int rc = grammar_compile(&rules, source, format, &root, err);
    if (rc == 0) {
        rc = matcher_init(&g->matcher, &rules, root, &g->state, err);
    }
    rules_release(&rules);
    if (rc == 0 && g->state == STATE_DEAD) {
        rc = err_set(err, ERR_INVALID, "no text satisfies the schema");
    }
    if (rc != 0) {
        grammar_free(g);
        return rc;
    }
    *out = g;
    return 0;
}

void grammar_free(struct grammar *g)
{
    if (g != NULL) {
        matcher_release(&g->matcher);
        mem_free(g);
    }
}

/* states[k] becomes the state after k plain bytes, whichever they are; *run is how far that goes.
 */
static int run_plain(struct grammar *g, uint32_t *states, size_t *run, struct err *err)
{
    struct byte_class plain = {{0}};
    for (unsigned byte = 0; byte < 256; byte++) {
        plain.bits[byte / 64] |= (uint64_t)vocab_byte_is_plain((uint8_t)byte) << (byte % 64);
    }
    for (*run = 0; *run < g->vocab->plain_longest; ++*run) {
        const int rc =
            matcher_step_any(&g->matcher, states[*run], &plain, 'a', &states[*run + 1], err);
        if (rc != 0 || states[*run + 1] == STATE_DEAD) {
            return rc;
        }
    }
    return 0;
}

/* Looks at the tokens of a list; those of at most `run` bytes may come, states[0 … run] being what
 * they lead to. */
static int walk(struct grammar *g, const struct vocab_list *list, uint32_t *states, size_t run,
                uint64_t *mask, struct err *err)
{
    size_t dead = GRAMMAR_TOKEN_BYTES_MAX + 1; /* beginnings of the last token as long are dead */
    for (size_t i = 0; i < list->n; i++) {
        const struct vocab_token *token = &list->tokens[i];
        size_t at = token->shared > run ? token->shared : run;
        if (token->shared >= dead) {
            continue;
        }
        dead = GRAMMAR_TOKEN_BYTES_MAX + 1;
        for (; at < token->n && dead > token->n; at++) {
            const int rc = matcher_step(&g->matcher, states[at], (uint8_t)token->bytes[at],
                                        &states[at + 1], err);
            if (rc != 0) {
                return rc;
            }
            dead = states[at + 1] == STATE_DEAD ? at + 1 : dead;
        }
        if (dead > token->n) {
            mask[token->id / 64] |= UINT64_C(1) << (token->id % 64);
        }
    }
    return 0;
}

static int try_special(struct grammar *g, int32_t id, uint64_t *mask, struct err *err)
{
    size_t n;
    const char *bytes = tokenizer_piece(g->vocab->tokenizer, id, &n);
    uint32_t state = g->state;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n && state != STATE_DEAD; i++) {
        rc = matcher_step(&g->matcher, state, (uint8_t)bytes[i], &state, err);
    }
    if (rc == 0 && n > 0 && state != STATE_DEAD) {
        mask[id / 64] |= UINT64_C(1) << (id % 64);
    }
    return rc;
}

static int fill_mask(struct grammar *g, uint64_t *mask, bool *any, struct err *err)
{
    uint32_t states[GRAMMAR_TOKEN_BYTES_MAX + 2];
    size_t run;
    states[0] = g->state;
    int rc = run_plain(g, states, &run, err);
    if (rc == 0 && run == g->vocab->plain_longest) {
        memcpy(mask, g->vocab->plain_bits, g->mask_words * sizeof *mask);
    } else if (rc == 0) {
        rc = walk(g, &g->vocab->plain, states, run, mask, err);
    }
    if (rc == 0) {
        rc = walk(g, &g->vocab->rest, states, 0, mask, err);
    }
    for (int i = 0; rc == 0 && i < g->n_special; i++) {
        rc = try_special(g, g->special[i], mask, err);
    }
    for (size_t i = 0; rc == 0 && i < g->mask_words; i++) {
        *any = *any || mask[i] != 0;
    }
    return rc;
}

static void forget_masks(struct grammar *g)
{
    for (size_t i = 0; i < g->matcher.n_states; i++) {
        mem_free(g->matcher.states[i].mask);
        g->matcher.states[i].mask = NULL;
    }
    g->mask_bytes = 0;
}

static int make_mask(struct grammar *g, struct err *err)
{
    const size_t bytes = g->mask_words * sizeof(uint64_t);
    bool any = false;
    if (g->mask_bytes + bytes > GRAMMAR_MASK_BYTES_MAX) {
        forget_masks(g);
    }
    uint64_t *mask = mem_calloc(g->mask_words, sizeof *mask);
    if (mask == NULL) {
        return mem_err(err, bytes);
    }
    int rc = fill_mask(g, mask, &any, err);
    for (int i = 0; rc == 0 && i < g->vocab->n_eos; i++) {
        if (matcher_may_end(&g->matcher, g->state)) {
            mask[g->vocab->eos[i] / 64] |= UINT64_C(1) << (g->vocab->eos[i] % 64);
            any = true;
        }
    }
    if (rc == 0 && !any) {
        rc = err_set(err, ERR_INVALID, "the model has no token that goes on with the schema");
    }
    if (rc != 0) {
        mem_free(mask);
        return rc;
    }
    g->mask_bytes += bytes;
    g->matcher.states[g->state].mask = mask;
    return 0;
}

int grammar_mask(struct grammar *g, const uint64_t **mask, struct err *err)
{
    int rc = 0;
    if (matcher_is_full(&g->matcher)) {
        rc = matcher_forget(&g->matcher, &g->state, err);
        g->mask_bytes = 0;
    }
    if (rc == 0 && g->matcher.states[g->state].mask == NULL) {
        rc = make_mask(g, err);
    }
    *mask = rc == 0 ? g->matcher.states[g->state].mask : NULL;
    return rc;
}

int grammar_accept(struct grammar *g, int32_t token, struct err *err)
{
    size_t n;
    const char *bytes = tokenizer_piece(g->vocab->tokenizer, token, &n);
    uint32_t state = g->state;
    for (size_t i = 0; i < n; i++) {
        const int rc = matcher_step(&g->matcher, state, (uint8_t)bytes[i], &state, err);
        if (rc != 0) {
            return rc;
        }
    }
    if (state == STATE_DEAD || n == 0) {
        return err_set(err, ERR_INVALID, "token %d may not come here by the schema", (int)token);
    }
    g->state = state;
    return 0;
}

bool grammar_done(const struct grammar *g)
{
    return matcher_must_end(&g->matcher, g->state);
}
