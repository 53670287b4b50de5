/* Rows of a micro-step, checked and laid out one after another; nothing outside is trusted. */
#include <string.h>

#include "engine/native/train_int.h"

static int check_row(const struct engine_trainer *tr, const struct engine_row *row, int index,
                     struct err *err)
{
    if (row->n_tokens < 1) {
        return err_set(err, ERR_INVALID, "row %d has no tokens", index);
    }
    if (row->n_tokens > tr->model->info.context_length) {
        return err_set(err, ERR_INVALID, "row %d has %d tokens, the model's context holds %d",
                       index, row->n_tokens, tr->model->info.context_length);
    }
    if (row->targets[0] != 0) {
        return err_set(err, ERR_INVALID, "row %d: the first token cannot be a target", index);
    }
    for (int i = 0; i < row->n_tokens; i++) {
        if (row->tokens[i] < 0 || row->tokens[i] >= tr->model->info.vocab_size) {
            return err_set(err, ERR_INVALID, "row %d: token %d is outside the vocabulary of %d",
                           index, (int)row->tokens[i], tr->model->info.vocab_size);
        }
    }
    return 0;
}

static void add_tiles(struct train_tile *tiles, size_t *n, size_t start, size_t length, size_t step)
{
    for (size_t first = 0; first < length; first += step) {
        tiles[(*n)++] = (struct train_tile){
            .start = (uint32_t)start,
            .first = (uint32_t)first,
            .n = (uint32_t)(length - first < step ? length - first : step),
            .length = (uint32_t)length,
        };
    }
}

/* Nothing is asked of the last target and what follows it, and no token before looks at them. */
static size_t needed(const struct engine_row *row)
{
    int n = row->n_tokens - 1;
    while (n > 0 && row->targets[n] == 0) {
        n--;
    }
    return (size_t)n;
}

/* The most tokens, of n, with which row `start` begins as an earlier row does; *as is that row. */
static size_t shared_prefix(const struct train_batch *batch, size_t start, size_t n, size_t *as)
{
    size_t most = 0;
    for (size_t r = 0; r < batch->n_rows && most < n; r++) {
        const size_t other = batch->row_start[r];
        const size_t end = r + 1 < batch->n_rows ? batch->row_start[r + 1] : start;
        size_t k = 0;
        while (k < n && other + k < end && batch->token[start + k] == batch->token[other + k]) {
            k++;
        }
        if (k > most) {
            most = k;
            *as = other;
        }
    }
    return most;
}

/* Slots of the row at `start`, of which the first n tokens may be shared. */
static void add_slots(struct train_batch *batch, size_t start, size_t length, size_t n)
{
    size_t as = 0;
    const size_t shared = shared_prefix(batch, start, n, &as);
    for (size_t i = 0; i < shared; i++) {
        batch->slot[start + i] = batch->slot[as + i];
    }
    for (size_t i = shared; i < length; i++) {
        batch->slot[start + i] = (uint32_t)batch->n_slots;
        batch->slot_token[batch->n_slots++] = (uint32_t)(start + i);
    }
}

/* Tokens that predict have slots of their own, and so has every token under dropout, which draws
 * by row. */
static void add_row(struct train_batch *batch, const struct engine_row *row, bool dropping)
{
    const size_t start = batch->n_tokens, length = needed(row), targets_before = batch->n_targets;
    if (length == 0) {
        return;
    }
    for (size_t i = 0; i < length; i++) {
        batch->token[start + i] = row->tokens[i];
        batch->position[start + i] = (uint32_t)i;
        batch->row[start + i] = row->row_in_step;
        if (row->targets[i + 1] != 0) {
            batch->target_at[batch->n_targets] = (uint32_t)(start + i);
            batch->target[batch->n_targets++] = row->tokens[i + 1];
        }
    }
    add_slots(batch, start, length, dropping ? 0 : batch->target_at[targets_before] - start);
    add_tiles(batch->tiles, &batch->n_tiles, start, length, TRAIN_QUERY_TILE);
    add_tiles(batch->key_tiles, &batch->n_key_tiles, start, length, TRAIN_KEY_TILE);
    batch->n_tokens += length;
    batch->longest = length > batch->longest ? length : batch->longest;
    batch->row_start[batch->n_rows++] = (uint32_t)start;
}

int train_batch_set(struct engine_trainer *tr, const struct engine_row *rows, int n_rows,
                    struct err *err)
{
    struct train_batch *batch = &tr->batch;
    batch->n_tokens = batch->n_rows = batch->n_targets = batch->n_slots = 0;
    batch->n_tiles = batch->n_key_tiles = batch->longest = 0;
    for (int i = 0; i < n_rows; i++) {
        int rc = check_row(tr, &rows[i], i, err);
        if (rc != 0) {
            return rc;
        }
        if ((size_t)rows[i].n_tokens > tr->dims.tokens - batch->n_tokens) {
            return err_set(err, ERR_INVALID, "a micro-step of more than %d tokens",
                           tr->plan.tokens_max);
        }
        add_row(batch, &rows[i], tr->dropping);
    }
    return 0;
}

void train_narrow(const struct engine_trainer *tr, float *x, size_t ld)
{
    const struct train_batch *batch = &tr->batch;
    for (size_t i = 0; i < batch->n_targets; i++) {
        if (batch->target_at[i] != i) { /* never before i */
            memcpy(x + i * ld, x + batch->target_at[i] * ld, ld * sizeof(float));
        }
    }
}

void train_widen(const struct engine_trainer *tr, float *x, size_t ld)
{
    const struct train_batch *batch = &tr->batch;
    size_t end = batch->n_tokens;
    for (size_t i = batch->n_targets; i-- > 0;) {
        const size_t token = batch->target_at[i];
        if (token != i) {
            memcpy(x + token * ld, x + i * ld, ld * sizeof(float));
        }
        memset(x + (token + 1) * ld, 0, (end - token - 1) * ld * sizeof(float));
        end = token;
    }
    memset(x, 0, end * ld * sizeof(float));
}

void train_unshare(const struct engine_trainer *tr, float *x, size_t ld)
{
    const struct train_batch *batch = &tr->batch;
    for (size_t token = batch->n_tokens; batch->n_slots < batch->n_tokens && token-- > 0;) {
        if (batch->slot[token] != token) { /* never behind it */
            memcpy(x + token * ld, x + batch->slot[token] * ld, ld * sizeof(float));
        }
    }
}
