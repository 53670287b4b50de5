/* Templates from anywhere: any source compiles or is refused, and what compiles renders or fails
 * within its limits. Bytes behind a NUL are JSON for further variables. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "text/jinja_render.h"

enum { FUZZ_STEPS_MAX = 20000 };

static const char conversation[] =
    "[{\"role\": \"system\", \"content\": \"Be brief.\"},"
    "{\"role\": \"user\", \"content\": \"H\\u00e9, <b>\\ud83d\\udc0e</b>\", \"n\": [1, -2.5, "
    "null]},"
    "{\"role\": \"assistant\", \"content\": null, \"reasoning\": \"hm\", \"tool_calls\": "
    "[{\"id\": \"c\", \"function\": {\"name\": \"f\", \"arguments\": {\"x\": true}}}]},"
    "{\"role\": \"tool\", \"content\": \"<think>a</think>b\\n\"}]";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    const char *end = size == 0 ? NULL : memchr(text, '\0', size);
    size_t length = end == NULL ? size : (size_t)(end - text);
    struct err err = {0};
    struct template *t = NULL;
    if (template_new(size == 0 ? "" : text, length, &t, &err) != 0) {
        if (err.code == ERR_NONE || t != NULL)
            abort();
        return 0;
    }
    json_t *messages = json_parse(conversation, sizeof conversation - 1, &err);
    json_t *extra = end == NULL ? NULL : json_parse(end + 1, size - length - 1, NULL);
    struct template_input input = {
        .messages = messages,
        .tools = messages,
        .add_generation_prompt = true,
        .bos_token = "<s>",
        .date = "2024-07-26",
        .extra = json_is_object(extra) ? extra : NULL,
    };
    struct buf out;
    buf_init(&out, TEMPLATE_OUTPUT_BYTES_MAX);
    int rc = jinja_render(t, &input, FUZZ_STEPS_MAX, &out, &err);
    if (rc != 0 ? err.code == ERR_NONE || err.code == ERR_INTERNAL || out.len != 0
                : err.code != ERR_NONE)
        abort();
    buf_release(&out);
    template_free(t);
    json_decref(extra);
    json_decref(messages);
    return 0;
}
