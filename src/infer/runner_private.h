/* The runner's inside: what its files share. runner.c is the process and its threads, runner_job.c
 * one request from its frame to its last event, runner_text.c text without generation.
 */
#ifndef INFER_RUNNER_PRIVATE_H
#define INFER_RUNNER_PRIVATE_H

#include <pthread.h>

#include "base/frame.h"
#include "base/fs.h"
#include "engine/engine.h"
#include "infer/infer.h"
#include "infer/prefix_cache.h"
#include "infer/prompt.h"
#include "infer/scheduler.h"

enum {
    QUEUE_MAX = 256,
    ADAPTERS_MAX = SCHEDULER_SESSIONS_MAX, /* one for each request, so there is always a place */
    ADAPTERS_KEPT = 16,                    /* loaded beyond those that are in use */
    SEND_TIMEOUT_MS = 60000,
    ANSWER_BYTES_MAX = 32 << 20
};

struct adapter_slot {
    char key[INFER_KEY_BYTES];
    float scale;
    struct engine_adapter *adapter;
    int users;
    int64_t last_used;
};

struct runner;

/* One request. */
struct job {
    struct runner *runner;
    struct job *next; /* of those inside the scheduler */
    uint32_t number;
    struct token_ids prompt;
    struct token_ids sent;
    struct infer_sampling sampling;
    uint32_t choice;
    bool score_prompt, embed, tell_prompt, cold;
    const struct tool_format *tool_format; /* NULL: no tools */
    struct grammar *grammar;               /* or NULL */
    bool has_adapter;
    char adapter_key[INFER_KEY_BYTES];
    char *adapter_path;
    float adapter_scale;
    struct adapter_slot *slot;
    struct scheduled *scheduled;
    int64_t received_ns, added_ns, first_ns;
};

enum command_kind { COMMAND_JOB, COMMAND_CANCEL, COMMAND_LIMIT, COMMAND_QUIT };

struct command {
    enum command_kind kind;
    uint32_t number;
    struct job *job;
    uint64_t kv_bytes; /* of COMMAND_LIMIT */
};

struct runner {
    struct frame_conn conn;
    struct engine_model *model;
    struct prompter prompter;
    struct grammar_vocab *vocab; /* the reader's, made for the first grammar */
    struct scheduler *scheduler;
    char prefix_file[FS_PATH_BYTES_MAX]; /* "" = kept pages end with the process */
    char base_key[INFER_KEY_BYTES];
    struct job *jobs;
    struct adapter_slot adapters[ADAPTERS_MAX];

    pthread_mutex_t lock;
    pthread_cond_t changed; /* something was put into or taken from the queue */
    struct command queue[QUEUE_MAX];
    size_t queue_begin, queue_n;
};

/* --- runner.c, any thread --- */
/* A frame that cannot be sent is logged: the hub is gone, or about to find out. */
void runner_send(struct runner *r, uint8_t type, struct buf *buf);
/* number NULL: the runner itself. */
void runner_send_failed(struct runner *r, const uint32_t *number, const struct err *cause);
/* Waits while the queue is full. */
void runner_put(struct runner *r, struct command command);

/* --- runner_job.c --- */
/* The reader's: a request's frame becomes a job in the queue, or its failure. */
void runner_take_job(struct runner *r, const json_t *request, uint32_t number);
/* The model thread's. A cancelled job is answered also when it was never seen: the hub may be
 * holding it back and waits for this. */
void runner_begin_job(struct runner *r, struct job *job);
void runner_cancel_job(struct runner *r, uint32_t number);

/* --- runner_text.c, the reader's --- */
void runner_answer_text(struct runner *r, const json_t *request, uint32_t number);

#endif
