/* The door: requests come in here, find their host, and wait in its list.
 *
 *   request: waiting ─▶ sent ─▶ accepted ─▶ tokens ─▶ last event ─▶ freed
 */
#include "infer/infer.h"

#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "infer/host.h"
#include "infer/spec_json.h"

enum { CLIENT_ASKED_NS = 50000000 /* whether it is still there */ };

/* --- the door --- */

int infer_new(struct infer **out, const struct settings *settings, const char *program,
              struct err *err)
{
    struct infer *infer = mem_calloc(1, sizeof *infer);
    if (infer == NULL) {
        return mem_err(err, sizeof *infer);
    }
    infer->settings = *settings;
    infer->program = program != NULL ? mem_strdup(program) : NULL;
    if (program != NULL && infer->program == NULL) {
        mem_free(infer);
        return mem_err(err, strlen(program));
    }
    infer->memory_bytes_max = (uint64_t)(settings->memory_limit_gb * 1073741824.0);
    infer->next_number = 1;
    pthread_mutex_init(&infer->lock, NULL);
    pthread_cond_init(&infer->changed, NULL);
    *out = infer;
    return 0;
}

void infer_free(struct infer *infer, int drain_ms)
{
    if (infer == NULL) {
        return;
    }
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += drain_ms / 1000;
    deadline.tv_nsec += (long)(drain_ms % 1000) * 1000000;
    deadline.tv_sec += deadline.tv_nsec / 1000000000;
    deadline.tv_nsec %= 1000000000;
    pthread_mutex_lock(&infer->lock);
    infer->closing = true;
    int timed_out = 0;
    while (infer->n_hosts > 0 && !timed_out) {
        timed_out = pthread_cond_timedwait(&infer->changed, &infer->lock, &deadline) != 0;
    }
    for (int i = 0; i < infer->n_hosts; i++) {
        struct host *h = infer->hosts[i];
        h->state = HOST_CLOSING;
        for (struct infer_request *r = h->sent.first; r != NULL; r = r->next) {
            r->crashes = CRASHES_MAX; /* no replay: the hub is going */
        }
        if (h->have_child) {
            proc_kill(&h->proc, SIGKILL);
        }
    }
    while (infer->n_hosts > 0) {
        pthread_cond_wait(&infer->changed, &infer->lock);
    }
    pthread_mutex_unlock(&infer->lock);
    pthread_cond_destroy(&infer->changed);
    pthread_mutex_destroy(&infer->lock);
    mem_free(infer->program);
    mem_free(infer);
}

/* Whether n more fit; under the lock. */
static int check_room(const struct infer *infer, int n, struct err *err)
{
    const int most = infer->settings.max_queue + infer->settings.max_sessions;
    if (n > most) {
        return err_set(err, ERR_INVALID,
                       "%d answers are asked for at once; %d run and %d wait at most", n,
                       infer->settings.max_sessions, infer->settings.max_queue);
    }
    return infer->n_requests + infer->n_reserved + n <= most
               ? 0
               : err_set(err, ERR_BUSY, "%d requests are waiting or running; the queue holds %d",
                         infer->n_requests, infer->settings.max_queue);
}

int infer_keep_places(struct infer *infer, int n, struct infer_places *places, struct err *err)
{
    pthread_mutex_lock(&infer->lock);
    const int rc = check_room(infer, n, err);
    if (rc == 0) {
        places->left = n;
        infer->n_reserved += n;
    }
    pthread_mutex_unlock(&infer->lock);
    return rc;
}

void infer_release_places(struct infer *infer, struct infer_places *places)
{
    pthread_mutex_lock(&infer->lock);
    infer->n_reserved -= places->left;
    places->left = 0;
    pthread_mutex_unlock(&infer->lock);
}

/* Puts a request on its base's host; places is NULL when none was kept for it. */
static int enqueue(struct infer *infer, struct infer_places *places, const struct infer_spec *spec,
                   struct infer_request *r, struct err *err)
{
    struct host *h = NULL;
    pthread_mutex_lock(&infer->lock);
    int rc = 0;
    if (places != NULL && places->left > 0) {
        places->left--;
        infer->n_reserved--;
    } else {
        rc = check_room(infer, 1, err);
    }
    if (rc == 0 && infer->closing) {
        rc = err_set(err, ERR_UNAVAILABLE, "the hub is shutting down");
    } else if (rc == 0) {
        rc = host_find(infer, spec, &h, err);
    }
    if (rc == 0) {
        r->number = infer->next_number++;
        r->host = h;
        r->submitted_ns = clock_monotonic_ns();
        infer->n_requests++;
        if (spec->has_keep_alive) {
            h->keep_alive_ms = spec->keep_alive_ms;
        }
        requests_push(&h->waiting, r);
        host_pump(h);
    }
    pthread_mutex_unlock(&infer->lock);
    return rc;
}

/* The request's members as they go to the runner. */
static int write_body(struct infer_request *r, const struct infer_spec *spec, struct err *err)
{
    struct buf buf;
    struct json_out out;
    buf_init(&buf, REQUEST_BYTES_MAX);
    json_out_init(&out, &buf);
    json_out_object(&out);
    spec_write(&out, spec);
    json_out_object_end(&out);
    const int rc = buf_check(&buf, "the request", err);
    if (rc == 0) {
        buf.data[buf.len - 1] = '\0'; /* the members alone: braces come with the number */
        r->body = mem_strdup(buf.data + 1);
    }
    buf_release(&buf);
    return rc != 0 ? rc : r->body != NULL ? 0 : mem_err(err, 0);
}

int infer_submit(struct infer *infer, const struct infer_spec *spec,
                 const struct infer_events *events, void *ctx, struct infer_request **request,
                 struct err *err)
{
    return infer_submit_reserved(infer, NULL, spec, events, ctx, request, err);
}

int infer_submit_reserved(struct infer *infer, struct infer_places *places,
                          const struct infer_spec *given, const struct infer_events *events,
                          void *ctx, struct infer_request **out, struct err *err)
{
    struct infer_spec spec = *given;
    int rc = infer_sampling_check(&spec.sampling, err);
    if (rc != 0) {
        return rc;
    }
    if (!spec.sampling.has_seed && rng_os_bytes(&spec.sampling.seed, sizeof spec.sampling.seed)) {
        return err_set(err, ERR_IO, "no random seed is to be had");
    }
    if (!spec.sampling.has_seed) {
        spec.sampling.seed &= INT64_MAX; /* a seed that every client can send back */
    }
    struct infer_request *r = mem_calloc(1, sizeof *r);
    if (r == NULL) {
        return mem_err(err, sizeof *r);
    }
    token_ids_init(&r->sent, SENT_TOKENS_MAX);
    r->events = *events;
    r->ctx = ctx;
    r->seed = spec.sampling.seed;
    *out = r; /* before the first event can come */
    rc = write_body(r, &spec, err);
    if (rc == 0) {
        rc = enqueue(infer, places, &spec, r, err);
    }
    if (rc != 0) {
        *out = NULL;
        infer_request_free(r);
    }
    return rc;
}

static void cancel(struct infer_request *r)
{
    r->cancelled = true;
    if (r->host->state == HOST_READY) {
        host_send_cancel(r->host, r->number);
    }
}

void infer_cancel(struct infer_request *r)
{
    struct infer *infer = r->host->infer;
    pthread_mutex_lock(&infer->lock);
    cancel(r);
    pthread_mutex_unlock(&infer->lock);
}

/* op and arguments become members of the frame; values of `arguments` must not be named r or op. */
static int write_text_body(struct infer_request *r, enum infer_text_op op,
                           const struct infer_spec *spec, const json_t *arguments, struct err *err)
{
    json_t *body = json_deep_copy(arguments);
    int failed = body == NULL || json_object_set_new(body, "op", json_integer(op)) != 0;
    if (!failed && spec->chat_template != NULL && json_object_get(body, "template") == NULL) {
        failed = json_object_set_new(body, "template", json_string(spec->chat_template));
    }
    if (!failed && spec->date != NULL) {
        failed = json_object_set_new(body, "date", json_string(spec->date));
    }
    struct buf buf;
    struct json_out out;
    buf_init(&buf, REQUEST_BYTES_MAX);
    json_out_init(&out, &buf);
    if (!failed) {
        json_out_tree(&out, body);
    }
    int rc = failed ? mem_err(err, 0) : buf_check(&buf, "the request", err);
    if (rc == 0) {
        buf.data[buf.len - 1] = '\0';
        r->body = mem_strdup(buf.data + 1);
        rc = r->body != NULL ? 0 : mem_err(err, 0);
    }
    buf_release(&buf);
    json_decref(body);
    return rc;
}

/* Waits for a request that has no events. */
static int wait_for_result(struct infer *infer, struct infer_request *r)
{
    pthread_mutex_lock(&infer->lock);
    while (!r->done) {
        pthread_cond_wait(&infer->changed, &infer->lock);
    }
    const int rc = r->rc;
    pthread_mutex_unlock(&infer->lock);
    return rc;
}

static struct infer_request *waiting_request(struct buf *out, struct err *err)
{
    struct infer_request *r = mem_calloc(1, sizeof *r);
    if (r == NULL) {
        (void)mem_err(err, sizeof *r);
        return NULL;
    }
    token_ids_init(&r->sent, SENT_TOKENS_MAX);
    r->is_text = true;
    r->result = out;
    r->err = err;
    return r;
}

int infer_text(struct infer *infer, enum infer_text_op op, const struct infer_spec *spec,
               const json_t *arguments, struct buf *out, struct err *err)
{
    struct infer_request *r = waiting_request(out, err);
    if (r == NULL) {
        return -ERR_NOMEM;
    }
    int rc = write_text_body(r, op, spec, arguments, err);
    if (rc == 0) {
        rc = enqueue(infer, NULL, spec, r, err);
    }
    if (rc == 0) {
        rc = wait_for_result(infer, r);
    }
    infer_request_free(r);
    return rc;
}

/* One text of those that are embedded together. */
struct embedding {
    struct infer_request *request;
    struct err err; /* the request's own: results come in any order */
    bool waits;
};

/* Waits for all of them. When the client is gone those that are left are cancelled. */
static void wait_for_embeddings(struct infer *infer, struct embedding *all, int n,
                                const struct infer_client *client)
{
    for (int done = 0; done < n;) {
        const bool gone = client->gone(client->ctx);
        pthread_mutex_lock(&infer->lock);
        done = 0;
        for (int i = 0; i < n; i++) {
            struct infer_request *r = all[i].waits ? all[i].request : NULL;
            if (r != NULL && !r->done && gone && !r->cancelled) {
                cancel(r);
            }
            done += r == NULL || r->done;
        }
        if (done < n) {
            struct timespec next;
            clock_gettime(CLOCK_REALTIME, &next);
            next.tv_nsec += CLIENT_ASKED_NS;
            next.tv_sec += next.tv_nsec / 1000000000;
            next.tv_nsec %= 1000000000;
            (void)pthread_cond_timedwait(&infer->changed, &infer->lock, &next);
        }
        pthread_mutex_unlock(&infer->lock);
    }
}

static int begin_embedding(struct infer *infer, struct infer_places *places,
                           const struct infer_spec *given, struct buf *out, struct embedding *e,
                           struct err *err)
{
    struct infer_spec spec = *given;
    spec.embed = true;
    e->request = waiting_request(out, &e->err);
    if (e->request == NULL) {
        return mem_err(err, sizeof *e->request);
    }
    e->request->is_embed = true;
    int rc = write_body(e->request, &spec, err);
    if (rc == 0) {
        rc = enqueue(infer, places, &spec, e->request, err);
    }
    e->waits = rc == 0;
    return rc;
}

int infer_embed(struct infer *infer, const struct infer_spec *specs, int n,
                const struct infer_client *client, struct buf *outs, int *prompt_tokens,
                struct err *err)
{
    struct embedding all[INFER_EMBED_MAX];
    struct infer_places places = {0};
    memset(all, 0, sizeof all);
    *prompt_tokens = 0;
    int rc = n <= INFER_EMBED_MAX
                 ? infer_keep_places(infer, n, &places, err)
                 : err_set(err, ERR_TOO_LARGE, "%d texts at once; at most %d", n, INFER_EMBED_MAX);
    for (int i = 0; rc == 0 && i < n; i++) {
        rc = begin_embedding(infer, &places, &specs[i], &outs[i], &all[i], err);
    }
    wait_for_embeddings(infer, all, n <= INFER_EMBED_MAX ? n : 0, client);
    for (int i = 0; i < n && i < INFER_EMBED_MAX; i++) {
        if (all[i].waits && all[i].request->rc != 0 && rc == 0) {
            rc = err_set(err, all[i].err.code, "%s", all[i].err.message);
        }
        *prompt_tokens += all[i].request != NULL ? all[i].request->prompt_tokens : 0;
        infer_request_free(all[i].request);
    }
    infer_release_places(infer, &places);
    return rc;
}

int infer_list(struct infer *infer, struct infer_cache *cache, struct err *err)
{
    memset(cache, 0, sizeof *cache);
    pthread_mutex_lock(&infer->lock);
    cache->models = mem_calloc((size_t)infer->n_hosts + 1, sizeof *cache->models);
    for (int i = 0; cache->models != NULL && i < infer->n_hosts; i++) {
        const struct host *h = infer->hosts[i];
        struct infer_model *m = &cache->models[cache->n_models++];
        memcpy(m->base_id, h->base_id, sizeof m->base_id);
        memcpy(m->base_key, h->base_key, sizeof m->base_key);
        m->pid = h->have_child ? (int)h->proc.pid : 0;
        m->memory_bytes = h->memory_bytes;
        m->kv_bytes = h->kv_bytes;
        m->active_requests = h->sent.n;
        m->loaded_at_us = h->loaded_at_us;
        m->last_used_us = h->last_used_us;
        m->keep_alive_ms = h->keep_alive_ms;
        cache->queued += h->waiting.n;
        cache->prefix_bytes += h->prefix_bytes;
    }
    cache->max_models = infer->settings.max_models;
    cache->memory_bytes = infer_memory_used(infer);
    cache->memory_bytes_max = infer->memory_bytes_max;
    pthread_mutex_unlock(&infer->lock);
    return cache->models != NULL ? 0 : mem_err(err, sizeof *cache->models);
}

int infer_unload(struct infer *infer, const char *base_key, struct err *err)
{
    int found = 0;
    int busy = 0;
    pthread_mutex_lock(&infer->lock);
    for (int i = 0; i < infer->n_hosts; i++) {
        struct host *h = infer->hosts[i];
        if (base_key != NULL && strcmp(h->base_key, base_key) != 0) {
            continue;
        }
        found++;
        if (h->sent.n > 0 || h->waiting.n > 0 || h->state == HOST_STARTING) {
            busy++;
        } else if (h->state == HOST_READY) {
            h->state = HOST_CLOSING;
            host_wake(h);
        }
    }
    pthread_mutex_unlock(&infer->lock);
    if (base_key != NULL && found == 0) {
        return err_set(err, ERR_NOT_FOUND, "no loaded model has the key '%s'", base_key);
    }
    if (base_key != NULL && busy > 0) {
        return err_set(err, ERR_CONFLICT, "the model is in use");
    }
    return 0;
}
