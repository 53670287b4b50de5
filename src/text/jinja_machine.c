/* The machine of one render: errors with their line, bounded memory, steps and depth, and texts
 * under construction.
 *
 * Texts are built on one growing scratch buffer used as a stack and copied to the arena when they
 * are done, so that building leaves no garbage. Joining two strings is different: `out = out + x`
 * in a loop would copy the whole of `out` each time. A joined string of some size is therefore
 * laid in a builder with room behind it, and the next join to exactly that end appends in place;
 * the shorter string keeps its length, so both stay valid. A few builders are remembered.
 */
#include <stdio.h>
#include <string.h>

#include "text/jinja_value.h"
#include "text/template.h"

enum { BUILDER_MIN = 256, CHARGE_BYTES = 64, ROUNDING = 64 /* what the arena may add */ };

int(jinja_fail)(struct jinja *j, enum err_code code, const char *fmt, ...)
{
    char message[ERR_MESSAGE_BYTES_MAX / 2];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    if (j->failed == 0) {
        j->failed = err_set(j->err, code, "template line %d: %s", j->line, message);
        if (j->failed == 0) {
            j->failed = -(int)code;
        }
    }
    return j->failed;
}

void *(jinja_alloc)(struct jinja *j, size_t n, size_t size)
{
    size_t before = j->arena.used;
    void *p = arena_alloc(&j->arena, n == 0 ? 1 : n, size);
    if (p == NULL) {
        size_t room = (size_t)TEMPLATE_MEMORY_BYTES_MAX - before;
        if (size != 0 && n > (room < ROUNDING ? 0 : room - ROUNDING) / size) {
            (void)jinja_fail(j, ERR_TOO_LARGE, "values take more than %d bytes",
                             TEMPLATE_MEMORY_BYTES_MAX);
        } else {
            (void)jinja_fail(j, ERR_NOMEM, "out of memory for %zu bytes", n * size);
        }
    }
    return p;
}

int jinja_step(struct jinja *j)
{
    if (++j->steps > j->steps_max) {
        return jinja_fail(j, ERR_TOO_LARGE, "more than %llu steps",
                          (unsigned long long)j->steps_max);
    }
    return 0;
}

void jinja_charge(struct jinja *j, size_t bytes)
{
    j->steps += bytes / CHARGE_BYTES;
}

int jinja_enter(struct jinja *j)
{
    int rc = jinja_step(j);
    if (rc != 0) {
        return rc;
    }
    if (j->levels >= JINJA_LEVELS_MAX) {
        return jinja_fail(j, ERR_TOO_LARGE, "nested deeper than %d levels", JINJA_LEVELS_MAX);
    }
    j->levels++;
    return 0;
}

void jinja_leave(struct jinja *j)
{
    j->levels--;
}

size_t jtext_open(struct jinja *j)
{
    return j->scratch.len;
}

int jtext_check(struct jinja *j)
{
    if (j->scratch.failed == ERR_NONE) {
        return 0;
    }
    if (j->scratch.failed == ERR_NOMEM) {
        return jinja_fail(j, ERR_NOMEM, "out of memory for text");
    }
    return jinja_fail(j, ERR_TOO_LARGE, "text of more than %d bytes", TEMPLATE_OUTPUT_BYTES_MAX);
}

int jtext_close(struct jinja *j, size_t mark, struct jvalue *out)
{
    int rc = jtext_check(j);
    if (rc != 0) {
        return rc;
    }
    size_t length = j->scratch.len - mark;
    rc = jv_copy(j, length == 0 ? "" : j->scratch.data + mark, length, out);
    if (rc == 0 && length > 0) {
        j->scratch.len = mark;
        j->scratch.data[mark] = '\0';
    }
    return rc;
}

int jv_copy(struct jinja *j, const char *text, size_t length, struct jvalue *out)
{
    jinja_charge(j, length);
    char *bytes = jinja_alloc(j, length + 1, 1);
    if (bytes == NULL) {
        return j->failed;
    }
    if (length > 0) {
        memcpy(bytes, text, length);
    }
    *out = jv_string(bytes, length);
    return 0;
}

int jv_printf(struct jinja *j, struct jvalue *out, const char *fmt, ...)
{
    size_t mark = jtext_open(j);
    va_list args;
    va_start(args, fmt);
    buf_vprintf(&j->scratch, fmt, args);
    va_end(args);
    return jtext_close(j, mark, out);
}

/* The builder that ends exactly where string `a` ends and has room for `more` bytes, or NULL. */
static struct jbuilder *builder_at(struct jinja *j, struct jvalue a, size_t more)
{
    for (unsigned i = 0; i < JINJA_BUILDERS; i++) {
        struct jbuilder *b = &j->builders[i];
        if (b->base != NULL && a.as.text + a.len == b->base + b->used && b->cap - b->used >= more) {
            return b;
        }
    }
    return NULL;
}

int jv_string_concat(struct jinja *j, struct jvalue a, struct jvalue b, struct jvalue *out)
{
    size_t total = (size_t)a.len + b.len;
    if (total > TEMPLATE_OUTPUT_BYTES_MAX) {
        return jinja_fail(j, ERR_TOO_LARGE, "text of more than %d bytes",
                          TEMPLATE_OUTPUT_BYTES_MAX);
    }
    if (b.len == 0 || a.len == 0) {
        *out = jv_string(b.len == 0 ? a.as.text : b.as.text, total);
        return 0;
    }
    struct jbuilder *builder = builder_at(j, a, b.len);
    if (builder != NULL) {
        jinja_charge(j, b.len);
        memcpy(builder->base + builder->used, b.as.text, b.len);
        builder->used += b.len;
        *out = jv_string(a.as.text, total);
        return 0;
    }
    jinja_charge(j, total);
    size_t cap = total < BUILDER_MIN ? total : 2 * total;
    char *bytes = jinja_alloc(j, cap, 1);
    if (bytes == NULL) {
        return j->failed;
    }
    memcpy(bytes, a.as.text, a.len);
    memcpy(bytes + a.len, b.as.text, b.len);
    if (cap > total) {
        builder = &j->builders[j->next_builder++ % JINJA_BUILDERS];
        *builder = (struct jbuilder){.base = bytes, .used = total, .cap = cap};
    }
    *out = jv_string(bytes, total);
    return 0;
}
