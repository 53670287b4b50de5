/* Lists are singly linked and short; a request's number finds it. */
#include "infer/host.h"

#include <string.h>

#include "base/clock.h"
#include "base/frame.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"

/* --- lists --- */

void requests_push(struct request_list *list, struct infer_request *r)
{
    r->next = NULL;
    if (list->last != NULL) {
        list->last->next = r;
    } else {
        list->first = r;
    }
    list->last = r;
    list->n++;
}

struct infer_request *requests_take(struct request_list *list, uint32_t number)
{
    struct infer_request *before = NULL;
    for (struct infer_request *r = list->first; r != NULL; before = r, r = r->next) {
        if (r->number != number) {
            continue;
        }
        if (before != NULL) {
            before->next = r->next;
        } else {
            list->first = r->next;
        }
        list->last = list->last == r ? before : list->last;
        list->n--;
        return r;
    }
    return NULL;
}

struct infer_request *requests_find(const struct request_list *list, uint32_t number)
{
    struct infer_request *r = list->first;
    while (r != NULL && r->number != number) {
        r = r->next;
    }
    return r;
}

/* --- requests --- */

void infer_request_free(struct infer_request *r)
{
    if (r == NULL) {
        return;
    }
    mem_free(r->body);
    token_ids_release(&r->sent);
    mem_free(r);
}

void infer_request_fail(struct infer *infer, struct infer_request *r, const struct err *err)
{
    if (r->is_text) {
        pthread_mutex_lock(&infer->lock);
        r->rc = err_set(r->err, err->code, "%s", err->message);
        r->done = true;
        pthread_cond_broadcast(&infer->changed);
        pthread_mutex_unlock(&infer->lock);
        return; /* its caller frees it */
    }
    r->events.failed(r->ctx, err);
    infer_request_free(r);
}

static bool send_request(struct host *h, const struct infer_request *r)
{
    struct buf buf;
    struct err err = {0};
    buf_init(&buf, REQUEST_BYTES_MAX);
    buf_printf(&buf, "{\"r\":%u,", r->number);
    buf_puts(&buf, r->body);
    if (r->sent.n > 0) {
        buf_puts(&buf, ",\"sent\":[");
        for (size_t i = 0; i < r->sent.n; i++) {
            buf_printf(&buf, "%s%d", i > 0 ? "," : "", (int)r->sent.ids[i]);
        }
        buf_puts(&buf, "]");
    }
    buf_puts(&buf, "}");
    int rc = buf_check(&buf, "a request", &err);
    if (rc == 0) {
        rc = frame_send(&h->conn, r->is_text && !r->is_embed ? 'T' : 'G', buf.data, buf.len,
                        SEND_TIMEOUT_MS, &err);
    }
    buf_release(&buf);
    return rc == 0;
}

void host_send_cancel(struct host *h, uint32_t number)
{
    struct buf buf;
    struct err err = {0};
    buf_init(&buf, 64);
    buf_printf(&buf, "{\"r\":%u}", number);
    if (frame_send(&h->conn, 'C', buf.data, buf.len, SEND_TIMEOUT_MS, &err) != 0) {
        log_event(LOG_DEBUG, "infer", "cancel_unsent", "error=\"%s\"", err.message);
    }
    buf_release(&buf);
}

void host_pump(struct host *h)
{
    while (h->state == HOST_READY && h->waiting.first != NULL &&
           h->sent.n < h->infer->settings.max_sessions) {
        struct infer_request *r = requests_take(&h->waiting, h->waiting.first->number);
        requests_push(&h->sent, r);
        r->on_runner = send_request(h, r);
        if (r->cancelled) {
            host_send_cancel(h, r->number);
        }
    }
}
