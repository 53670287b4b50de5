/* Checkpoints: all that later bytes depend on, as a folder per step.
 *
 *   <dir>/step-0000000120/  adapter.safetensors   the factors, as mlx-lm names them
 *                           moments.safetensors   "m" and "v" of AdamW; "best": the factors of the
 *                                                 best validation loss, where those are to be
 *                                                 published
 *                           state.json            struct train_state, and what run it belongs to
 *                           checksum.sha256       written last
 *   <dir>/.writing/         one that is being written; removed before the next
 *
 * A checkpoint is published by one rename and never changed. The newest valid one of this run is
 * resumed from; one that is damaged, or of another run (base, dataset, config or numerics differ),
 * is passed over and named. One thread at a time per folder.
 */
#ifndef TRAIN_CHECKPOINT_H
#define TRAIN_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"
#include "engine/engine.h"
#include "train/adamw.h"
#include "train/rows.h"

enum { CHECKPOINT_STATE_BYTES_MAX = 1 << 16 };

struct train_state {
    int64_t step;       /* optimizer steps done */
    int64_t epoch, row; /* where the next step begins: whole epochs, rows into the next */
    bool evaluate;      /* the evaluation due after this step is still to be made */
    int64_t stale;      /* evaluations since the best one */
    int64_t best_step;  /* 0: none yet */
    double first_loss, loss, val_loss, best_val_loss; /* NaN: none yet */
    double first_val_loss;                            /* before the first step; NaN: none */
    char date[TRAIN_DATE_BYTES];                      /* pinned for the templates */
};

/* What is saved, in place. best NULL: the last factors will be published. */
struct checkpoint_parts {
    struct engine_adapter *adapter;
    struct adamw *adamw;
    float *best; /* adamw->n values in the adapter's order */
};

/* `run` is a digest of what makes a run: a checkpoint is only resumed by the same. */
int checkpoint_write(const char *dir, const struct train_state *state,
                     const struct checkpoint_parts *parts, const char *run,
                     struct err *err) MUST_CHECK;
/* Removes all but the newest `kept` up to `step`, the one just written: what is said to be of later
 * steps is of another run. What cannot be removed stays. */
void checkpoint_prune(const char *dir, int64_t step, int64_t kept);

/* The newest valid one: its folder in path ("" when there is none) and its state. run NULL: of any
 * run. note (or NULL) is told of every one that is passed over. */
int checkpoint_find(const char *dir, const char *run, char path[FS_PATH_BYTES_MAX],
                    struct train_state *state, void (*note)(void *ctx, const char *line), void *ctx,
                    struct err *err) MUST_CHECK;
/* Fills the parts from a folder that checkpoint_find has found. ERR_CORRUPT when shapes differ. */
int checkpoint_read(const char *path, struct engine_model *model, float scale,
                    const struct checkpoint_parts *parts, struct err *err) MUST_CHECK;

#endif
