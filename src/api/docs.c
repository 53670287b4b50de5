/* /docs and /: pages without a script, made from the route table, so they work offline and under
 * the strictest policy that still lets them have a style. */
#include <string.h>

#include "api/doc.h"
#include "api/handlers.h"

static const char head[] =
    "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">"
    "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>API</title>"
    "<style>"
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#1a1a1a;background:#fff}"
    "h2{margin-top:2.5rem;text-transform:capitalize}"
    "details{border:1px solid #ddd;border-radius:6px;margin:.4rem 0;padding:.4rem .8rem}"
    "summary{cursor:pointer}code{font:13px ui-monospace,monospace}"
    "b{display:inline-block;width:4.5rem;font:600 13px ui-monospace,monospace}"
    "table{border-collapse:collapse;margin:.6rem 0}td,th{padding:.15rem .8rem .15rem 0;"
    "text-align:left;vertical-align:top}"
    "@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#161616}"
    "details{border-color:#444}a{color:#8ab4f8}}"
    "</style></head><body><main>";

static void put_text(struct buf *out, const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '&':
            buf_puts(out, "&amp;");
            break;
        case '<':
            buf_puts(out, "&lt;");
            break;
        case '>':
            buf_puts(out, "&gt;");
            break;
        case '"':
            buf_puts(out, "&quot;");
            break;
        default:
            buf_putc(out, *text);
        }
    }
}

static const char *kind_name(enum http_kind kind)
{
    static const char *const names[] = {
        [HTTP_STRING] = "string", [HTTP_UUID] = "UUID",     [HTTP_ENUM] = "one of",
        [HTTP_INT] = "integer",   [HTTP_REAL] = "number",   [HTTP_BOOL] = "boolean",
        [HTTP_OBJECT] = "object", [HTTP_ARRAY] = "list of", [HTTP_ANY] = "anything"};
    return names[kind];
}

static void put_row(struct buf *out, const char *name, enum http_kind kind, bool required,
                    const char *const *choices, const struct http_field *items, const char *help)
{
    buf_puts(out, "<tr><td><code>");
    put_text(out, name);
    buf_printf(out, "</code></td><td>%s", kind_name(kind));
    if (items != NULL) {
        buf_printf(out, " %ss", kind_name(items->kind));
    } else if (kind == HTTP_ARRAY) {
        buf_puts(out, " anything");
    }
    for (; choices != NULL && *choices != NULL; choices++) {
        buf_puts(out, " <code>");
        put_text(out, *choices);
        buf_puts(out, "</code>");
    }
    buf_printf(out, "</td><td>%s</td><td>", required ? "required" : "");
    put_text(out, help != NULL ? help : "");
    buf_puts(out, "</td></tr>");
}

static void put_route(struct buf *out, const struct http_route *route)
{
    const struct api_doc *doc = route->doc;
    buf_printf(out, "<details><summary><b>%s</b> <code>", route->method);
    put_text(out, route->pattern);
    buf_puts(out, "</code> ");
    put_text(out, doc->summary);
    buf_puts(out, "</summary>");
    if (doc->n_query > 0) {
        buf_puts(out, "<table><tr><th colspan=\"4\">Query</th></tr>");
        for (size_t i = 0; i < doc->n_query; i++) {
            const struct api_query *q = &doc->query[i];
            put_row(out, q->name, q->kind, q->required, q->choices, NULL, q->help);
        }
        buf_puts(out, "</table>");
    }
    if (doc->body != NULL) {
        buf_puts(out, "<table><tr><th colspan=\"4\">Body</th></tr>");
        for (size_t i = 0; i < doc->body->n; i++) {
            const struct http_field *f = &doc->body->fields[i];
            put_row(out, f->name, f->kind, (f->flags & HTTP_REQUIRED) != 0, f->choices, f->items,
                    NULL);
        }
        buf_puts(out, "</table>");
    } else if (doc->body_type != NULL) {
        buf_printf(out, "<p>Body: %s</p>", doc->body_type);
    }
    buf_printf(out, "<p>Answers %d", doc->status);
    if (doc->answer != NULL) {
        buf_printf(out, ": %s%s", doc->list ? "a list of " : "", doc->answer);
    } else if (doc->answer_type != NULL) {
        buf_printf(out, ": %s", doc->answer_type);
    }
    buf_puts(out, "</p></details>");
}

static bool tag_seen(const struct http_router *router, size_t before, const char *tag)
{
    for (size_t i = 0; i < before; i++) {
        const struct api_doc *doc = http_router_route(router, i)->doc;
        if (strcmp(doc->tag, tag) == 0) {
            return true;
        }
    }
    return false;
}

HANDLER(docs_get)
{
    const struct hub *hub = ctx;
    struct buf *out = &response->body;
    const size_t n = http_router_count(hub->router);
    (void)request;
    buf_puts(out, head);
    buf_puts(out, "<h1>");
    put_text(out, hub->settings.app_name);
    buf_puts(out, "</h1><p>Every route of this hub. The same for machines: "
                  "<a href=\"/openapi.json\">openapi.json</a>.</p>");
    for (size_t i = 0; i < n; i++) {
        const struct api_doc *first = http_router_route(hub->router, i)->doc;
        if (tag_seen(hub->router, i, first->tag)) {
            continue;
        }
        buf_printf(out, "<h2>%s</h2>", first->tag);
        for (size_t k = i; k < n; k++) {
            const struct http_route *route = http_router_route(hub->router, k);
            const struct api_doc *doc = route->doc;
            if (strcmp(doc->tag, first->tag) == 0) {
                put_route(out, route);
            }
        }
    }
    buf_puts(out, "</main></body></html>\n");
    response->status = 200;
    response->content_type = "text/html; charset=utf-8";
    const int rc = http_response_header(
        response, "Content-Security-Policy",
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'", err);
    return rc == 0 ? buf_check(out, "the page", err) : rc;
}

/* A browser is sent to a page; everyone else is told what Ollama's clients wait for. */
HANDLER(root_get)
{
    const char *accept = http_header(request, "Accept");
    (void)ctx;
    if (accept == NULL || strstr(accept, "text/html") == NULL) {
        return http_reply_text(response, 200, "text/plain; charset=utf-8", "Ollama is running",
                               err);
    }
    const int rc = http_response_header(response, "Location", "/docs", err);
    return rc == 0 ? http_reply_empty(response, 302, err) : rc;
}
