/* The inside of infer: what its files share. infer.c is the door, requests.c the lists and how a
 * request goes to a runner, host_frames.c what a runner answers, host.c the life of a runner,
 * ledger.c who holds what of the memory limit.
 *
 * Invariants
 *   1. `lock` guards the lists, counts and states; it is not held over events, spawning or waiting.
 *      Frames are sent under it, so that order on the socket is order in the lists.
 *   2. At most max_sessions requests of a host are sent; the others wait in order.
 *   3. Events of a request come from its host's thread only, which also frees it after the last.
 *   4. What was delivered is kept as token ids; a fresh runner takes them as given and goes on.
 *   5. The ledger counts a host's memory from before its child is started until it has ended; what
 *      it gives back of its keys and values, when the child says that it has. */
#ifndef INFER_HOST_H
#define INFER_HOST_H

#include <pthread.h>

#include "base/frame.h"
#include "base/proc.h"
#include "infer/infer.h"
#include "text/tokenizer.h"

enum {
    HOSTS_MAX = 64,
    TICK_MS = 500, /* how often a quiet host looks at its idle time */
    SEND_TIMEOUT_MS = 10000,
    QUIT_TIMEOUT_MS = 10000,
    CRASHES_MAX = 2, /* a request present at so many is given up */
    REQUEST_BYTES_MAX = 32 << 20,
    SENT_TOKENS_MAX = 1 << 20
};

enum host_state { HOST_STARTING, HOST_READY, HOST_CLOSING };

struct host;

struct infer_request {
    struct infer_request *next;
    struct host *host;
    uint32_t number;
    bool is_text;  /* somebody waits for `done` below; there are no events */
    bool is_embed; /* … and it goes to the model all the same */
    bool cancelled;
    bool on_runner;    /* sent to the child that is running now */
    bool accepted;     /* its client knows */
    bool end_told;     /* the end token's score was delivered */
    int n_prompt_told; /* tokens of the prompt whose scores were */
    int crashes;
    char *body; /* members of the frame's object, without braces */
    uint64_t seed;
    struct token_ids sent;
    struct infer_events events;
    void *ctx;
    int64_t submitted_ns, first_ns;
    int64_t load_ns; /* it waited so long for its base to be opened */
    /* text operations: the caller waits for done */
    bool done;
    struct buf *result;
    struct err *err;
    int rc;
    int prompt_tokens;
};

struct request_list {
    struct infer_request *first, *last;
    int n;
};

struct host {
    struct infer *infer;
    char base_id[512];
    char base_key[INFER_KEY_BYTES];
    char *base_path;
    enum host_state state;
    bool have_child;
    struct proc proc;
    struct frame_conn conn;
    uint64_t memory_bytes;
    uint64_t kv_bytes;     /* of that, for keys and values; 0 = as the runner thinks right */
    uint64_t kv_least;     /* of one session of full length: never less */
    uint64_t kv_asked;     /* what the child was told last: below kv_bytes while it gives back */
    uint64_t prefix_bytes; /* of its pages, those kept for prompts that begin alike */
    int64_t loaded_at_us, last_used_us, idle_since_ns;
    int64_t keep_alive_ms; /* as the last request that said so wants; -1 = for ever */
    char engine[16];
    int numerics_version;
    struct request_list sent, waiting;
};

struct infer {
    struct settings settings;
    char *program;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a text operation is done, or a host is gone */
    struct host *hosts[HOSTS_MAX];
    int n_hosts;
    int n_requests;
    int n_reserved; /* places that are kept for requests to come */
    uint32_t next_number;
    uint64_t memory_bytes_max;
    uint64_t held_bytes;    /* of the limit, by the job that holder names */
    uint64_t awaited_bytes; /* by models that wait for others to make room */
    char holder[INFER_ID_BYTES];
    bool insisted; /* nothing new begins until the job has its memory */
    void (*on_short)(void *ctx);
    void *on_short_ctx;
    bool closing;
};

/* --- requests.c; under lock but for the last two --- */
void requests_push(struct request_list *list, struct infer_request *r);
struct infer_request *requests_take(struct request_list *list, uint32_t number);
struct infer_request *requests_find(const struct request_list *list, uint32_t number);
void host_send_cancel(struct host *h, uint32_t number);
/* Sends waiting requests while there is room. A request that cannot be sent stays in `sent`: the
 * connection is broken, and the reader is about to find out. */
void host_pump(struct host *h);
void infer_request_free(struct infer_request *r);
/* The last event of a request that has left its host's lists. */
void infer_request_fail(struct infer *infer, struct infer_request *r, const struct err *err);

/* --- host_frames.c, on the host's thread --- */
void host_take_frame(struct host *h, uint8_t type, const struct buf *payload);
/* What a frame 'x' says. */
void host_frame_error(const json_t *frame, struct err *err);

/* --- host.c, under lock --- */
/* The host of spec's base: one that lives, or a new one, for which idle ones may have to go; the
 * lock is given up while waiting for that. */
int host_find(struct infer *infer, const struct infer_spec *spec, struct host **out,
              struct err *err) MUST_CHECK;

/* --- ledger.c, under lock --- */
/* 0 when a host of `bytes` fits. 1 after idle ones were asked to end and something changed, or the
 * job was asked about (once: `asked` is the caller's, false at first): the lock was given up, so
 * look at everything again. ERR_UNAVAILABLE with both numbers, and nobody is ended, when that would
 * not be enough; ERR_UNPROCESSABLE when it never would be. */
int ledger_make_room(struct infer *infer, uint64_t bytes, bool *asked, struct err *err) MUST_CHECK;
/* Lets a host have more keys and values where the limit leaves enough. */
void ledger_grow(struct host *h);
/* The child keeps to kv_asked now. */
void ledger_took_back(struct host *h);
/* ERR_UNAVAILABLE while a job insists on memory that models at work hold. */
int ledger_check_new(const struct infer *infer, struct err *err) MUST_CHECK;
/* Tells a child whose host is closing to end when it is idle. */
void host_wake(struct host *h);
uint64_t infer_memory_used(const struct infer *infer); /* by hosts */

#endif
