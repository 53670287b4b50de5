/* What goes into the next eval, and which pages it stands on.
 *
 *   WAITING ─▶ (its tokens fit beside those at work) ─▶ at work ─▶ (pages run out) ─▶ WAITING
 *
 * Whoever waits starts in the order of arrival, and nobody starts before an older one that waits:
 * that, and that the oldest is never set aside, is why nobody starves. Pages for a step come from
 * the pool, then from what is kept of finished requests, then from the youngest at work; what that
 * one had is kept as long as it can be, and computed again where it could not. A request that
 * begins with a block which an older one is about to compute waits a step and stands on the same
 * page. */
#include <string.h>

#include "infer/scheduler_private.h"

enum {
    STEP_NS_ALONE = 250000000,  /* a step of prompts only should not take longer: a cancel waits */
    STEP_NS_SHARED = 100000000, /* nor one that others wait in for their next token */
    CHUNK_TOKENS_MIN = 64,
    CHUNK_TOKENS_MIN_SHARED = 16,
    MEASURED_TOKENS_MIN = 8, /* of a prompt, in a step that tells how fast prompts go */
    SHARE_TOKENS_MIN = 32    /* of a step, for each prompt when there are many */
};

static bool decoding(const struct scheduled *r)
{
    return !r->waiting && scheduler_missing(r) == 1;
}

static bool scoring(const struct scheduled *r)
{
    return r->score_prompt && r->n_scored < r->n_prompt;
}

/* Whether r may stand on what others computed. Scores and embeddings want every token computed. */
static bool shares(const struct scheduler *s, const struct scheduled *r)
{
    return s->prefixes.bytes_max > 0 && !r->score_prompt && r->sum == NULL && !r->cold;
}

static size_t pages_free(const struct scheduler *s)
{
    const size_t most = engine_pages_max(s->model);
    const size_t used = engine_pages_used(s->model);
    return used < most ? most - used : 0;
}

/* --- who is at work --- */

/* Cuts the session back to whole blocks. */
static void give_up_tail(struct scheduled *r)
{
    const int length = engine_session_length(r->session) / PREFIX_BLOCK * PREFIX_BLOCK;
    engine_session_truncate(r->session, length);
    r->n_cached = r->n_cached < length ? r->n_cached : length;
}

/* Stands the request on pages that are kept behind what it has. */
static void take_kept(struct scheduler *s, struct scheduled *r)
{
    const int before = engine_session_length(r->session);
    if (!shares(s, r) || prefix_cache_extend(&s->prefixes, r->adapter_key, r->tokens, r->n_tokens,
                                             r->session) == 0) {
        return;
    }
    if (r->whole_blocks) {
        give_up_tail(r);
    }
    const int n = engine_session_length(r->session) - before;
    const int room = r->n_prompt - r->n_cached;
    if (!r->was_set_aside) {
        r->n_cached += n < room ? n : room;
    }
}

/* Whether the tokens of a request that waits fit in beside those at work. */
static bool start(struct scheduler *s, struct scheduled *r, bool first)
{
    const int cached = r->n_cached;
    take_kept(s, r);
    const size_t need = engine_session_pages_needed(r->session, scheduler_missing(r));
    if (first || need <= pages_free(s) ||
        need <= pages_free(s) + prefix_cache_spare(&s->prefixes)) {
        r->waiting = false;
        return true;
    }
    engine_session_truncate(r->session, 0);
    r->n_cached = cached;
    return false;
}

static void start_waiting(struct scheduler *s)
{
    for (int i = 0; s->may_start && i < s->n; i++) {
        if (s->requests[i]->waiting) {
            s->may_start = start(s, s->requests[i], i == 0);
        }
    }
    s->may_start = false;
}

/* The youngest at work gives its pages back and waits. False when the oldest is alone with them. */
static bool set_aside_youngest(struct scheduler *s)
{
    for (int i = s->n - 1; i > 0; i--) {
        struct scheduled *r = s->requests[i];
        if (!r->waiting) {
            scheduler_keep(s, r, false);
            engine_session_truncate(r->session, 0);
            r->waiting = true;
            r->was_set_aside = true;
            s->n_set_aside++;
            return true;
        }
    }
    return false;
}

uint64_t scheduler_limit_kv(struct scheduler *s, uint64_t bytes_max)
{
    const uint64_t page = s->info->kv_page_bytes;
    for (int i = 0; i < s->n; i++) {
        const uint64_t alone =
            page * (uint64_t)((s->requests[i]->n_max + PREFIX_BLOCK - 1) / PREFIX_BLOCK);
        bytes_max = bytes_max > alone ? bytes_max : alone;
    }
    engine_pages_limit(s->model, bytes_max);
    while (engine_pages_used(s->model) > engine_pages_max(s->model) &&
           (prefix_cache_evict(&s->prefixes) || set_aside_youngest(s))) {
    }
    engine_pages_limit(s->model, bytes_max); /* those that came back */
    s->may_start = true;
    return page * engine_pages_max(s->model);
}

/* Alone, the oldest fits; but not beside a page that it stands on in part and has to copy. */
static bool unshare_oldest(struct scheduler *s)
{
    struct scheduled *r = s->requests[0];
    const bool can = !r->whole_blocks && engine_session_length(r->session) % PREFIX_BLOCK != 0;
    if (can) {
        r->whole_blocks = true;
        give_up_tail(r);
    }
    return can;
}

/* --- who gets how many tokens --- */

/* Most tokens of a prompt in one step: few enough that the step is short on this machine. */
static int chunk_tokens(const struct scheduler *s, bool shared)
{
    const int most = shared ? SCHEDULER_CHUNK_TOKENS : ENGINE_EVAL_TOKENS_MAX;
    const int64_t ns = shared ? STEP_NS_SHARED : STEP_NS_ALONE;
    const int least = shared ? CHUNK_TOKENS_MIN_SHARED : CHUNK_TOKENS_MIN;
    const int64_t each = s->ns_per_token[s->ns_per_token[shared] > 0 ? shared : !shared];
    const int64_t fit = each > 0 ? ns / each : least;
    return fit > most ? most : fit < least ? least : (int)fit;
}

/* Where others decode, what they take counts for the prompts: so the whole step is as long as it
 * should be after a few. */
void scheduler_measure(struct scheduler *s, const struct engine_piece *pieces, int n_pieces,
                       int64_t ns)
{
    int n_tokens = 0;
    bool shared = false;
    for (int p = 0; p < n_pieces; p++) {
        n_tokens += pieces[p].n_tokens > 1 ? pieces[p].n_tokens : 0;
        shared = shared || pieces[p].n_tokens == 1;
    }
    if (n_tokens >= MEASURED_TOKENS_MIN) {
        int64_t *each = &s->ns_per_token[shared];
        const int64_t now = ns / n_tokens + 1;
        *each = *each > 0 ? (3 * *each + now) / 4 : now;
    }
}

/* Most tokens of request r in one step. */
static int limit(const struct scheduled *r)
{
    const int missing = scheduler_missing(r);
    const int most = r->sum != NULL ? HIDDEN_TOKENS
                     : scoring(r)   ? SCORE_TOKENS
                                    : ENGINE_EVAL_TOKENS_MAX;
    return missing < most ? missing : most;
}

/* How many tokens both begin with. */
static int common(const struct scheduled *a, const struct scheduled *b)
{
    int i = 0;
    while (i < a->n_tokens && i < b->n_tokens && a->tokens[i] == b->tokens[i]) {
        i++;
    }
    return i;
}

/* Whether an older prompt in this step computes a whole block that r lacks. */
static bool is_computed_for(const struct scheduler *s, int at)
{
    const struct scheduled *r = s->requests[at];
    const int have = engine_session_length(r->session);
    if (!shares(s, r)) {
        return false;
    }
    for (int i = 0; i < at; i++) {
        const struct scheduled *older = s->requests[i];
        const int will_have = engine_session_length(older->session) + older->n_taken;
        if (older->n_taken > 1 && will_have > have &&
            strcmp(older->adapter_key, r->adapter_key) == 0) {
            int same = common(older, r);
            same = same < will_have ? same : will_have;
            same = same < r->n_tokens - 1 ? same : r->n_tokens - 1;
            if (same / PREFIX_BLOCK > have / PREFIX_BLOCK) {
                return true;
            }
        }
    }
    return false;
}

/* Gives r up to `most` tokens of the budget; there is one set of rows for scores and for hidden
 * states. */
static void give(struct scheduler *s, struct scheduled *r, int most, int *budget)
{
    const int n = limit(r) - r->n_taken;
    const int least = n < most ? n : most;
    const bool hidden = r->sum != NULL;
    const bool rows = !hidden && scoring(r);
    if (r->n_taken == 0 && ((hidden && s->hidden_taken) || (rows && s->rows_taken))) {
        return;
    }
    r->n_taken += least < *budget ? least : *budget;
    *budget -= least < *budget ? least : *budget;
    s->hidden_taken = s->hidden_taken || (hidden && r->n_taken > 0);
    s->rows_taken = s->rows_taken || (rows && r->n_taken > 0);
}

/* Decoding requests get one token each; prompts share the rest, and what that leaves goes to the
 * oldest: a short one is not held up by a long one before it, a long one not by many short ones. */
static void share_tokens(struct scheduler *s)
{
    int n_decoding = 0;
    int n_prompts = 0;
    s->rows_taken = false;
    s->hidden_taken = false;
    for (int i = 0; i < s->n; i++) {
        struct scheduled *r = s->requests[i];
        r->n_taken = 0;
        if (!r->waiting && !decoding(r)) {
            take_kept(s, r);
        }
        n_decoding += decoding(r);
        n_prompts += !r->waiting && !decoding(r);
    }
    int budget = ENGINE_EVAL_TOKENS_MAX - n_decoding;
    const int chunk = chunk_tokens(s, n_decoding > 0);
    budget = chunk < budget ? chunk : budget;
    const int even = n_prompts > 0 ? budget / n_prompts : 0;
    const int half = budget > 1 ? budget / 2 : 1; /* one alone never takes all of a short step */
    const int least = half < SHARE_TOKENS_MIN ? half : SHARE_TOKENS_MIN;
    const int share = even > least ? even : least;
    for (int i = 0; i < s->n; i++) {
        struct scheduled *r = s->requests[i];
        int one = 1;
        if (decoding(r)) {
            give(s, r, 1, &one);
        } else if (!r->waiting && is_computed_for(s, i)) {
            give_up_tail(r);
        } else if (!r->waiting) {
            give(s, r, share, &budget);
        }
    }
    for (int i = 0; i < s->n && budget > 0; i++) {
        if (s->requests[i]->n_taken > 1) {
            give(s, s->requests[i], budget, &budget);
        }
    }
}

/* --- the eval --- */

static struct engine_piece make_piece(struct scheduler *s, int at)
{
    struct scheduled *r = s->requests[at];
    const size_t vocab = (size_t)s->info->vocab_size;
    const bool last = r->n_taken == scheduler_missing(r);
    struct engine_piece piece = {.session = r->session,
                                 .adapter = r->adapter,
                                 .tokens = r->tokens + engine_session_length(r->session),
                                 .n_tokens = r->n_taken};
    if (r->sum != NULL) {
        piece.hidden = s->hidden;
        r->n_rows = r->n_taken;
    } else if (scoring(r)) {
        piece.logits = s->rows;
        piece.all_logits = true;
        r->n_rows = r->n_taken;
        r->logits = last ? s->rows + (size_t)(r->n_rows - 1) * vocab : NULL;
    } else {
        r->logits = last ? s->logits + (size_t)at * vocab : NULL;
        piece.logits = r->logits;
    }
    return piece;
}

/* Pages that this step takes are free, whatever has to go for that. False when it cannot be, and
 * the tokens have to be shared again. */
static bool make_pages(struct scheduler *s)
{
    size_t need = 0;
    for (int i = 0; i < s->n; i++) {
        const struct scheduled *r = s->requests[i];
        need += r->n_taken > 0 ? engine_session_pages_needed(r->session, r->n_taken) : 0;
    }
    while (need > pages_free(s)) {
        if (!prefix_cache_evict(&s->prefixes)) {
            return !set_aside_youngest(s) && !unshare_oldest(s);
        }
    }
    return true;
}

int scheduler_plan(struct scheduler *s, struct engine_piece *pieces)
{
    int n = 0;
    start_waiting(s);
    do {
        share_tokens(s);
    } while (!make_pages(s));
    for (int i = 0; i < s->n; i++) {
        s->requests[i]->logits = NULL;
        s->requests[i]->n_rows = 0;
        if (s->requests[i]->n_taken > 0) {
            pieces[n++] = make_piece(s, i);
        }
    }
    return n;
}
