/* The inside of reading tokenizer.json, shared by its two files. */
#ifndef TEXT_TOKENIZER_JSON_H
#define TEXT_TOKENIZER_JSON_H

#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "text/tokenizer.h"

enum { JSON_ARENA_BYTES_MAX = 512 << 20, JSON_PARTS_MAX = 16 };

struct reader {
    struct tokenizer_spec spec;
    struct tokenizer_step steps[TOKENIZER_STEPS_MAX];
    int32_t prefix[TOKENIZER_AFFIX_MAX];
    int32_t suffix[TOKENIZER_AFFIX_MAX];
    bool byte_level;         /* a ByteLevel pre-tokenizer was seen */
    bool byte_level_decoder; /* and its decoder */
    bool has_decoder;
    struct arena arena;
    struct err *err;
};

/* ERR_UNSUPPORTED naming a part and what it asks for. */
int json_unsupported(struct reader *rd, const char *part, const char *what);
/* ERR_INVALID. */
int json_malformed(struct reader *rd, const char *what);

static inline bool is(const char *type, const char *name)
{
    return strcmp(type, name) == 0;
}

static inline struct tokenizer_text text_of(const json_t *string)
{
    return (struct tokenizer_text){json_string_value(string), json_string_length(string)};
}

/* The member "model": vocabulary, merges and options, into rd->spec. */
int json_read_model(struct reader *rd, const json_t *model) MUST_CHECK;

#endif
