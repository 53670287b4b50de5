/* Every request looks at the interrupt flag, so Ctrl-C ends a wait for the server at once. */
#include "cli/remote.h"

#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli/interrupt.h"

enum { PAGE_SIZE = 100, PAGES_MAX = 10000, EVENT_BYTES = 64 };

/* "0.0.0.0" and "::" are where a server listens, not where one calls. */
static const char *host_to_call(const char *host, char out[256])
{
    if (strcmp(host, "0.0.0.0") == 0) {
        return "127.0.0.1";
    }
    if (strcmp(host, "::") == 0) {
        return "[::1]";
    }
    snprintf(out, 256, strchr(host, ':') != NULL && host[0] != '[' ? "[%s]" : "%s", host);
    return out;
}

int remote_init(struct remote *r, const char *host, int port, const char *api_key, struct err *err)
{
    char name[256];
    memset(r, 0, sizeof *r);
    snprintf(r->url, sizeof r->url, "http://%s:%d", host_to_call(host, name), port);
    snprintf(r->key, sizeof r->key, "%s", api_key);
    return http_client_new(&r->http, err);
}

void remote_release(struct remote *r)
{
    http_client_free(r->http);
    memset(r, 0, sizeof *r);
}

static void fill_request(const struct remote *r, struct http_request *request, const char *method,
                         const char *url)
{
    memset(request, 0, sizeof *request);
    request->method = method;
    request->url = url;
    request->bearer = r->key;
    request->response_bytes_max = REMOTE_ANSWER_BYTES;
    request->cancel = interrupt_flag();
}

static int make_url(const struct remote *r, const char *path, char out[REMOTE_PATH_BYTES],
                    struct err *err)
{
    const int n = snprintf(out, REMOTE_PATH_BYTES, "%s%s", r->url, path);
    return n < REMOTE_PATH_BYTES ? 0 : err_set(err, ERR_INVALID, "an address of %d bytes", n);
}

bool remote_answers(struct remote *r)
{
    struct http_request request;
    struct http_response response;
    char url[REMOTE_PATH_BYTES];
    char id[UUID_BYTES];
    char header[UUID_BYTES + 16];
    char echo[UUID_BYTES] = "";
    const char *const headers[] = {header, NULL};
    bool answers = false;
    if (make_url(r, "/health", url, NULL) != 0 || uuid_make(id, NULL) != 0) {
        return false;
    }
    snprintf(header, sizeof header, "X-Request-ID: %s", id);
    http_response_init(&response);
    fill_request(r, &request, "GET", url);
    request.headers = headers;
    request.connect_timeout_ms = REMOTE_PROBE_MS;
    request.timeout_ms = REMOTE_PROBE_MS;
    if (http_request(r->http, &request, &response, NULL) == 0 && response.body.len > 0 &&
        http_response_find_header(&response, "X-Request-ID", echo, sizeof echo) &&
        strcmp(echo, id) == 0) {
        json_t *tree = json_parse(response.body.data, response.body.len, NULL);
        answers = json_is_object(tree) && (json_object_get(tree, "status") != NULL ||
                                           json_object_get(tree, "detail") != NULL);
        json_decref(tree);
    }
    http_response_release(&response);
    return answers;
}

int remote_find(struct remote *r, const struct settings *s, bool *found, struct err *err)
{
    memset(r, 0, sizeof *r);
    *found = false;
    const int rc = s->port == 0 ? 0 : remote_init(r, s->host, s->port, s->api_key, err);
    if (rc == 0 && s->port != 0) {
        *found = remote_answers(r);
    }
    if (!*found) {
        remote_release(r);
    }
    return rc;
}

/* Warning: 199 mlx-hub "SENTENCE" */
static void keep_warning(struct remote *r, const struct http_response *response)
{
    char header[REMOTE_WARNING_BYTES];
    char *begin = NULL, *end = NULL;
    if (http_response_find_header(response, "Warning", header, sizeof header)) {
        begin = strchr(header, '"');
        end = strrchr(header, '"');
    }
    if (begin != NULL && begin < end) {
        snprintf(r->warning, sizeof r->warning, "%.*s", (int)(end - begin - 1), begin + 1);
    }
}

/* Sends, checks the status, and parses what came. */
static int exchange(struct remote *r, const struct http_request *request, json_t **answer,
                    struct err *err)
{
    struct http_response response;
    if (answer != NULL) {
        *answer = NULL;
    }
    http_response_init(&response);
    int rc = http_request(r->http, request, &response, err);
    rc = rc == 0 ? http_response_check(&response, request->url, err) : rc;
    if (rc == 0) {
        keep_warning(r, &response);
    }
    if (rc == 0 && answer != NULL && response.body.len > 0) {
        *answer = json_parse(response.body.data, response.body.len, err);
        rc = *answer != NULL ? 0 : -(int)err->code;
    }
    http_response_release(&response);
    return rc;
}

/* The body as JSON, the caller's; NULL for none. */
static int make_text(const json_t *body, char **text, struct err *err)
{
    *text = body != NULL ? json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    return body == NULL || *text != NULL ? 0 : mem_err(err, REMOTE_PATH_BYTES);
}

int remote_call(struct remote *r, const char *method, const char *path, const json_t *body,
                json_t **answer, struct err *err)
{
    struct http_request request;
    char url[REMOTE_PATH_BYTES];
    char *text = NULL;
    int rc = make_url(r, path, url, err);
    rc = rc == 0 ? make_text(body, &text, err) : rc;
    if (rc == 0) {
        fill_request(r, &request, method, url);
        request.json = text;
        rc = exchange(r, &request, answer, err);
    }
    mem_free(text);
    return rc;
}

int remote_text(struct remote *r, const char *path, struct buf *out, struct err *err)
{
    struct http_request request;
    struct http_response response;
    char url[REMOTE_PATH_BYTES];
    int rc = make_url(r, path, url, err);
    if (rc != 0) {
        return rc;
    }
    http_response_init(&response);
    fill_request(r, &request, "GET", url);
    rc = http_request(r->http, &request, &response, err);
    rc = rc == 0 ? http_response_check(&response, url, err) : rc;
    if (rc == 0) {
        buf_append(out, response.body.data, response.body.len);
        rc = buf_check(out, "the answer", err);
    }
    http_response_release(&response);
    return rc;
}

int remote_upload(struct remote *r, const char *path, const char *file, json_t **answer,
                  struct err *err)
{
    static const char *const headers[] = {"Content-Type: application/octet-stream", NULL};
    struct http_request request;
    struct fs_map map = {0};
    char url[REMOTE_PATH_BYTES];
    int rc = make_url(r, path, url, err);
    rc = rc == 0 ? fs_map_open(&map, file, err) : rc;
    if (rc == 0) {
        fill_request(r, &request, "POST", url);
        request.headers = headers;
        request.body = map.size > 0 ? (const void *)map.data : "";
        request.body_bytes = map.size;
        rc = exchange(r, &request, answer, err);
    }
    fs_map_close(&map);
    return rc;
}

/* --- streams ------------------------------------------------------------------------------------
 * Lines: "event: NAME", "data: JSON" (perhaps several), ": comment", and an empty one ends an
 * event.
 */

struct sse {
    remote_event_fn on_event;
    void *ctx;
    char event[EVENT_BYTES];
    struct buf data;
};

static int end_event(struct sse *s, struct err *err)
{
    int rc = buf_check(&s->data, "an event", err);
    if (rc == 0 && s->data.len > 0 && strcmp(s->data.data, "[DONE]") != 0) {
        json_t *tree = json_parse(s->data.data, s->data.len, err);
        rc = tree != NULL ? s->on_event(s->ctx, s->event, tree, err) : -(int)err->code;
        json_decref(tree);
    }
    buf_clear(&s->data);
    snprintf(s->event, sizeof s->event, "message");
    return rc;
}

static int on_line(void *ctx, const char *line, size_t n, struct err *err)
{
    struct sse *s = ctx;
    if (n == 0) {
        return end_event(s, err);
    }
    if (strncmp(line, "event:", 6) == 0) {
        snprintf(s->event, sizeof s->event, "%s", line + 6 + (line[6] == ' '));
    } else if (strncmp(line, "data:", 5) == 0) {
        if (s->data.len > 0) {
            buf_putc(&s->data, '\n');
        }
        buf_puts(&s->data, line + 5 + (line[5] == ' '));
    }
    return 0;
}

int remote_stream(struct remote *r, const char *path, const json_t *body, remote_event_fn on_event,
                  void *ctx, struct err *err)
{
    static const char *const headers[] = {"Accept: text/event-stream", NULL};
    struct sse sse = {.on_event = on_event, .ctx = ctx, .event = "message"};
    struct http_request request;
    struct http_response response;
    char url[REMOTE_PATH_BYTES];
    char *text = NULL;
    int rc = make_url(r, path, url, err);
    rc = rc == 0 ? make_text(body, &text, err) : rc;
    if (rc != 0) {
        return rc;
    }
    buf_init(&sse.data, HTTP_LINE_BYTES_MAX);
    http_response_init(&response);
    fill_request(r, &request, body != NULL ? "POST" : "GET", url);
    request.headers = headers;
    request.json = text;
    request.idle_timeout_s = REMOTE_IDLE_SECONDS;
    request.on_line = on_line;
    request.ctx = &sse;
    rc = http_request(r->http, &request, &response, err);
    rc = rc == 0 ? http_response_check(&response, url, err) : rc;
    http_response_release(&response);
    buf_release(&sse.data);
    mem_free(text);
    return rc;
}

/* --- lists --------------------------------------------------------------------------------------
 */

int remote_list(struct remote *r, const char *path, json_t **rows, struct err *err)
{
    char page_path[REMOTE_PATH_BYTES];
    const char joint = strchr(path, '?') != NULL ? '&' : '?';
    bool more = true;
    int rc = 0;
    *rows = json_array();
    for (int page = 1; rc == 0 && more && page <= PAGES_MAX; page++) {
        json_t *answer = NULL;
        snprintf(page_path, sizeof page_path, "%s%cpage=%d&page_size=%d", path, joint, page,
                 PAGE_SIZE);
        rc = remote_call(r, "GET", page_path, NULL, &answer, err);
        json_t *items = json_is_object(answer) ? json_object_get(answer, "items") : answer;
        more = rc == 0 && json_array_size(items) == PAGE_SIZE;
        if (rc == 0 && (*rows == NULL || json_array_extend(*rows, items) != 0)) {
            rc = err_set(err, ERR_INTERNAL, "%s: the answer is no list", path);
        }
        json_decref(answer);
    }
    if (rc != 0) {
        json_decref(*rows);
        *rows = NULL;
    }
    return rc;
}
