/* How it works. One curl easy handle per client, reset before each request (which keeps its
 * connections). Callbacks write into `struct transfer` on the stack of http_request; what goes
 * wrong inside one is kept in the caller's err and wins over curl's own words for it.
 *
 * 1. The body callback decides by the status, known once the headers are in: a stream's callbacks
 *    see only 2xx bodies, everything else is kept for http_response_check.
 * 2. curl allocates through base/mem, set before any other use of it.
 */
#include "base/http_client.h"

#include <ctype.h>
#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/utf8.h"

enum { SHOWN_BODY_BYTES = 300, NAME_BYTES_MAX = 256 };

struct http_client {
    CURL *easy;
    char why[CURL_ERROR_SIZE];
};

struct transfer {
    const struct http_request *request;
    struct http_response *response;
    CURL *easy;
    struct buf line;
    struct err *err;
    int rc; /* what a callback ended the transfer with */
};

/* --- setting up
 * ----------------------------------------------------------------------------------- */

static void *curl_realloc(void *ptr, size_t size)
{
    return mem_realloc(ptr, 1, size);
}

static void *curl_calloc(size_t n, size_t size)
{
    return mem_calloc(n, size);
}

static CURLcode global_code = CURLE_FAILED_INIT;

static void init_global(void)
{
    global_code = curl_global_init_mem(CURL_GLOBAL_DEFAULT, mem_alloc, mem_free, curl_realloc,
                                       mem_strdup, curl_calloc);
}

int http_client_new(struct http_client **out, struct err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    *out = NULL;
    pthread_once(&once, init_global);
    if (global_code != CURLE_OK)
        return err_set(err, ERR_INTERNAL, "the HTTP library did not start: %s",
                       curl_easy_strerror(global_code));
    struct http_client *client = mem_calloc(1, sizeof *client);
    if (!client)
        return mem_err(err, sizeof *client);
    client->easy = curl_easy_init();
    if (!client->easy) {
        mem_free(client);
        return err_set(err, ERR_NOMEM, "out of memory for an HTTP client");
    }
    *out = client;
    return 0;
}

void http_client_free(struct http_client *client)
{
    if (!client)
        return;
    curl_easy_cleanup(client->easy);
    mem_free(client);
}

void http_response_init(struct http_response *response)
{
    response->status = 0;
    buf_init(&response->body, HTTP_BODY_BYTES_MAX);
    buf_init(&response->headers, HTTP_HEADER_BYTES_MAX);
}

void http_response_release(struct http_response *response)
{
    buf_release(&response->body);
    buf_release(&response->headers);
}

/* --- callbacks
 * --------------------------------------------------------------------------------------- */

static int status_of(CURL *easy)
{
    long status = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    return (int)status;
}

static size_t on_header(char *bytes, size_t size, size_t n, void *ctx)
{
    struct transfer *transfer = ctx;
    /* Each answer of a chain of redirects starts with its own status line. */
    if (size * n > 5 && strncmp(bytes, "HTTP/", 5) == 0)
        buf_clear(&transfer->response->headers);
    buf_append(&transfer->response->headers, bytes, size * n);
    transfer->rc =
        buf_check(&transfer->response->headers, "the header of the answer", transfer->err);
    return transfer->rc == 0 ? size * n : 0;
}

/* Hands out the lines that `bytes` completes and keeps the rest. */
static int split_lines(struct transfer *transfer, const char *bytes, size_t n)
{
    const struct http_request *request = transfer->request;
    struct buf *line = &transfer->line;
    while (n > 0) {
        const char *end = memchr(bytes, '\n', n);
        size_t part = end ? (size_t)(end - bytes) : n;
        buf_append(line, bytes, part);
        int rc = buf_check(line, "a line of the answer", transfer->err);
        if (rc != 0 || !end)
            return rc;
        if (line->len > 0 && line->data[line->len - 1] == '\r')
            line->data[--line->len] = '\0';
        rc = request->on_line(request->ctx, line->data, line->len, transfer->err);
        if (rc != 0)
            return rc;
        buf_clear(line);
        bytes = end + 1;
        n -= part + 1;
    }
    return 0;
}

static size_t on_body(char *bytes, size_t size, size_t count, void *ctx)
{
    struct transfer *transfer = ctx;
    const struct http_request *request = transfer->request;
    size_t n = size * count;
    int status = status_of(transfer->easy);
    bool streams = request->on_data || request->on_line;
    if (streams && status >= 200 && status < 300) {
        transfer->rc = request->on_line ? split_lines(transfer, bytes, n)
                                        : request->on_data(request->ctx, bytes, n, transfer->err);
    } else if (streams) {
        struct buf *body = &transfer->response->body;
        size_t room = body->len < HTTP_ERROR_BYTES_MAX ? HTTP_ERROR_BYTES_MAX - body->len : 0;
        buf_append(body, bytes, n < room ? n : room);
        transfer->rc = buf_check(body, "the answer", transfer->err);
    } else {
        buf_append(&transfer->response->body, bytes, n);
        transfer->rc = buf_check(&transfer->response->body, "the answer", transfer->err);
    }
    return transfer->rc == 0 ? n : (n == 0 ? 1 : 0);
}

static int on_progress(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    struct transfer *transfer = ctx;
    (void)a, (void)b, (void)c, (void)d;
    const struct http_request *request = transfer->request;
    if (request->cancel && atomic_load_explicit(request->cancel, memory_order_relaxed))
        transfer->rc = err_set(transfer->err, ERR_CANCELLED, "the request was cancelled");
    else if (request->on_wait)
        transfer->rc = request->on_wait(request->ctx, transfer->err);
    return transfer->rc == 0 ? 0 : 1;
}

/* --- one request
 * ---------------------------------------------------------------------------------------- */

/* Appends to a curl list; the list is kept when memory runs out. */
static bool list_add(struct curl_slist **list, const char *text)
{
    struct curl_slist *grown = curl_slist_append(*list, text);
    if (grown)
        *list = grown;
    return grown != NULL;
}

static int build_headers(const struct http_request *request, struct curl_slist **list,
                         struct err *err)
{
    bool ok = list_add(list, "Expect:"); /* no wait for a 100 before a body */
    if (request->json)
        ok = ok && list_add(list, "Content-Type: application/json");
    for (size_t i = 0; ok && request->headers && request->headers[i]; i++) {
        if (i == HTTP_HEADERS_MAX || strpbrk(request->headers[i], "\r\n"))
            return err_set(err, ERR_INVALID, "a header of the request is not valid");
        ok = list_add(list, request->headers[i]);
    }
    if (ok && request->bearer && request->bearer[0]) {
        if (strpbrk(request->bearer, "\r\n"))
            return err_set(err, ERR_INVALID, "the key of the request is not valid");
        char *text = mem_printf("Authorization: Bearer %s", request->bearer);
        ok = text && list_add(list, text);
        mem_free(text);
    }
    return ok ? 0 : err_set(err, ERR_NOMEM, "out of memory for the headers of a request");
}

static void set_body(CURL *easy, const struct http_request *request)
{
    const void *body = request->json ? request->json : request->body;
    size_t n = request->json ? strlen(request->json) : request->body_bytes;
    const char *method = request->method ? request->method : body ? "POST" : "GET";
    if (strcmp(method, "HEAD") == 0)
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    if (body || strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 ||
        strcmp(method, "PATCH") == 0) {
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)n);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body ? body : "");
    }
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
}

static void set_limits(CURL *easy, const struct http_request *request, struct transfer *transfer)
{
    long connect_ms = request->connect_timeout_ms;
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                     connect_ms ? connect_ms : (long)HTTP_CONNECT_TIMEOUT_MS);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
    if (request->idle_timeout_s) {
        curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)request->idle_timeout_s);
    }
    if (request->follow) {
        curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L);
        curl_easy_setopt(easy, CURLOPT_MAXREDIRS, (long)HTTP_REDIRECTS_MAX);
    }
    if (request->cancel || request->on_wait) {
        curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(easy, CURLOPT_XFERINFODATA, transfer);
        curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
    }
}

static bool allow_protocols(CURL *easy)
{
#if LIBCURL_VERSION_NUM >= 0x075500
    return curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https") == CURLE_OK;
#else
    long both = CURLPROTO_HTTP | CURLPROTO_HTTPS;
    return curl_easy_setopt(easy, CURLOPT_PROTOCOLS, both) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS, both) == CURLE_OK;
#endif
}

static int configure(struct http_client *client, const struct http_request *request,
                     struct transfer *transfer, struct curl_slist *headers, struct err *err)
{
    CURL *easy = client->easy;
    client->why[0] = '\0';
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, client->why);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    set_limits(easy, request, transfer);
    set_body(easy, request);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
    bool ok = allow_protocols(easy) &&
              curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers) == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_USERAGENT, "mlx-hub") == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_NOPROXY, "localhost,127.0.0.1,::1") == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_URL, request->url) == CURLE_OK;
    return ok ? 0 : err_set(err, ERR_NOMEM, "out of memory for a request to %s", request->url);
}

static enum err_code code_of(CURLcode code)
{
    switch (code) {
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
        return ERR_INVALID;
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
        return ERR_UNAVAILABLE;
    case CURLE_OPERATION_TIMEDOUT:
        return ERR_TIMEOUT;
    case CURLE_OUT_OF_MEMORY:
        return ERR_NOMEM;
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
        return ERR_CLOSED;
    default:
        return ERR_IO;
    }
}

static int explain(const struct http_client *client, CURLcode code, const char *url,
                   struct err *err)
{
    const char *why = client->why[0] ? client->why : curl_easy_strerror(code);
    switch (code) {
    case CURLE_COULDNT_CONNECT:
        return err_set(err, ERR_UNAVAILABLE, "cannot connect to %s: %s", url, why);
    case CURLE_OPERATION_TIMEDOUT:
        return err_set(err, ERR_TIMEOUT, "%s did not answer in time: %s", url, why);
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
        return err_set(err, ERR_CLOSED, "the answer of %s stopped short: %s", url, why);
    default:
        return err_set(err, code_of(code), "the request to %s failed: %s", url, why);
    }
}

int http_request(struct http_client *client, const struct http_request *request,
                 struct http_response *response, struct err *err)
{
    struct err local = {0};
    struct curl_slist *headers = NULL;
    struct transfer transfer = {
        .request = request, .response = response, .easy = client->easy, .err = err ? err : &local};
    response->status = 0;
    buf_clear(&response->body);
    buf_clear(&response->headers);
    response->body.bytes_max =
        request->response_bytes_max ? request->response_bytes_max : HTTP_BODY_BYTES_MAX;
    buf_init(&transfer.line, HTTP_LINE_BYTES_MAX);
    int rc = build_headers(request, &headers, transfer.err);
    if (rc == 0)
        rc = configure(client, request, &transfer, headers, transfer.err);
    if (rc == 0) {
        CURLcode code = curl_easy_perform(client->easy);
        response->status = status_of(client->easy);
        if (transfer.rc != 0)
            rc = transfer.rc;
        else if (code != CURLE_OK)
            rc = explain(client, code, request->url, transfer.err);
        else if (transfer.line.len > 0)
            rc =
                request->on_line(request->ctx, transfer.line.data, transfer.line.len, transfer.err);
    }
    /* The handle must not keep pointers into this frame. */
    curl_easy_reset(client->easy);
    curl_slist_free_all(headers);
    buf_release(&transfer.line);
    return rc;
}

/* --- answers
 * ---------------------------------------------------------------------------------------------- */

bool http_response_find_header(const struct http_response *response, const char *name, char *out,
                               size_t out_bytes)
{
    size_t length = strlen(name);
    const char *at = response->headers.data;
    while (at && *at) {
        size_t n = strcspn(at, "\r\n");
        if (n > length && strncasecmp(at, name, length) == 0 && at[length] == ':') {
            const char *value = at + length + 1, *end = at + n;
            while (value < end && isblank((unsigned char)*value))
                value++;
            while (end > value && isblank((unsigned char)end[-1]))
                end--;
            if ((size_t)(end - value) >= out_bytes)
                return false;
            memcpy(out, value, (size_t)(end - value));
            out[end - value] = '\0';
            return true;
        }
        at += n + strspn(at + n, "\r\n");
    }
    return false;
}

static enum err_code code_of_status(int status)
{
    for (int code = ERR_NONE + 1; code < ERR_CODE_COUNT; code++)
        if (err_http_status(code) == status)
            return (enum err_code)code;
    return status >= 500 ? ERR_UNAVAILABLE : ERR_INVALID;
}

/* The message inside a JSON error body, borrowed from the tree; NULL when there is none. */
static const char *message_in(const json_t *tree)
{
    const json_t *error = json_object_get(tree, "error");
    const json_t *found = json_is_object(error) ? json_object_get(error, "message") : error;
    if (!json_is_string(found))
        found = json_object_get(tree, "message");
    if (!json_is_string(found))
        found = json_object_get(tree, "detail");
    return json_is_string(found) ? json_string_value(found) : NULL;
}

/* Of a list of faults, as validation answers: {"detail": [{"loc": ["body", "name"], "msg": …}, …]}.
 * The members' names are said, the part of the request is not. */
static void join_faults(const json_t *tree, struct buf *out)
{
    const json_t *detail = json_object_get(tree, "detail"), *fault, *part;
    size_t i, k;
    json_array_foreach((json_t *)detail, i, fault)
    {
        const char *msg = json_string_value(json_object_get(fault, "msg"));
        if (!msg)
            continue;
        buf_puts(out, out->len > 0 ? "; " : "");
        json_array_foreach(json_object_get(fault, "loc"), k, part)
        {
            const char *name = json_string_value(part);
            if (k > 0 && name && strncmp(msg, name, strlen(name)) != 0)
                buf_printf(out, "%s: ", name);
        }
        buf_puts(out, msg);
    }
}

int http_response_check(const struct http_response *response, const char *url, struct err *err)
{
    if (response->status >= 200 && response->status < 300)
        return 0;
    struct err ignored = {0};
    struct buf faults;
    const char *body = response->body.data ? response->body.data : "";
    json_t *tree = json_parse(body, response->body.len, &ignored);
    const char *message = message_in(tree);
    buf_init(&faults, ERR_MESSAGE_BYTES_MAX);
    if (!message) {
        join_faults(tree, &faults);
        message = faults.len > 0 && buf_check(&faults, url, &ignored) == 0 ? faults.data : NULL;
    }
    size_t shown = response->body.len < SHOWN_BODY_BYTES ? response->body.len : SHOWN_BODY_BYTES;
    enum err_code code = code_of_status(response->status);
    int rc = message ? err_set(err, code, "%s", message)
                     : err_set(err, code, "%s answered %d%s%.*s", url, response->status,
                               shown ? ": " : "", (int)utf8_complete_prefix(body, shown), body);
    buf_release(&faults);
    json_decref(tree);
    return rc;
}

int http_escape(const char *text, char *out, size_t out_bytes, struct err *err)
{
    static const char HEX[] = "0123456789ABCDEF";
    size_t n = 0;
    for (const char *at = text; *at; at++) {
        unsigned char c = (unsigned char)*at;
        bool plain = c < 0x80 && (isalnum(c) || strchr("-._~", c));
        if (n + (plain ? 1 : 3) >= out_bytes)
            return err_set(err, ERR_TOO_LARGE, "\"%.64s…\" is too long for an address", text);
        if (plain) {
            out[n++] = (char)c;
        } else {
            out[n++] = '%';
            out[n++] = HEX[c >> 4];
            out[n++] = HEX[c & 15];
        }
    }
    if (out_bytes == 0)
        return err_set(err, ERR_TOO_LARGE, "no room for an address");
    out[n] = '\0';
    return 0;
}
