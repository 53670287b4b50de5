/* mlx-hub template: the exact text that a chat template makes of messages. */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/find_model.h"
#include "cli/print.h"
#include "cli/text_files.h"
#include "text/template.h"

enum { MESSAGES_BYTES_MAX = 64 << 20, DATE_BYTES = 11 };

static const struct option_info options[] = {
    {"messages", "FILE", "JSON: an array of messages, or an object with one (- = standard input)"},
    {"tools", "FILE", "JSON: an array of tools"},
    {"no-generation-prompt", NULL, "end after the last message"},
    {"bos", "TEXT", "bos_token, instead of the model's"},
    {"eos", "TEXT", "eos_token, instead of the model's"},
    {"date", "DATE", "YYYY-MM-DD that the template is told, instead of today"},
};

/* An array, or the array that an object has under `key`. */
static int read_array(const char *path, const char *key, json_t **tree, const json_t **array,
                      struct err *err)
{
    struct buf text;
    buf_init(&text, MESSAGES_BYTES_MAX);
    int rc = read_whole(path, &text, err);
    if (rc == 0) {
        *tree = json_parse(text.data != NULL ? text.data : "", text.len, err);
        rc = *tree != NULL ? 0 : -(int)err->code;
    }
    if (rc != 0) {
        err_prefix(err, "%s", path);
    }
    buf_release(&text);
    if (rc != 0) {
        return rc;
    }
    *array = json_is_object(*tree) ? json_object_get(*tree, key) : *tree;
    if (!json_is_array(*array)) {
        return err_set(err, ERR_INVALID, "%s: expected an array, or an object with \"%s\"", path,
                       key);
    }
    return 0;
}

/* The model's own files, and over them what a version recorded. */
static int open_source(const struct args *args, struct text_files *files, struct found_model *model,
                       struct err *err)
{
    const char *name = args->positional[0];
    if (is_model_path(name)) {
        return text_files_open(files, name, err);
    }
    const int rc = find_model(model, &args->settings, name, err);
    return rc == 0 ? text_files_open(files, model->spec.base_path, err) : rc;
}

static int render(const char *source, size_t n, const struct template_input *input, struct buf *out,
                  struct err *err)
{
    struct template *t = NULL;
    int rc = template_new(source, n, &t, err);
    if (rc == 0) {
        rc = template_render(t, input, out, err);
    }
    template_free(t);
    return rc;
}

static int print_result(struct buf *text, bool json, struct err *err)
{
    struct buf buf;
    struct json_out out;
    if (!json) {
        fwrite(text->data != NULL ? text->data : "", 1, text->len, stdout);
        return EXIT_DONE;
    }
    buf_init(&buf, PRINT_BYTES_MAX);
    json_out_init(&out, &buf);
    json_out_object(&out);
    json_out_key(&out, "prompt");
    json_out_string_n(&out, text->data != NULL ? text->data : "", text->len);
    json_out_object_end(&out);
    return print_json(&buf, err);
}

static int run(const struct args *args, struct err *err)
{
    char today[CLOCK_ISO_BYTES];
    struct text_files files = {0};
    struct found_model model = {0};
    json_t *messages = NULL;
    json_t *tools = NULL;
    struct buf text;
    struct template_input input = {
        .add_generation_prompt = args_get(args, "no-generation-prompt") == NULL,
        .date = args_get(args, "date"),
        .fill_calls = true,
    };
    if (args_get(args, "messages") == NULL) {
        (void)err_set(err, ERR_INVALID, "--messages FILE is needed; see mlx-hub template --help");
        return EXIT_USAGE;
    }
    clock_format_iso(clock_wall_us(), today);
    today[DATE_BYTES - 1] = '\0';
    input.date = input.date != NULL ? input.date : today;
    buf_init(&text, TEMPLATE_OUTPUT_BYTES_MAX);
    int rc = open_source(args, &files, &model, err);
    if (rc == 0) {
        rc = read_array(args_get(args, "messages"), "messages", &messages, &input.messages, err);
    }
    if (rc == 0 && args_get(args, "tools") != NULL) {
        rc = read_array(args_get(args, "tools"), "tools", &tools, &input.tools, err);
    } else if (rc == 0 && json_is_object(messages) &&
               json_is_array(json_object_get(messages, "tools"))) {
        input.tools = json_object_get(messages, "tools");
    }
    input.bos_token = args_get(args, "bos") != NULL ? args_get(args, "bos") : files.bos;
    input.eos_token = args_get(args, "eos") != NULL ? args_get(args, "eos") : files.eos;
    if (rc == 0 && model.spec.chat_template != NULL) {
        rc = render(model.spec.chat_template, strlen(model.spec.chat_template), &input, &text, err);
    } else if (rc == 0 && input.tools != NULL && files.tool_template != NULL) {
        rc = render(files.tool_template, strlen(files.tool_template), &input, &text, err);
    } else if (rc == 0 && files.template_source != NULL) {
        rc = render(files.template_source, files.template_bytes, &input, &text, err);
    } else if (rc == 0) {
        rc = render(template_plain, strlen(template_plain), &input, &text, err);
    }
    const int status = rc == 0 ? print_result(&text, args->json, err) : EXIT_FAILED;
    buf_release(&text);
    json_decref(messages);
    json_decref(tools);
    text_files_release(&files);
    found_model_release(&model);
    return status;
}

const struct command command_template = {
    .name = "template",
    .summary = "Print the exact text that a chat template makes of messages",
    .usage = "FILE|MODEL --messages FILE        FILE: a Jinja source, tokenizer_config.json, GGUF",
    .examples = "  mlx-hub template model.gguf --messages chat.json\n"
                "  mlx-hub template template.jinja --messages chat.json --bos \"<s>\" "
                "--date 2026-01-31\n"
                "  echo '[{\"role\":\"user\",\"content\":\"Hi\"}]' | "
                "mlx-hub template my-model --messages -\n",
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .positional_min = 1,
    .positional_max = 1,
    .run = run,
};
