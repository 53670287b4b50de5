/* Faults are written as JSON the moment they are found, from the place kept in `loc`, so nothing
 * has to outlive the walk. The walk follows the table, whose depth is ours, not the body's.
 */
#include "http/validate.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/hash.h"

enum { MESSAGE_BYTES_MAX = 512, LIST_BYTES_MAX = 400 };

void http_issues_init(struct http_issues *issues)
{
    *issues = (struct http_issues){0};
    buf_init(&issues->json, HTTP_ISSUES_BYTES_MAX);
}

void http_issues_release(struct http_issues *issues)
{
    buf_release(&issues->json);
}

/* --- writing a fault --- */

static void write_loc(struct http_issues *issues, struct json_out *out, const char *where,
                      const char *name)
{
    json_out_key(out, "loc");
    json_out_array(out);
    json_out_string(out, where);
    for (size_t i = 0; i < issues->depth; i++) {
        if (issues->loc[i].name)
            json_out_string(out, issues->loc[i].name);
        else
            json_out_int(out, (int64_t)issues->loc[i].index);
    }
    if (name)
        json_out_string(out, name);
    json_out_array_end(out);
}

static void write_first(struct http_issues *issues, const char *name, const char *message)
{
    struct buf text;

    buf_init(&text, sizeof(issues->first) - 1);
    for (size_t i = 0; i < issues->depth; i++) {
        if (issues->loc[i].name)
            buf_printf(&text, "%s%s", i ? "." : "", issues->loc[i].name);
        else
            buf_printf(&text, "[%zu]", issues->loc[i].index);
    }
    if (name)
        buf_printf(&text, "%s%s", issues->depth ? "." : "", name);
    buf_printf(&text, "%s%s", text.len ? ": " : "", message);
    if (text.failed == ERR_NONE && text.data)
        memcpy(issues->first, text.data, text.len + 1);
    else
        memcpy(issues->first, "Invalid request", sizeof("Invalid request"));
    buf_release(&text);
}

void http_issue(struct http_issues *issues, const char *where, const char *name, const char *type,
                const char *fmt, ...)
{
    char message[MESSAGE_BYTES_MAX];
    struct json_out out;
    va_list args;

    if (issues->count == HTTP_ISSUES_MAX)
        return;
    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    if (issues->count++ == 0)
        write_first(issues, name, message);
    else
        buf_putc(&issues->json, ',');
    json_out_init(&out, &issues->json);
    json_out_object(&out);
    write_loc(issues, &out, where, name);
    json_out_kv_string(&out, "msg", message);
    json_out_kv_string(&out, "type", type);
    json_out_object_end(&out);
}

/* --- the kinds --- */

static void check_fields(const json_t *object, const struct http_field *fields, size_t n, bool open,
                         struct http_issues *issues);
static void check_value(const json_t *value, const struct http_field *field, const char *name,
                        struct http_issues *issues);

#define BODY "body"

static void wrong(struct http_issues *issues, const char *name, const char *type, const char *what)
{
    http_issue(issues, BODY, name, type, "Input should be a valid %s", what);
}

static size_t count_characters(const char *text, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += (text[i] & 0xc0) != 0x80;
    return count;
}

static const char *plural(double n)
{
    return n > 0.5 && n < 1.5 ? "" : "s";
}

/* A length against min and max: of a string in characters, of a list or object in items. */
static void check_length(size_t length, const struct http_field *field, const char *name,
                         struct http_issues *issues)
{
    bool text = field->kind == HTTP_STRING;
    const char *what = text ? "String" : field->kind == HTTP_OBJECT ? "Object" : "List";
    const char *unit = text ? "character" : "item";

    if (field->flags & HTTP_MIN && (double)length < field->min)
        http_issue(issues, BODY, name, text ? "string_too_short" : "too_short",
                   "%s should have at least %.0f %s%s", what, field->min, unit, plural(field->min));
    if (field->flags & HTTP_MAX && (double)length > field->max)
        http_issue(issues, BODY, name, text ? "string_too_long" : "too_long",
                   "%s should have at most %.0f %s%s", what, field->max, unit, plural(field->max));
}

static void check_number(double value, const struct http_field *field, const char *name,
                         struct http_issues *issues)
{
    char bound[32];

    if (field->flags & HTTP_MIN && field->flags & HTTP_ABOVE && !(value > field->min)) {
        json_format_real(field->min, bound);
        http_issue(issues, BODY, name, "greater_than", "Input should be greater than %s", bound);
    } else if (field->flags & HTTP_MIN && !(value >= field->min)) {
        json_format_real(field->min, bound);
        http_issue(issues, BODY, name, "greater_than_equal",
                   "Input should be greater than or equal to %s", bound);
    }
    if (field->flags & HTTP_MAX && !(value <= field->max)) {
        json_format_real(field->max, bound);
        http_issue(issues, BODY, name, "less_than_equal",
                   "Input should be less than or equal to %s", bound);
    }
}

static bool is_choice(const char *text, const char *const *choices)
{
    while (*choices && strcmp(*choices, text) != 0)
        choices++;
    return *choices != NULL;
}

/* "'a', 'b' or 'c'" */
static void not_a_choice(struct http_issues *issues, const char *where, const char *name,
                         const char *const *choices)
{
    struct buf list;

    buf_init(&list, LIST_BYTES_MAX);
    for (size_t i = 0; choices[i]; i++)
        buf_printf(&list, "%s'%s'", i == 0 ? "" : choices[i + 1] ? ", " : " or ", choices[i]);
    http_issue(issues, where, name, "enum", "Input should be %s",
               list.failed == ERR_NONE && list.data ? list.data : "one of the choices");
    buf_release(&list);
}

static void check_string(const json_t *value, const struct http_field *field, const char *name,
                         struct http_issues *issues)
{
    const char *text = json_string_value(value);

    if (!text) {
        wrong(issues, name, "string_type", "string");
    } else if (strlen(text) != json_string_length(value)) {
        http_issue(issues, BODY, name, "string_nul", "String should not hold a NUL character");
    } else if (field->kind == HTTP_STRING) {
        check_length(count_characters(text, strlen(text)), field, name, issues);
    } else if (field->kind == HTTP_UUID && !uuid_valid(text)) {
        wrong(issues, name, "uuid_parsing", "UUID");
    } else if (field->kind == HTTP_ENUM && !is_choice(text, field->choices)) {
        not_a_choice(issues, BODY, name, field->choices);
    }
}

static void check_array(const json_t *value, const struct http_field *field, const char *name,
                        struct http_issues *issues)
{
    size_t n = json_array_size(value);

    if (!json_is_array(value)) {
        wrong(issues, name, "list_type", "list");
        return;
    }
    check_length(n, field, name, issues);
    if (!field->items || issues->depth + 2 > HTTP_LOC_MAX)
        return;
    issues->loc[issues->depth++].name = name;
    for (size_t i = 0; i < n && issues->count < HTTP_ISSUES_MAX; i++) {
        issues->loc[issues->depth].name = NULL;
        issues->loc[issues->depth++].index = i;
        check_value(json_array_get(value, i), field->items, NULL, issues);
        issues->depth--;
    }
    issues->depth--;
}

static void check_object(const json_t *value, const struct http_field *field, const char *name,
                         struct http_issues *issues)
{
    bool deeper = name != NULL;

    if (!json_is_object(value)) {
        wrong(issues, name, "dict_type", "object");
        return;
    }
    check_length(json_object_size(value), field, name, issues);
    if (!field->fields || issues->depth + 1 > HTTP_LOC_MAX)
        return;
    if (deeper)
        issues->loc[issues->depth++].name = name;
    check_fields(value, field->fields, field->n_fields, field->flags & HTTP_OPEN, issues);
    if (deeper)
        issues->depth--;
}

static bool is_whole(const json_t *value)
{
    double real = json_real_value(value);
    return json_is_integer(value) ||
           (json_is_real(value) && real == floor(real) && fabs(real) <= 9007199254740992.0);
}

static void check_value(const json_t *value, const struct http_field *field, const char *name,
                        struct http_issues *issues)
{
    switch (field->kind) {
    case HTTP_STRING:
    case HTTP_UUID:
    case HTTP_ENUM:
        check_string(value, field, name, issues);
        break;
    case HTTP_INT:
        if (is_whole(value))
            check_number(json_number_value(value), field, name, issues);
        else
            wrong(issues, name, "int_type", "integer");
        break;
    case HTTP_REAL:
        if (json_is_number(value))
            check_number(json_number_value(value), field, name, issues);
        else
            wrong(issues, name, "float_type", "number");
        break;
    case HTTP_BOOL:
        if (!json_is_boolean(value))
            wrong(issues, name, "bool_type", "boolean");
        break;
    case HTTP_OBJECT:
        check_object(value, field, name, issues);
        break;
    case HTTP_ARRAY:
        check_array(value, field, name, issues);
        break;
    case HTTP_ANY:
        break;
    }
}

static const struct http_field *find_field(const struct http_field *fields, size_t n,
                                           const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(fields[i].name, name) == 0)
            return &fields[i];
    return NULL;
}

static void check_fields(const json_t *object, const struct http_field *fields, size_t n, bool open,
                         struct http_issues *issues)
{
    const char *name;
    json_t *value;

    for (size_t i = 0; i < n; i++) {
        value = json_object_get(object, fields[i].name);
        if (value && json_is_null(value) && fields[i].flags & HTTP_NULLABLE)
            continue;
        if (value)
            check_value(value, &fields[i], fields[i].name, issues);
        else if (fields[i].flags & HTTP_REQUIRED)
            http_issue(issues, BODY, fields[i].name, "missing", "Field required");
    }
    if (open)
        return;
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        if (!find_field(fields, n, name))
            http_issue(issues, BODY, name, "extra_forbidden", "Extra inputs are not permitted");
    }
}

void http_validate(const json_t *body, const struct http_field *fields, size_t n, bool open,
                   struct http_issues *issues)
{
    if (json_is_object(body))
        check_fields(body, fields, n, open, issues);
    else
        wrong(issues, NULL, "dict_type", "object");
}

/* --- path and query --- */

int64_t http_query_int(const struct http_request *request, const char *name, int64_t min,
                       int64_t max, int64_t fallback, struct http_issues *issues)
{
    const char *text = http_query(request, name);
    char *end = NULL;
    long long value;

    if (!text)
        return fallback;
    errno = 0;
    value = strtoll(text, &end, 10);
    if (end == text || *end || errno == ERANGE || strspn(text, "+-0123456789") != strlen(text)) {
        http_issue(issues, "query", name, "int_parsing",
                   "Input should be a valid integer, unable to parse string as an integer");
    } else if (value < min) {
        http_issue(issues, "query", name, "greater_than_equal",
                   "Input should be greater than or equal to %" PRId64, min);
    } else if (value > max) {
        http_issue(issues, "query", name, "less_than_equal",
                   "Input should be less than or equal to %" PRId64, max);
    } else {
        return value;
    }
    return fallback;
}

bool http_query_bool(const struct http_request *request, const char *name, bool fallback,
                     struct http_issues *issues)
{
    static const char *const yes[] = {"true", "1", "yes", "on"};
    static const char *const no[] = {"false", "0", "no", "off"};
    const char *text = http_query(request, name);

    if (!text)
        return fallback;
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        if (strcasecmp(text, yes[i]) == 0)
            return true;
        if (strcasecmp(text, no[i]) == 0)
            return false;
    }
    http_issue(issues, "query", name, "bool_parsing",
               "Input should be a valid boolean, unable to interpret input");
    return fallback;
}

const char *http_query_enum(const struct http_request *request, const char *name,
                            const char *const *choices, const char *fallback,
                            struct http_issues *issues)
{
    const char *text = http_query(request, name);

    if (!text)
        return fallback;
    if (is_choice(text, choices))
        return text;
    not_a_choice(issues, "query", name, choices);
    return fallback;
}

static const char *uuid_or_issue(const char *text, const char *where, const char *name,
                                 struct http_issues *issues)
{
    if (!text || uuid_valid(text))
        return text;
    http_issue(issues, where, name, "uuid_parsing", "Input should be a valid UUID");
    return NULL;
}

const char *http_path_uuid(const struct http_request *request, const char *name,
                           struct http_issues *issues)
{
    return uuid_or_issue(http_path_param(request, name), "path", name, issues);
}

const char *http_query_uuid(const struct http_request *request, const char *name,
                            struct http_issues *issues)
{
    return uuid_or_issue(http_query(request, name), "query", name, issues);
}

int http_issues_reply(struct http_issues *issues, const struct http_request *request,
                      struct http_response *response, struct err *err)
{
    http_error_style style = request->route ? request->route->error_style : NULL;
    int rc;

    if (style && style != http_error_hub) {
        rc = err_set(err, ERR_UNPROCESSABLE, "%s", issues->first);
    } else {
        buf_clear(&response->body);
        buf_puts(&response->body, "{\"detail\":[");
        buf_append(&response->body, issues->json.data, issues->json.len);
        buf_puts(&response->body, "]}");
        rc = buf_check(&issues->json, "the list of faults", err);
        if (rc == 0)
            rc = http_reply_json(response, 422, err);
    }
    http_issues_release(issues);
    return rc;
}
