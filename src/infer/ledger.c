/* The memory limit and who holds what of it: hosts, and one job of the hub's worker.
 *
 *   used = memory of all hosts, those that close too (invariant 5 of host.h) + what the job holds
 *
 * Keys and values of one full session are part of what a model needs. Beyond that a host takes what
 * its sessions and kept prefixes can use, up to a quarter of what the limit leaves; when somebody
 * else needs it, that is given back first. So "busy" below counts what busy hosts cannot give back.
 *
 * A host is idle when it is ready and has no request. Idle hosts are ended, the longest unused
 * first, for a model or a job that fits once they are gone, and are left alone when even that would
 * not be enough: nobody is sent away in vain. Busy ones are waited for, until the job's patience
 * ends: then it insists, nothing new begins, and what has begun is the last that it waits for. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "infer/host.h"
#include "telemetry/metrics.h"

#define GB 1073741824.0 /* as MLX_MEMORY_LIMIT_GB counts */

static bool is_idle(const struct host *h)
{
    return h->state == HOST_READY && h->sent.n == 0 && h->waiting.n == 0;
}

uint64_t infer_memory_used(const struct infer *infer)
{
    uint64_t used = 0;
    for (int i = 0; i < infer->n_hosts; i++) {
        used += infer->hosts[i]->memory_bytes;
    }
    return used;
}

/* What it holds when it has given back what it can, and what it will hold when it has given back
 * what it was asked for. */
static uint64_t least_bytes(const struct host *h)
{
    return h->memory_bytes - (h->kv_bytes - h->kv_least);
}

static uint64_t asked_bytes(const struct host *h)
{
    return h->memory_bytes - (h->kv_bytes - h->kv_asked);
}

/* Of the hosts that neither close nor could be asked to. */
static uint64_t busy_bytes(const struct infer *infer, int *n)
{
    uint64_t bytes = 0;
    *n = 0;
    for (int i = 0; i < infer->n_hosts; i++) {
        const struct host *h = infer->hosts[i];
        if (h->state != HOST_CLOSING && !is_idle(h)) {
            bytes += least_bytes(h);
            ++*n;
        }
    }
    return bytes;
}

/* Of the hosts that do not close. */
static uint64_t staying_bytes(const struct infer *infer, int *n)
{
    uint64_t bytes = 0;
    *n = 0;
    for (int i = 0; i < infer->n_hosts; i++) {
        const struct host *h = infer->hosts[i];
        if (h->state != HOST_CLOSING) {
            bytes += least_bytes(h);
            ++*n;
        }
    }
    return bytes;
}

/* The idle host that was used longest ago, or NULL. */
static struct host *idlest(const struct infer *infer)
{
    struct host *best = NULL;
    for (int i = 0; i < infer->n_hosts; i++) {
        struct host *h = infer->hosts[i];
        if (is_idle(h) && (best == NULL || h->last_used_us < best->last_used_us)) {
            best = h;
        }
    }
    return best;
}

void host_wake(struct host *h)
{
    struct err err = {0};
    if (frame_send(&h->conn, 'Q', "", 0, SEND_TIMEOUT_MS, &err) != 0) {
        log_event(LOG_DEBUG, "infer", "quit_unsent", "error=\"%s\"", err.message);
    }
}

/* Asks idle hosts to end until those that stay leave room for `bytes` and for `slots` more hosts.
 */
static void evict(struct infer *infer, uint64_t bytes, int slots)
{
    for (;;) {
        int n = 0;
        const uint64_t staying = staying_bytes(infer, &n);
        struct host *victim = idlest(infer);
        if (victim == NULL || (staying + bytes <= infer->memory_bytes_max &&
                               n + slots <= infer->settings.max_models)) {
            return;
        }
        victim->state = HOST_CLOSING;
        host_wake(victim);
        metric_add(metric_get(METRIC_MODEL_CACHE_EVICTIONS), 1);
        log_event(LOG_INFO, "infer", "evicted", "model=\"%s\" bytes=%" PRIu64, victim->base_id,
                  victim->memory_bytes);
    }
}

/* --- keys and values --- */

enum { SHARE = 4 /* of what the limit leaves, a host takes one in so many */ };

/* A child that cannot be told is given up: its host's thread opens another with what was asked. */
static void send_limit(struct host *h)
{
    struct buf buf;
    struct err err = {0};
    buf_init(&buf, 64);
    buf_printf(&buf, "{\"kv_bytes\":%" PRIu64 "}", h->kv_asked);
    if (frame_send(&h->conn, 'K', buf.data, buf.len, SEND_TIMEOUT_MS, &err) != 0) {
        log_event(LOG_WARNING, "infer", "limit_unsent", "error=\"%s\"", err.message);
        frame_shutdown(&h->conn);
    }
    buf_release(&buf);
}

/* What its sessions can use and the limit leaves. */
static uint64_t kv_share(const struct infer *infer, const struct host *h)
{
    const uint64_t most = h->kv_least * (uint64_t)infer->settings.max_sessions +
                          ((uint64_t)infer->settings.prefix_cache_mb << 20);
    const uint64_t others = infer_memory_used(infer) - (h->kv_bytes - h->kv_least) +
                            infer->held_bytes + infer->awaited_bytes;
    const uint64_t left = others < infer->memory_bytes_max ? infer->memory_bytes_max - others : 0;
    return h->kv_least + left / SHARE < most ? h->kv_least + left / SHARE : most;
}

void ledger_grow(struct host *h)
{
    if (h->kv_least == 0 || h->kv_asked < h->kv_bytes || h->state == HOST_CLOSING) {
        return;
    }
    const uint64_t share = kv_share(h->infer, h);
    if (share < h->kv_bytes + h->kv_least / SHARE) {
        return;
    }
    h->memory_bytes += share - h->kv_bytes;
    h->kv_bytes = share;
    h->kv_asked = share;
    if (h->state == HOST_READY) {
        send_limit(h);
    }
}

void ledger_took_back(struct host *h)
{
    if (h->kv_asked < h->kv_bytes) {
        h->memory_bytes = asked_bytes(h);
        h->kv_bytes = h->kv_asked;
        pthread_cond_broadcast(&h->infer->changed);
    }
}

/* Asks for keys and values until what stays leaves room for `bytes`. */
static void take_back(struct infer *infer, uint64_t bytes)
{
    uint64_t all = bytes;
    for (int i = 0; i < infer->n_hosts; i++) {
        all += infer->hosts[i]->state != HOST_CLOSING ? asked_bytes(infer->hosts[i]) : 0;
    }
    for (int i = 0; i < infer->n_hosts && all > infer->memory_bytes_max; i++) {
        struct host *h = infer->hosts[i];
        const uint64_t spare = h->kv_asked - h->kv_least;
        const uint64_t short_of = all - infer->memory_bytes_max;
        if (h->state == HOST_READY && spare > 0) {
            const uint64_t back = spare < short_of ? spare : short_of;
            h->kv_asked -= back;
            all -= back;
            send_limit(h);
        }
    }
}

/* --- for a model --- */

static int refuse(const struct infer *infer, uint64_t bytes, uint64_t busy, int n, struct err *err)
{
    char job[96] = "";
    if (infer->held_bytes > 0) {
        (void)snprintf(job, sizeof job, ", %.2f GB by a running job",
                       (double)infer->held_bytes / GB);
    }
    return err_set(err, ERR_UNAVAILABLE,
                   "the model needs %.2f GB; %.2f of %.2f GB are in use by %d busy models (at most "
                   "%d)%s",
                   (double)bytes / GB, (double)busy / GB, (double)infer->memory_bytes_max / GB, n,
                   infer->settings.max_models, job);
}

/* The job may have ended without anybody having said so yet. Gives the lock up. */
static void recheck(struct infer *infer)
{
    void (*ask)(void *) = infer->on_short;
    void *ctx = infer->on_short_ctx;
    if (ask == NULL || infer->held_bytes == 0) {
        return;
    }
    pthread_mutex_unlock(&infer->lock);
    ask(ctx);
    pthread_mutex_lock(&infer->lock);
}

int ledger_make_room(struct infer *infer, uint64_t bytes, bool *asked, struct err *err)
{
    if (bytes > infer->memory_bytes_max) {
        return err_set(err, ERR_UNPROCESSABLE,
                       "the model needs %.2f GB and the memory limit is %.2f GB: raise "
                       "MLX_MEMORY_LIMIT_GB",
                       (double)bytes / GB, (double)infer->memory_bytes_max / GB);
    }
    if (infer->n_hosts < infer->settings.max_models &&
        infer_memory_used(infer) + infer->held_bytes + bytes <= infer->memory_bytes_max) {
        return 0;
    }
    int n = 0;
    const uint64_t busy = busy_bytes(infer, &n);
    const bool fits = n < infer->settings.max_models &&
                      busy + infer->held_bytes + bytes <= infer->memory_bytes_max;
    if (!fits && *asked) {
        return refuse(infer, bytes, busy, n, err);
    }
    if (!fits) {
        *asked = true;
        recheck(infer);
        return 1;
    }
    evict(infer, infer->held_bytes + bytes, 1);
    take_back(infer, infer->held_bytes + bytes);
    infer->awaited_bytes += bytes;
    pthread_cond_wait(&infer->changed, &infer->lock);
    infer->awaited_bytes -= bytes;
    return 1;
}

int ledger_check_new(const struct infer *infer, struct err *err)
{
    return infer->insisted
               ? err_set(err, ERR_UNAVAILABLE,
                         "a job has waited long enough for the memory of the loaded models: they "
                         "end what they have begun and take no new requests until it has started")
               : 0;
}

/* --- for a job --- */

static void look(const struct infer *infer, struct infer_memory *memory)
{
    memory->bytes_max = infer->memory_bytes_max;
    memory->models = infer_memory_used(infer);
    memory->busy = busy_bytes(infer, &memory->n_busy);
    memory->held = infer->held_bytes;
    memory->insisted = infer->insisted;
}

void infer_memory(struct infer *infer, struct infer_memory *memory)
{
    pthread_mutex_lock(&infer->lock);
    look(infer, memory);
    pthread_mutex_unlock(&infer->lock);
}

bool infer_reserve(struct infer *infer, const char *holder, uint64_t bytes, bool insist,
                   struct infer_memory *memory)
{
    pthread_mutex_lock(&infer->lock);
    look(infer, memory);
    const bool fits = bytes <= memory->bytes_max && memory->busy <= memory->bytes_max - bytes;
    if (fits) {
        evict(infer, bytes, 0);
        take_back(infer, bytes);
    }
    (void)snprintf(infer->holder, sizeof infer->holder, "%s", holder);
    infer->held_bytes = fits ? bytes : 0;
    infer->insisted = !fits && insist && bytes <= memory->bytes_max;
    if (infer->insisted) {
        pthread_cond_broadcast(&infer->changed); /* who waits for room is refused */
    }
    memory->held = infer->held_bytes;
    memory->insisted = infer->insisted;
    const bool free_now = fits && infer_memory_used(infer) <= infer->memory_bytes_max - bytes;
    pthread_mutex_unlock(&infer->lock);
    return free_now;
}

void infer_hold(struct infer *infer, const char *holder, uint64_t bytes)
{
    pthread_mutex_lock(&infer->lock);
    (void)snprintf(infer->holder, sizeof infer->holder, "%s", holder);
    infer->held_bytes = bytes;
    infer->insisted = false;
    take_back(infer, bytes);
    pthread_mutex_unlock(&infer->lock);
}

bool infer_holder(struct infer *infer, char holder[INFER_ID_BYTES])
{
    pthread_mutex_lock(&infer->lock);
    const bool held = infer->held_bytes > 0;
    (void)snprintf(holder, INFER_ID_BYTES, "%s", infer->holder);
    pthread_mutex_unlock(&infer->lock);
    return held;
}

void infer_give_back(struct infer *infer, const char *holder)
{
    pthread_mutex_lock(&infer->lock);
    if (holder == NULL || strcmp(infer->holder, holder) == 0) {
        infer->held_bytes = 0;
        infer->insisted = false;
    }
    pthread_mutex_unlock(&infer->lock);
}

void infer_on_short(struct infer *infer, void (*ask)(void *ctx), void *ctx)
{
    pthread_mutex_lock(&infer->lock);
    infer->on_short = ask;
    infer->on_short_ctx = ctx;
    pthread_mutex_unlock(&infer->lock);
}
