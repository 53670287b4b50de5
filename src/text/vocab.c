/* The table is open addressing with linear probing, at most two thirds full. A slot keeps half of
 * the hash beside the id, so a probe touches the strings only when it is nearly sure to match.
 */
#include "text/vocab.h"

#include <assert.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

int strings_init(struct strings *strings, size_t n, size_t bytes, struct err *err)
{
    memset(strings, 0, sizeof(*strings));
    strings->bytes = mem_alloc(bytes + 1);
    strings->at = mem_calloc(n + 1, sizeof(*strings->at));
    if (strings->bytes == NULL || strings->at == NULL) {
        strings_release(strings);
        return mem_err(err, bytes + (n + 1) * sizeof(*strings->at));
    }
    strings->cap = n;
    strings->bytes_cap = bytes;
    return 0;
}

int strings_grow(struct strings *strings, size_t n, size_t bytes, struct err *err)
{
    size_t all = strings->at[strings->n] + bytes + 1;
    char *grown = mem_realloc(strings->bytes, all, 1);
    uint32_t *at;

    if (grown == NULL)
        return mem_err(err, all);
    strings->bytes = grown;
    strings->bytes_cap = all - 1;
    at = mem_realloc(strings->at, strings->cap + n + 1, sizeof(*at));
    if (at == NULL)
        return mem_err(err, (strings->cap + n + 1) * sizeof(*at));
    strings->at = at;
    strings->cap += n;
    return 0;
}

void strings_release(struct strings *strings)
{
    mem_free(strings->bytes);
    mem_free(strings->at);
    memset(strings, 0, sizeof(*strings));
}

void strings_put(struct strings *strings, const char *bytes, size_t n)
{
    uint32_t at = strings->at[strings->n];

    assert(strings->n < strings->cap);
    if (n > 0)
        memcpy(strings->bytes + at, bytes, n);
    strings->at[++strings->n] = at + (uint32_t)n;
}

int strings_append(struct strings *strings, const char *bytes, size_t n, struct err *err)
{
    size_t used = strings->at[strings->n];

    if (n > strings->bytes_cap - used) {
        size_t cap = strings->bytes_cap + strings->bytes_cap / 2 + n;
        char *grown = cap < UINT32_MAX ? mem_realloc(strings->bytes, cap + 1, 1) : NULL;
        if (grown == NULL)
            return mem_err(err, cap);
        strings->bytes = grown;
        strings->bytes_cap = cap;
    }
    strings_put(strings, bytes, n);
    return 0;
}

const char *strings_get(const struct strings *strings, size_t i, size_t *n)
{
    *n = strings->at[i + 1] - strings->at[i];
    return strings->bytes + strings->at[i];
}

int vocab_table_init(struct vocab_table *table, size_t n, struct err *err)
{
    size_t slots = 16;

    while (slots < n + n / 2)
        slots *= 2;
    table->slots = mem_calloc(slots, sizeof(*table->slots));
    if (table->slots == NULL)
        return mem_err(err, slots * sizeof(*table->slots));
    table->mask = slots - 1;
    return 0;
}

void vocab_table_release(struct vocab_table *table)
{
    mem_free(table->slots);
    table->slots = NULL;
}

/* The slot where the text is, or the free one where it would go. */
static size_t probe(const struct vocab_table *table, const struct strings *strings,
                    const char *bytes, size_t n, uint64_t hash)
{
    size_t i = (size_t)hash & table->mask;

    for (; table->slots[i] != 0; i = (i + 1) & table->mask) {
        size_t length;
        const char *text;
        if (table->slots[i] >> 32 != hash >> 32)
            continue;
        text = strings_get(strings, (uint32_t)table->slots[i] - 1, &length);
        if (length == n && memcmp(text, bytes, n) == 0)
            break;
    }
    return i;
}

void vocab_table_put(struct vocab_table *table, const struct strings *strings, int32_t id)
{
    size_t n;
    const char *bytes = strings_get(strings, (size_t)id, &n);
    uint64_t hash = hash_bytes(bytes, n, 0);
    size_t i = probe(table, strings, bytes, n, hash);

    if (table->slots[i] == 0)
        table->slots[i] = (hash >> 32) << 32 | ((uint32_t)id + 1);
}

int32_t vocab_table_find(const struct vocab_table *table, const struct strings *strings,
                         const char *bytes, size_t n)
{
    uint64_t slot = table->slots[probe(table, strings, bytes, n, hash_bytes(bytes, n, 0))];

    return slot == 0 ? -1 : (int32_t)((uint32_t)slot - 1);
}

/* --- GPT-2's alphabet --------------------------------------------------------------------------
 */
void byte_alphabet_init(struct byte_alphabet *alphabet)
{
    int16_t next = 256;

    memset(alphabet->byte_of, 0xFF, sizeof(alphabet->byte_of));
    for (int16_t byte = 0; byte < 256; byte++) {
        bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
        alphabet->byte_of[printable ? byte : next++] = byte;
    }
    assert(next == 0x144);
}

long byte_alphabet_decode(const struct byte_alphabet *alphabet, const char *text, size_t n,
                          char *out)
{
    long length = 0;

    for (size_t i = 0; i < n;) {
        unsigned code_point = (unsigned char)text[i++];
        if (code_point >= 0xC2 && code_point <= 0xC5 && i < n)
            code_point = (code_point & 0x1F) << 6 | ((unsigned char)text[i++] & 0x3F);
        else if (code_point >= 0x80)
            return -1;
        if (code_point >= 0x144 || alphabet->byte_of[code_point] < 0)
            return -1;
        out[length++] = (char)alphabet->byte_of[code_point];
    }
    return length;
}
