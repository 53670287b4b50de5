/* How it works. jansson parses; this file puts limits around it.
 *
 * Before parsing one pass over the text refuses nesting beyond JSON_DEPTH_MAX and numbers longer
 * than NUMBER_BYTES_MAX, with jansson's own idea of line and column.
 *
 * jansson ignores a failed growth of its token buffer: a byte would be missing from a string or a
 * number (silently wrong), and un-reading the byte after a number asserts. So the allocator it gets
 * here makes failure safe while a parse is under way on this thread:
 * 1. after the first failure the input ends (it is fed FEED_BYTES at a time), so the parse fails;
 * 2. what little jansson still asks for until then comes from a small reserve on the stack, so
 *    its token buffer always grows;
 * 3. whatever it returned, a parse with a failure is thrown away and reported as ERR_NOMEM.
 * Reserve memory never outlives the parse because the tree does not.
 */
#include "base/json.h"

#include <assert.h>
#include <ctype.h>
#include <math.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"

enum { NUMBER_BYTES_MAX = 255, FEED_BYTES = 16, RESERVE_BYTES = 8192, RESERVE_ALIGN = 16 };

struct parse {
    const char *text;
    size_t length;
    size_t at;
    bool failed; /* an allocation failed */
    size_t reserve_used;
    _Alignas(RESERVE_ALIGN) char reserve[RESERVE_BYTES];
};

static _Thread_local struct parse *current;

static void *json_alloc(size_t size)
{
    void *ptr = current && current->failed ? NULL : mem_alloc(size);
    if (ptr || !current)
        return ptr;
    current->failed = true;
    size_t rounded = (size + RESERVE_ALIGN - 1) / RESERVE_ALIGN * RESERVE_ALIGN;
    if (rounded < size || rounded > sizeof current->reserve - current->reserve_used)
        return NULL;
    ptr = current->reserve + current->reserve_used;
    current->reserve_used += rounded;
    return ptr;
}

static void json_free(void *ptr)
{
    if (current) {
        uintptr_t at = (uintptr_t)ptr, low = (uintptr_t)current->reserve;
        if (at >= low && at < low + sizeof current->reserve)
            return;
    }
    mem_free(ptr);
}

/* Before main, so that no tree can be made with one allocator and freed with another. */
__attribute__((constructor)) static void use_our_memory(void)
{
    json_set_alloc_funcs(json_alloc, json_free);
}

static size_t feed(void *buffer, size_t room, void *ctx)
{
    struct parse *parse = ctx;
    size_t n = parse->length - parse->at;
    if (parse->failed)
        return 0;
    if (n > FEED_BYTES)
        n = FEED_BYTES;
    if (n > room)
        n = room;
    if (n)
        memcpy(buffer, parse->text + parse->at, n);
    parse->at += n;
    return n;
}

/* --- limits before parsing ------------------------------------------------------------------ */

struct scan {
    int line, column;
    size_t depth;
    size_t number; /* length of the run of number characters so far */
    bool in_string, escaped;
};

static bool number_char(char c)
{
    return isdigit((unsigned char)c) || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

/* Moves over one byte; what is wrong with it, or NULL. */
static const char *scan_byte(struct scan *scan, char c)
{
    if (c == '\n') {
        scan->line++;
        scan->column = 0;
    } else if (((unsigned char)c & 0xC0) != 0x80) {
        scan->column++;
    }
    if (scan->in_string) {
        if (scan->escaped)
            scan->escaped = false;
        else if (c == '\\')
            scan->escaped = true;
        else if (c == '"')
            scan->in_string = false;
        return NULL;
    }
    scan->number = number_char(c) ? scan->number + 1 : 0;
    if (scan->number > NUMBER_BYTES_MAX)
        return "a number with too many digits";
    if (c == '"')
        scan->in_string = true;
    if ((c == '[' || c == '{') && ++scan->depth > JSON_DEPTH_MAX)
        return "nested too deeply";
    if ((c == ']' || c == '}') && scan->depth > 0)
        scan->depth--;
    return NULL;
}

static int check_limits(const char *text, size_t length, struct err *err)
{
    struct scan scan = {.line = 1};
    for (size_t i = 0; i < length; i++) {
        const char *wrong = scan_byte(&scan, text[i]);
        if (wrong)
            return err_set(err, ERR_UNPROCESSABLE, "JSON is not valid: %s at line %d column %d",
                           wrong, scan.line, scan.column);
    }
    return 0;
}

/* One run of jansson over the text, with our memory behind it. */
static json_t *load(struct parse *parse, const char *text, size_t length, size_t flags,
                    json_error_t *error)
{
    parse->text = text;
    parse->length = length;
    parse->at = 0;
    parse->failed = false;
    parse->reserve_used = 0;
    current = parse;
    json_t *tree = json_load_callback(
        feed, parse, flags | JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, error);
    if (parse->failed && tree) { /* while its memory may still be the parse's own */
        json_decref(tree);
        tree = NULL;
    }
    current = NULL;
    return tree;
}

json_t *json_parse(const char *text, size_t length, struct err *err)
{
    assert(!current);
    if (check_limits(text, length, err) != 0)
        return NULL;
    struct parse parse;
    json_error_t error = {0};
    json_t *tree = load(&parse, text, length, 0, &error);
    if (!tree && !parse.failed && json_error_code(&error) == json_error_numeric_overflow)
        tree = load(&parse, text, length, JSON_DECODE_INT_AS_REAL, &error);
    if (parse.failed)
        (void)err_set(err, ERR_NOMEM, "out of memory while reading %zu bytes of JSON", length);
    else if (!tree)
        (void)err_set(err, ERR_UNPROCESSABLE, "JSON is not valid: %s at line %d column %d",
                      error.text, error.line, error.column);
    return tree;
}

json_t *json_parse_file(const char *path, size_t bytes_max, struct err *err)
{
    struct buf text;
    json_t *tree = NULL;
    buf_init(&text, bytes_max);
    if (fs_read_file(path, bytes_max, &text, err) != 0)
        goto out;
    tree = json_parse(text.data ? text.data : "", text.len, err);
    if (!tree)
        err_prefix(err, "%s", path);
out:
    buf_release(&text);
    return tree;
}

/* --- typed members -------------------------------------------------------------------------- */

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    default:
        return "null";
    }
}

static int wrong_type(const char *key, const char *wanted, const json_t *value, struct err *err)
{
    return err_set(err, ERR_UNPROCESSABLE, "\"%s\" must be %s, not %s", key, wanted,
                   type_name(value));
}

/* The member, or NULL when it is missing or null. */
static const json_t *member(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

int json_get_string(const json_t *object, const char *key, const char *fallback, const char **out,
                    struct err *err)
{
    const json_t *value = member(object, key);
    *out = fallback;
    if (!value)
        return 0;
    if (!json_is_string(value))
        return wrong_type(key, "a string", value, err);
    *out = json_string_value(value);
    return 0;
}

int json_get_int(const json_t *object, const char *key, int64_t fallback, int64_t *out,
                 struct err *err)
{
    const json_t *value = member(object, key);
    *out = fallback;
    if (!value)
        return 0;
    if (json_is_integer(value)) {
        *out = json_integer_value(value);
        return 0;
    }
    if (!json_is_real(value))
        return wrong_type(key, "an integer", value, err);
    double real = json_real_value(value);
    if (!(real >= -0x1p63 && real < 0x1p63) || real != (double)(int64_t)real)
        return err_set(err, ERR_UNPROCESSABLE, "\"%s\" must be an integer", key);
    *out = (int64_t)real;
    return 0;
}

int json_get_real(const json_t *object, const char *key, double fallback, double *out,
                  struct err *err)
{
    const json_t *value = member(object, key);
    *out = fallback;
    if (!value)
        return 0;
    if (!json_is_number(value))
        return wrong_type(key, "a number", value, err);
    *out = json_number_value(value);
    return 0;
}

int json_get_bool(const json_t *object, const char *key, bool fallback, bool *out, struct err *err)
{
    const json_t *value = member(object, key);
    *out = fallback;
    if (!value)
        return 0;
    if (!json_is_boolean(value))
        return wrong_type(key, "true or false", value, err);
    *out = json_is_true(value);
    return 0;
}
