/* Any bytes as a GGUF file: parse, then touch everything that a parsed file hands out. The config
 * reader runs on it too, since it is the first to believe the metadata. */
#include <stddef.h>
#include <stdint.h>

#include "formats/dequant.h"
#include "formats/gguf.h"
#include "formats/gguf_config.h"

enum { COLS_MAX = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t seen; /* keeps the reads */

static void touch(const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        seen += (uint8_t)bytes[i];
}

static void touch_array(const struct gguf_array *array)
{
    for (uint64_t i = 0; i < array->count; i++) {
        if (array->item_type == GGUF_STRING) {
            size_t length;
            const char *text = gguf_array_string(array, i, &length);
            touch(text, length);
        } else {
            seen += (uint64_t)gguf_array_i64(array, i);
            seen += gguf_array_f64(array, i) > 0;
        }
    }
}

static void touch_metadata(const struct gguf *gguf)
{
    for (size_t i = 0; i < gguf_kv_count(gguf); i++) {
        const char *key = gguf_kv_key(gguf, i), *text;
        struct gguf_array array;
        size_t length;
        uint64_t number = 0;
        double real = 0;
        bool flag = false;
        seen += gguf_get_u64(gguf, key, &number, NULL) == 0 && number > 0;
        seen += gguf_get_f64(gguf, key, &real, NULL) == 0 && real > 0;
        seen += gguf_get_bool(gguf, key, &flag, NULL) == 0 && flag;
        if (gguf_get_string(gguf, key, &text, &length, NULL) == 0)
            touch(text, length);
        if (gguf_get_array(gguf, key, &array, NULL) == 0)
            touch_array(&array);
    }
}

static void touch_tensors(const struct gguf *gguf)
{
    static float row[COLS_MAX];
    for (size_t i = 0; i < gguf_tensor_count(gguf); i++) {
        const struct tensor_view *view = gguf_tensor_at(gguf, i);
        touch((const char *)view->data, view->bytes);
        if (tensor_type_dequantises(view->type) && tensor_view_cols(view) <= COLS_MAX) {
            for (uint64_t r = 0; r < tensor_view_rows(view); r++)
                tensor_dequant_row(view, r, row);
        }
        seen += gguf_tensor(gguf, view->name) == view;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = {0};
    struct gguf *gguf = NULL;
    struct model_config config;
    if (gguf_parse(data, size, &gguf, &err) != 0)
        return 0;
    touch_metadata(gguf);
    touch_tensors(gguf);
    seen += gguf_config_read(gguf, &config, &err) == 0;
    gguf_free(gguf);
    return 0;
}
