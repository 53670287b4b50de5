/* What the tests of whole runs share: the tiny base, dataset and first factors that
 * scripts/golden/train_run.py made, and a folder to run in. */
#ifndef TESTS_TRAIN_RUN_FIXTURE_H
#define TESTS_TRAIN_RUN_FIXTURE_H

#include <math.h>

#include "base/hash.h"
#include "base/json.h"
#include "formats/train_config.h"
#include "test.h"
#include "train/train.h"

#define FIXTURE_BASE    "tests/fixtures/train/base"
#define FIXTURE_DATASET "tests/fixtures/train/dataset.jsonl"
#define FIXTURE_INIT    "tests/fixtures/train/init.safetensors"

/* The config of the golden run; `more` adds keys or is "". */
#define FIXTURE_CONFIG(more)                                                                       \
    "{\"lora_rank\":4,\"lora_alpha\":8,\"learning_rate\":0.005,\"weight_decay\":0.05,"             \
    "\"warmup_steps\":3,\"max_grad_norm\":0.5,\"max_steps\":10,\"batch_size\":2,"                  \
    "\"gradient_accumulation_steps\":2,\"max_seq_length\":96,\"seed\":7" more "}"
#define FIXTURE_GOLDEN ",\"val_fraction\":0"

enum { FIXTURE_STEPS = 10, FIXTURE_NOTES_BYTES = 8192 };

/* One run: its spec, what it was told, and when it is to stop. */
struct run_fixture {
    char dir[FS_PATH_BYTES_MAX];
    char checkpoints[FS_PATH_BYTES_MAX], output[FS_PATH_BYTES_MAX];
    struct train_config config;
    struct train_spec spec;
    struct train_hooks hooks;
    struct train_result result;

    struct train_progress seen[64]; /* by report */
    int n_seen;
    int checkpoints_told;
    char notes[FIXTURE_NOTES_BYTES];
    size_t used_at_first, used_at_most; /* mem_used at the reports */
    int polls;
    int stop_at_poll; /* 0 = never */
    enum train_stop stop;
};

static inline void fixture_progress(void *ctx, const struct train_progress *progress, bool log)
{
    struct run_fixture *f = ctx;
    const size_t used = mem_used();
    (void)log;
    f->used_at_first = f->n_seen == 0 ? used : f->used_at_first;
    f->used_at_most = used > f->used_at_most ? used : f->used_at_most;
    if (f->n_seen < 64) {
        f->seen[f->n_seen++] = *progress;
    }
}

static inline void fixture_note(void *ctx, const char *line)
{
    struct run_fixture *f = ctx;
    const size_t used = strlen(f->notes);
    snprintf(f->notes + used, sizeof f->notes - used, "%s\n", line);
}

static inline void fixture_checkpoint(void *ctx, int64_t step)
{
    struct run_fixture *f = ctx;
    (void)step;
    f->checkpoints_told++;
}

static inline enum train_stop fixture_poll(void *ctx)
{
    struct run_fixture *f = ctx;
    return ++f->polls == f->stop_at_poll ? f->stop : TRAIN_GO_ON;
}

/* A run in a new folder, or in `dir`. */
static inline void fixture_in(struct run_fixture *f, const char *dir, const char *config)
{
    struct err err = {0};
    memset(f, 0, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "%s", dir);
    assert_ok(fs_join(f->checkpoints, f->dir, "checkpoints", &err), &err);
    assert_ok(fs_join(f->output, f->dir, "versions/1.0.0", &err), &err);
    json_t *keys = json_parse(config, strlen(config), &err);
    assert_ok(train_config_parse(&f->config, keys, &err), &err);
    json_decref(keys);
    f->spec = (struct train_spec){.base_id = "tiny",
                                  .base_path = FIXTURE_BASE,
                                  .dataset_path = FIXTURE_DATASET,
                                  .config = &f->config,
                                  .checkpoint_dir = f->checkpoints,
                                  .output_dir = f->output,
                                  .model_name = "harbour",
                                  .version = "1.0.0",
                                  .date = "2026-01-31",
                                  .source_revision = "none",
                                  .threads = 1,
                                  .isa = "best"};
    f->hooks = (struct train_hooks){.ctx = f,
                                    .progress = fixture_progress,
                                    .checkpoint = fixture_checkpoint,
                                    .note = fixture_note,
                                    .poll = fixture_poll};
}

static inline void fixture_new(struct run_fixture *f, const char *config)
{
    char dir[FS_PATH_BYTES_MAX];
    fixture_in(f, test_dir_make(dir), config);
}

static inline void fixture_run(struct run_fixture *f)
{
    struct err err = {0};
    f->n_seen = 0;
    assert_ok(train_run(&f->spec, &f->hooks, &f->result, &err), &err);
}

/* Runs of which hundreds are made write to memory where the system has a folder for that: what a
 * killed process has written is there either way, and a disk's flushes would take minutes. */
static inline void fixture_in_memory(void)
{
    if (getenv("TMPDIR") == NULL && fs_is_dir("/dev/shm")) {
        setenv("TMPDIR", "/dev/shm", 1);
    }
}

static inline void fixture_free(struct run_fixture *f)
{
    test_dir_remove(f->dir);
}

/* How often an undisturbed run with this config asks whether it shall go on. */
static inline int fixture_polls(const char *config)
{
    struct run_fixture f;
    fixture_new(&f, config);
    fixture_run(&f);
    fixture_free(&f);
    return f.polls;
}

/* The checksum of an undisturbed run with this config. */
static inline void fixture_checksum(const char *config, char out[SHA256_HEX_BYTES])
{
    struct run_fixture f;
    fixture_new(&f, config);
    fixture_run(&f);
    memcpy(out, f.result.checksum, SHA256_HEX_BYTES);
    fixture_free(&f);
}

static inline json_t *fixture_json(const char *name)
{
    struct err err = {0};
    char path[256];
    snprintf(path, sizeof path, "tests/fixtures/train/%s", name);
    json_t *json = json_parse_file(path, 1 << 20, &err);
    if (json == NULL) {
        fail_msg("%s: %s", path, err.message);
    }
    return json;
}

#endif
