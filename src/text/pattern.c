/* Patterns compiled and run: PCRE2 over letters, with its JIT compiler where it has one.
 *
 * A match on JIT code that runs out of its small stack is tried again by the interpreter, whose
 * memory is on the heap and limited; the limit on steps holds for both.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/pattern.h"

#include <pcre2.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "text/pattern_translate.h"

enum { TRANSLATION_BYTES_MAX = 1 << 20 };

static void *memory_take(size_t size, void *unused)
{
    (void)unused;
    return mem_alloc(size);
}

static void memory_give(void *ptr, void *unused)
{
    (void)unused;
    mem_free(ptr);
}

int alphabet_scan(struct alphabet *alphabet, const char *text, size_t n, struct err *err)
{
    struct buf ignored;
    int rc;

    buf_init(&ignored, TRANSLATION_BYTES_MAX);
    rc = pattern_translate(alphabet, NULL, text, n, &ignored, err);
    buf_release(&ignored);
    return rc;
}

static int compile(struct pattern *pattern, const struct buf *translated, const char *text,
                   size_t n, struct err *err)
{
    pcre2_compile_context *context = pcre2_compile_context_create(pattern->memory);
    int code = 0;
    PCRE2_SIZE at = 0;

    if (context == NULL)
        return mem_err(err, sizeof(void *));
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pattern->code =
        pcre2_compile((PCRE2_SPTR)translated->data, translated->len,
                      PCRE2_MULTILINE | PCRE2_NEVER_UTF | PCRE2_NEVER_UCP, &code, &at, context);
    pcre2_compile_context_free(context);
    if (pattern->code == NULL) {
        PCRE2_UCHAR message[128];
        pcre2_get_error_message(code, message, sizeof(message));
        if (code == PCRE2_ERROR_NOMEMORY || code == 121 /* failed to allocate heap memory */)
            return mem_err(err, translated->len);
        return err_set(err, ERR_UNSUPPORTED, "pre-tokenizer pattern '%.*s': %s",
                       (int)(n < 200 ? n : 200), text, (const char *)message);
    }
    /* Where there is no JIT, or no memory for it, the interpreter does the same work. */
    (void)pcre2_jit_compile(pattern->code, PCRE2_JIT_COMPLETE);
    return 0;
}

int pattern_compile(struct pattern *pattern, const struct alphabet *alphabet, const char *text,
                    size_t n, struct err *err)
{
    struct buf translated;
    int rc;

    memset(pattern, 0, sizeof(*pattern));
    buf_init(&translated, TRANSLATION_BYTES_MAX);
    rc = pattern_translate(NULL, alphabet, text, n, &translated, err);
    if (rc != 0)
        goto out;
    pattern->memory = pcre2_general_context_create(memory_take, memory_give, NULL);
    if (pattern->memory == NULL) {
        rc = mem_err(err, sizeof(void *));
        goto out;
    }
    rc = compile(pattern, &translated, text, n, err);
out:
    buf_release(&translated);
    if (rc != 0)
        pattern_release(pattern);
    return rc;
}

void pattern_release(struct pattern *pattern)
{
    pcre2_code_free(pattern->code);
    pcre2_general_context_free(pattern->memory);
    memset(pattern, 0, sizeof(*pattern));
}

int pattern_scratch_init(struct pattern_scratch *scratch, const struct pattern *pattern,
                         struct err *err)
{
    scratch->data = pcre2_match_data_create(1, pattern->memory);
    scratch->context = pcre2_match_context_create(pattern->memory);
    if (scratch->data == NULL || scratch->context == NULL) {
        pattern_scratch_release(scratch);
        return mem_err(err, sizeof(void *));
    }
    pcre2_set_heap_limit(scratch->context, PATTERN_HEAP_KIB_MAX);
    return 0;
}

void pattern_scratch_release(struct pattern_scratch *scratch)
{
    pcre2_match_data_free(scratch->data);
    pcre2_match_context_free(scratch->context);
    memset(scratch, 0, sizeof(*scratch));
}

static uint32_t step_limit(size_t n)
{
    const size_t n_max = (UINT32_MAX - PATTERN_STEPS_BASE) / PATTERN_STEPS_EACH;

    return PATTERN_STEPS_BASE + (uint32_t)(n < n_max ? n : n_max) * PATTERN_STEPS_EACH;
}

int pattern_find(const struct pattern *pattern, struct pattern_scratch *scratch,
                 const uint8_t *letters, size_t n, size_t from, size_t *begin, size_t *end,
                 struct err *err)
{
    int rc;

    pcre2_set_match_limit(scratch->context, step_limit(n));
    rc = pcre2_match(pattern->code, letters, n, from, 0, scratch->data, scratch->context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(pattern->code, letters, n, from, PCRE2_NO_JIT, scratch->data,
                         scratch->context);
    if (rc == PCRE2_ERROR_NOMATCH)
        return 0;
    if (rc == PCRE2_ERROR_NOMEMORY)
        return mem_err(err, n);
    if (rc < 0)
        return err_set(err, ERR_TOO_LARGE,
                       "the pre-tokenizer's pattern needs too many steps on this text (%d)", rc);
    const PCRE2_SIZE *range = pcre2_get_ovector_pointer(scratch->data);
    *begin = range[0];
    *end = range[1];
    return 1;
}
