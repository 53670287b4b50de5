/* A path needs no storage and no server: the model runs in a child of this command, as it would
 * under serve. A name is asked of the hub that the settings name; where none answers, its files are
 * found in the storage and run the same way as a path's. */
#include "cli/answer.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "api/presets.h"
#include "cli/interrupt.h"
#include "cli/print.h"

enum { DRAIN_MS = 2000, LOOK_NS = 100000000 };

void answer_init(struct answer *a, bool stream)
{
    memset(a, 0, sizeof *a);
    a->stream = stream;
    buf_init(&a->text, PRINT_BYTES_MAX);
}

void answer_release(struct answer *a)
{
    buf_release(&a->text);
}

void answer_take(struct answer *a, const char *text, size_t n)
{
    buf_append(&a->text, text, n);
    if (a->stream) {
        fwrite(text, 1, n, stdout);
        fflush(stdout);
    }
}

/* --- a runner of our own ------------------------------------------------------------------------
 * Events come on infer's threads; this one waits for the last of them. A request lives until that
 * event has returned, which needs the lock: under it, what is not over may be cancelled.
 */

struct local {
    struct answer *answer;
    pthread_mutex_t lock;
    pthread_cond_t over_changed;
    bool over;
    struct err err;
};

static void on_accepted(void *ctx, const struct infer_accepted *accepted)
{
    (void)ctx;
    (void)accepted;
}

static void on_token(void *ctx, const struct infer_token *token)
{
    answer_take(((struct local *)ctx)->answer, token->text, token->bytes);
}

static void end(struct local *l)
{
    pthread_mutex_lock(&l->lock);
    l->over = true;
    pthread_cond_signal(&l->over_changed);
    pthread_mutex_unlock(&l->lock);
}

static void on_done(void *ctx, const struct infer_done *done)
{
    struct local *l = ctx;
    struct answer *a = l->answer;
    answer_take(a, done->text, done->text_bytes);
    a->done = *done;
    a->done.text = NULL;
    a->done.finish_reason = NULL;
    snprintf(a->finish_reason, sizeof a->finish_reason, "%s", done->finish_reason);
    end(l);
}

static void on_failed(void *ctx, const struct err *err)
{
    struct local *l = ctx;
    l->err = *err;
    end(l);
}

static void wait_for_end(struct local *l, struct infer_request *request)
{
    bool cancelled = false;
    pthread_mutex_lock(&l->lock);
    while (!l->over) {
        struct timespec soon;
        clock_gettime(CLOCK_REALTIME, &soon);
        soon.tv_nsec += LOOK_NS;
        soon.tv_sec += soon.tv_nsec / 1000000000;
        soon.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&l->over_changed, &l->lock, &soon);
        if (!l->over && !cancelled && interrupted()) {
            cancelled = true;
            infer_cancel(request);
        }
    }
    pthread_mutex_unlock(&l->lock);
}

static int run(struct source *s, const json_t *messages, const struct buf *prompt, struct answer *a,
               struct err *err)
{
    static const struct infer_events events = {
        .accepted = on_accepted, .token = on_token, .done = on_done, .failed = on_failed};
    struct local l = {.answer = a};
    struct infer_request *request;
    s->spec.messages = messages;
    s->spec.prompt = NULL;
    s->spec.prompt_bytes = 0;
    if (messages == NULL) {
        s->spec.prompt = prompt->data != NULL ? prompt->data : "";
        s->spec.prompt_bytes = prompt->len;
    }
    pthread_mutex_init(&l.lock, NULL);
    pthread_cond_init(&l.over_changed, NULL);
    int rc = infer_submit(s->infer, &s->spec, &events, &l, &request, err);
    if (rc == 0) {
        wait_for_end(&l, request);
        rc = l.err.code != ERR_NONE ? err_set(err, l.err.code, "%s", l.err.message)
                                    : buf_check(&a->text, "the answer", err);
    }
    pthread_cond_destroy(&l.over_changed);
    pthread_mutex_destroy(&l.lock);
    return rc;
}

static int answer_local(struct source *s, const json_t *messages, const struct buf *prompt,
                        struct answer *a, struct err *err)
{
    json_t *all = json_incref((json_t *)messages);
    int rc = preset_messages(&s->model.resolved, &all, err);
    rc = rc == 0 ? run(s, all, prompt, a, err) : rc;
    json_decref(all);
    return rc;
}

/* --- sources ------------------------------------------------------------------------------------
 */

int source_open(struct source *source, const struct args *args,
                const struct infer_sampling *sampling, const json_t *given, struct err *err)
{
    int ignored = 0; /* num_ctx, as OpenAI's clients cannot say it either */
    memset(source, 0, sizeof *source);
    source->name = args->positional[0];
    source->given = given;
    int rc = is_model_path(source->name)
                 ? 0
                 : remote_find(&source->remote, &args->settings, &source->served, err);
    if (rc == 0 && !source->served) {
        rc = find_model(&source->model, &args->settings, source->name, err);
        rc = rc == 0 ? infer_new(&source->infer, &args->settings, NULL, err) : rc;
        source->spec = source->model.spec;
    }
    if (rc == 0 && source->served) {
        rc = answer_find_remote(source, err);
    }
    source->spec.sampling = *sampling;
    return rc == 0 ? preset_sampling(&source->model.resolved, given, &source->spec.sampling,
                                     &ignored, err)
                   : rc;
}

void source_close(struct source *source)
{
    infer_free(source->infer, DRAIN_MS);
    json_decref(source->parameters);
    found_model_release(&source->model);
    remote_release(&source->remote);
}

int source_ask(struct source *source, const json_t *messages, const struct buf *prompt,
               struct answer *answer, struct err *err)
{
    return source->served ? answer_remote(source, messages, prompt, answer, err)
                          : answer_local(source, messages, prompt, answer, err);
}
