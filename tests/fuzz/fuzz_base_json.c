/* JSON from outside: whatever parses must be writable and parse again to an equal tree. */
#include <stdlib.h>

#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = {0};
    struct buf buf;
    struct json_out out;
    json_t *tree = json_parse((const char *)data, size, &err);
    if (!tree) {
        if (err.code == ERR_NONE)
            abort();
        return 0;
    }
    buf_init(&buf, 64 << 20);
    json_out_init(&out, &buf);
    json_out_tree(&out, tree);
    if (buf_check(&buf, "tree", &err) == 0) {
        json_t *again = json_parse(buf.data, buf.len, &err);
        if (!again)
            abort();
        json_decref(again);
    }
    buf_release(&buf);
    json_decref(tree);
    return 0;
}
