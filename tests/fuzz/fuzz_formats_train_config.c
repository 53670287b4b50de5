/* Any bytes as the config of a job: what parses must write, and read back to the same text. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/train_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *to_text(const struct train_config *config)
{
    struct buf buf;
    struct json_out out;

    buf_init(&buf, 1 << 16);
    json_out_init(&out, &buf);
    train_config_write(config, &out);
    return buf_take(&buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct train_config config, again;
    struct train_plan plan;
    struct err err = {0};
    json_t *json = json_parse((const char *)data, size, &err);

    if (json && train_config_parse(&config, json, &err) == 0) {
        char *first = to_text(&config), *second = NULL;

        train_config_plan(&config, (int64_t)size, &plan);
        if (!first || train_config_parse_text(&again, first, &err) < 0)
            abort();
        second = to_text(&again);
        if (!second || strcmp(first, second) != 0)
            abort();
        mem_free(first);
        mem_free(second);
    }
    json_decref(json);
    return 0;
}
