/* Schemas from anywhere: any is compiled or refused, and every beginning of a text that its
 * automaton lets through has an end that is JSON. Bytes behind a NUL choose the text. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "infer/grammar_match.h"
#include "infer/grammar_schema.h"

enum { TEXT_BYTES_MAX = 1 << 12 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The choice-th of the bytes that may come next; -1 when none may. */
static int pick(struct matcher *m, uint32_t state, unsigned choice, uint32_t *next)
{
    uint8_t bytes[256];
    unsigned n = 0;
    struct err err = {0};
    for (unsigned byte = 0; byte < 256; byte++) {
        if (matcher_step(m, state, (uint8_t)byte, next, &err) != 0) {
            return -1; /* too many ways at once */
        }
        if (*next != STATE_DEAD) {
            bytes[n++] = (uint8_t)byte;
        }
    }
    if (n == 0) {
        abort(); /* the text neither ends nor goes on */
    }
    const uint8_t byte = bytes[choice % n];
    return matcher_step(m, state, byte, next, &err) == 0 ? byte : -1;
}

static void walk(struct matcher *m, uint32_t state, const uint8_t *choices, size_t n)
{
    char text[TEXT_BYTES_MAX];
    size_t length = 0;
    for (size_t i = 0; length < sizeof text; i++) {
        struct err err = {0};
        const unsigned choice = i < n ? choices[i] : (unsigned)(i * 7);
        if (matcher_must_end(m, state) || (matcher_may_end(m, state) && choice % 3 == 0)) {
            json_t *tree = json_loadb(text, length, JSON_DECODE_ANY, NULL);
            if (tree == NULL && memchr(text, '.', length) == NULL &&
                memchr(text, 'e', length) == NULL) { /* reals may be out of range */
                abort();
            }
            json_decref(tree);
            return;
        }
        if (matcher_is_full(m) && matcher_forget(m, &state, &err) != 0) {
            return;
        }
        const int byte = pick(m, state, choice, &state);
        if (byte < 0) {
            return;
        }
        text[length++] = (char)byte;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    const uint8_t *end = size == 0 ? NULL : memchr(data, '\0', size);
    const size_t length = end == NULL ? size : (size_t)(end - data);
    struct rules rules = {0};
    struct matcher matcher = {0};
    struct err err = {0};
    uint32_t root = 0;
    uint32_t state = STATE_DEAD;
    json_t *schema = json_parse(size == 0 ? "" : text, length, NULL);
    json_t *source = schema != NULL ? json_pack("{s:o}", "schema", schema) : NULL;
    if (source == NULL) {
        return 0;
    }
    int rc = grammar_compile(&rules, source, NULL, &root, &err);
    if (rc == 0) {
        rc = matcher_init(&matcher, &rules, root, &state, &err);
    }
    if (rc == 0) {
        walk(&matcher, state, end != NULL ? end + 1 : data, end != NULL ? size - length - 1 : size);
    } else if (err.code != ERR_INVALID && err.code != ERR_TOO_LARGE &&
               err.code != ERR_UNPROCESSABLE) {
        abort();
    }
    matcher_release(&matcher);
    rules_release(&rules);
    json_decref(source);
    return 0;
}
