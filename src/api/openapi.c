/* /openapi.json: everything is read from the router's table, so a route cannot be left out. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "api/doc.h"
#include "api/handlers.h"
#include "api/openapi_schemas.h"

enum { TEXT_BYTES = 256 };

/* --- bodies --- */

static void put_schema(struct json_out *out, const struct http_field *field);

static void put_object(struct json_out *out, const struct http_field *fields, size_t n, bool open)
{
    bool required = false;
    json_out_kv_string(out, "type", "object");
    json_out_key(out, "properties");
    json_out_object(out);
    for (size_t i = 0; i < n; i++) {
        json_out_key(out, fields[i].name);
        put_schema(out, &fields[i]);
        required = required || (fields[i].flags & HTTP_REQUIRED) != 0;
    }
    json_out_object_end(out);
    json_out_kv_bool(out, "additionalProperties", open);
    if (!required) {
        return;
    }
    json_out_key(out, "required");
    json_out_array(out);
    for (size_t i = 0; i < n; i++) {
        if (fields[i].flags & HTTP_REQUIRED) {
            json_out_string(out, fields[i].name);
        }
    }
    json_out_array_end(out);
}

static void put_type(struct json_out *out, const char *type, bool nullable)
{
    json_out_key(out, "type");
    if (nullable) {
        json_out_array(out);
        json_out_string(out, type);
        json_out_string(out, "null");
        json_out_array_end(out);
    } else {
        json_out_string(out, type);
    }
}

static void put_bounds(struct json_out *out, const struct http_field *field)
{
    const bool number = field->kind == HTTP_INT || field->kind == HTTP_REAL;
    const char *least = number                       ? "minimum"
                        : field->kind == HTTP_STRING ? "minLength"
                        : field->kind == HTTP_ARRAY  ? "minItems"
                                                     : "minProperties";
    const char *most = number                       ? "maximum"
                       : field->kind == HTTP_STRING ? "maxLength"
                       : field->kind == HTTP_ARRAY  ? "maxItems"
                                                    : "maxProperties";
    if (field->flags & HTTP_MIN) {
        json_out_kv_real(out, field->flags & HTTP_ABOVE ? "exclusiveMinimum" : least, field->min);
    }
    if (field->flags & HTTP_MAX) {
        json_out_kv_real(out, most, field->max);
    }
}

static void put_choices(struct json_out *out, const char *const *choices, bool nullable)
{
    json_out_key(out, "enum");
    json_out_array(out);
    for (; *choices != NULL; choices++) {
        json_out_string(out, *choices);
    }
    if (nullable) {
        json_out_null(out);
    }
    json_out_array_end(out);
}

static void put_schema(struct json_out *out, const struct http_field *field)
{
    static const char *const types[] = {
        [HTTP_STRING] = "string", [HTTP_UUID] = "string", [HTTP_ENUM] = "string",
        [HTTP_INT] = "integer",   [HTTP_REAL] = "number", [HTTP_BOOL] = "boolean",
        [HTTP_OBJECT] = "object", [HTTP_ARRAY] = "array", [HTTP_ANY] = NULL};
    const bool nullable = (field->flags & HTTP_NULLABLE) != 0;
    json_out_object(out);
    if (field->kind == HTTP_OBJECT && field->fields != NULL) {
        put_object(out, field->fields, field->n_fields, (field->flags & HTTP_OPEN) != 0);
    } else if (types[field->kind] != NULL) {
        put_type(out, types[field->kind], nullable);
    }
    if (field->kind == HTTP_UUID) {
        json_out_kv_string(out, "format", "uuid");
    }
    if (field->kind == HTTP_ENUM) {
        put_choices(out, field->choices, nullable);
    }
    put_bounds(out, field);
    if (field->items != NULL) {
        json_out_key(out, "items");
        put_schema(out, field->items);
    }
    json_out_object_end(out);
}

static void put_body(struct json_out *out, const struct api_doc *doc)
{
    if (doc->body == NULL && doc->body_type == NULL) {
        return;
    }
    json_out_key(out, "requestBody");
    json_out_object(out);
    json_out_kv_bool(out, "required", true);
    json_out_key(out, "content");
    json_out_object(out);
    json_out_key(out, doc->body != NULL ? "application/json" : doc->body_type);
    json_out_object(out);
    json_out_key(out, "schema");
    json_out_object(out);
    if (doc->body != NULL) {
        put_object(out, doc->body->fields, doc->body->n, doc->body->open);
    } else {
        json_out_kv_string(out, "type", "string");
    }
    json_out_object_end(out);
    json_out_object_end(out);
    json_out_object_end(out);
    json_out_object_end(out);
}

/* --- parameters --- */

static void put_query(struct json_out *out, const struct api_query *query)
{
    const struct http_field field = {
        .kind = query->kind,
        .choices = query->choices,
        .min = query->min,
        .max = query->max,
        .flags = query->kind == HTTP_INT && query->max > query->min ? HTTP_MIN | HTTP_MAX : 0};
    json_out_object(out);
    json_out_kv_string(out, "name", query->name);
    json_out_kv_string(out, "in", "query");
    json_out_kv_bool(out, "required", query->required);
    if (query->help != NULL) {
        json_out_kv_string(out, "description", query->help);
    }
    json_out_key(out, "schema");
    put_schema(out, &field);
    json_out_object_end(out);
}

/* {id}, {id...} and {id*} are one parameter each. */
static void put_path_params(struct json_out *out, const char *pattern)
{
    for (const char *at = strchr(pattern, '{'); at != NULL; at = strchr(at + 1, '{')) {
        char name[TEXT_BYTES];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(at + 1, ".*}"), at + 1);
        json_out_object(out);
        json_out_kv_string(out, "name", name);
        json_out_kv_string(out, "in", "path");
        json_out_kv_bool(out, "required", true);
        json_out_key(out, "schema");
        json_out_object(out);
        json_out_kv_string(out, "type", "string");
        if (strncmp(at, "{id}", 4) == 0) {
            json_out_kv_string(out, "format", "uuid");
        }
        json_out_object_end(out);
        json_out_object_end(out);
    }
}

static void put_parameters(struct json_out *out, const struct http_route *route,
                           const struct api_doc *doc)
{
    if (strchr(route->pattern, '{') == NULL && doc->n_query == 0) {
        return;
    }
    json_out_key(out, "parameters");
    json_out_array(out);
    put_path_params(out, route->pattern);
    for (size_t i = 0; i < doc->n_query; i++) {
        put_query(out, &doc->query[i]);
    }
    json_out_array_end(out);
}

/* --- answers --- */

static void put_content(struct json_out *out, const struct api_doc *doc)
{
    json_out_key(out, "content");
    json_out_object(out);
    json_out_key(out, doc->answer_type != NULL ? doc->answer_type : "application/json");
    json_out_object(out);
    json_out_key(out, "schema");
    if (doc->list) {
        json_out_object(out);
        json_out_kv_string(out, "type", "array");
        json_out_key(out, "items");
    }
    if (doc->answer != NULL) {
        openapi_ref(out, doc->answer);
    } else {
        json_out_object(out);
        json_out_kv_string(out, "type", doc->answer_type != NULL ? "string" : "object");
        json_out_object_end(out);
    }
    if (doc->list) {
        json_out_object_end(out);
    }
    json_out_object_end(out);
    json_out_object_end(out);
}

static void put_status(struct json_out *out, int status)
{
    char text[8];
    snprintf(text, sizeof text, "%d", status);
    json_out_key(out, text);
    json_out_object(out);
}

static const char *status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } rows[] = {
        {200, "Done"},
        {201, "Made"},
        {204, "Done"},
        {302, "Elsewhere"},
        {400, "The request contradicts the world"},
        {401, "No key, or a wrong one"},
        {403, "Not allowed"},
        {404, "Not found"},
        {409, "Conflict"},
        {413, "Too large"},
        {422, "Malformed"},
        {429, "Too much at once"},
        {503, "Not now"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].status == status) {
            return rows[i].text;
        }
    }
    return "Error";
}

static void put_error(struct json_out *out, int status)
{
    put_status(out, status);
    json_out_kv_string(out, "description", status_text(status));
    json_out_key(out, "content");
    json_out_object(out);
    json_out_key(out, "application/json");
    json_out_object(out);
    json_out_key(out, "schema");
    openapi_ref(out, status == 422 ? "ValidationError" : "Error");
    json_out_object_end(out);
    json_out_object_end(out);
    json_out_object_end(out);
}

static void put_responses(struct json_out *out, const struct http_route *route,
                          const struct api_doc *doc)
{
    json_out_key(out, "responses");
    json_out_object(out);
    put_status(out, doc->status);
    json_out_kv_string(out, "description", status_text(doc->status));
    if (doc->status != 204 && doc->status != 302) {
        put_content(out, doc);
    }
    json_out_object_end(out);
    if (!(route->flags & HTTP_PUBLIC)) {
        put_error(out, 401);
    }
    for (const int *status = doc->errors; status != NULL && *status != 0; status++) {
        put_error(out, *status);
    }
    if (doc->body != NULL || doc->n_query > 0 || strstr(route->pattern, "{id}") != NULL) {
        put_error(out, 422);
    }
    json_out_object_end(out);
}

/* --- paths --- */

static void put_operation(struct json_out *out, const struct http_route *route)
{
    const struct api_doc *doc = route->doc;
    char text[TEXT_BYTES];
    size_t n = 0;
    for (const char *at = route->method; *at != '\0'; at++) {
        text[n++] = (char)tolower((unsigned char)*at);
    }
    text[n] = '\0';
    json_out_key(out, text);
    for (const char *at = route->pattern; *at != '\0' && n + 1 < sizeof text; at++) {
        if (isalnum((unsigned char)*at)) {
            text[n++] = *at;
        } else if (n > 0 && text[n - 1] != '_') {
            text[n++] = '_';
        }
    }
    n -= n > 0 && text[n - 1] == '_';
    text[n] = '\0';
    json_out_object(out);
    json_out_kv_string(out, "operationId", text);
    json_out_kv_string(out, "summary", doc->summary);
    json_out_key(out, "tags");
    json_out_array(out);
    json_out_string(out, doc->tag);
    json_out_array_end(out);
    if (route->flags & HTTP_PUBLIC) {
        json_out_key(out, "security");
        json_out_array(out);
        json_out_array_end(out);
    }
    put_parameters(out, route, doc);
    put_body(out, doc);
    put_responses(out, route, doc);
    json_out_object_end(out);
}

/* "{id...}" reads "{id}" there. */
static void put_path(struct json_out *out, const char *pattern)
{
    char path[TEXT_BYTES];
    size_t n = 0;
    for (const char *at = pattern; *at != '\0' && n + 1 < sizeof path; at++) {
        if (*at != '.' && *at != '*') {
            path[n++] = *at;
        } else if (strchr(at, '}') == NULL) { /* a dot outside braces: openapi.json */
            path[n++] = *at;
        }
    }
    path[n] = '\0';
    json_out_key(out, path);
}

static void put_paths(struct json_out *out, const struct http_router *router)
{
    const size_t n = http_router_count(router);
    for (size_t i = 0; i < n; i++) {
        const char *pattern = http_router_route(router, i)->pattern;
        bool seen = false;
        for (size_t k = 0; k < i && !seen; k++) {
            seen = strcmp(http_router_route(router, k)->pattern, pattern) == 0;
        }
        if (seen) {
            continue;
        }
        put_path(out, pattern);
        json_out_object(out);
        for (size_t k = i; k < n; k++) {
            if (strcmp(http_router_route(router, k)->pattern, pattern) == 0) {
                put_operation(out, http_router_route(router, k));
            }
        }
        json_out_object_end(out);
    }
}

static void put_security(struct json_out *out)
{
    json_out_kv_raw(out, "securitySchemes",
                    "{\"key\":{\"type\":\"http\",\"scheme\":\"bearer\","
                    "\"description\":\"Where API_KEY is set\"}}");
}

HANDLER(openapi_get)
{
    const struct hub *hub = ctx;
    struct json_out out;
    (void)request;
    http_json(response, &out);
    json_out_object(&out);
    json_out_kv_string(&out, "openapi", "3.1.0");
    json_out_key(&out, "info");
    json_out_object(&out);
    json_out_kv_string(&out, "title", hub->settings.app_name);
    json_out_kv_string(&out, "version", MLX_HUB_VERSION);
    json_out_object_end(&out);
    json_out_kv_raw(&out, "security", "[{\"key\":[]}]");
    json_out_key(&out, "paths");
    json_out_object(&out);
    put_paths(&out, hub->router);
    json_out_object_end(&out);
    json_out_key(&out, "components");
    json_out_object(&out);
    put_security(&out);
    json_out_key(&out, "schemas");
    json_out_object(&out);
    openapi_schemas(&out);
    json_out_object_end(&out);
    json_out_object_end(&out);
    json_out_object_end(&out);
    return http_reply_json(response, 200, err);
}
