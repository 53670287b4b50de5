/* mlx-hub tokenize: the tokens of a text. */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/utf8.h"
#include "cli/commands.h"
#include "cli/find_model.h"
#include "cli/print.h"
#include "cli/text_files.h"

static const struct option_info options[] = {
    {"text", "TEXT", "what to cut into tokens"},
    {"file", "FILE", "the same from a file (- = standard input)"},
    {"no-special", NULL, "leave out the tokens that the model puts before and after a text"},
    {"literal", NULL, "take control tokens written in the text for plain text"},
};

/* A piece may be part of a character: then its bytes are shown as numbers. */
static void write_piece(struct json_out *out, const char *piece, size_t n)
{
    if (utf8_valid(piece, n)) {
        json_out_string_n(out, piece, n);
        return;
    }
    json_out_array(out);
    for (size_t i = 0; i < n; i++) {
        json_out_int(out, (unsigned char)piece[i]);
    }
    json_out_array_end(out);
}

static int print_tokens_json(const struct tokenizer *tok, const struct token_ids *ids,
                             struct err *err)
{
    struct buf buf;
    struct json_out out;
    buf_init(&buf, (size_t)PRINT_BYTES_MAX * 8);
    json_out_init(&out, &buf);
    json_out_object(&out);
    json_out_kv_int(&out, "n_tokens", (int64_t)ids->n);
    json_out_key(&out, "tokens");
    json_out_array(&out);
    for (size_t i = 0; i < ids->n; i++) {
        json_out_int(&out, ids->ids[i]);
    }
    json_out_array_end(&out);
    json_out_key(&out, "pieces");
    json_out_array(&out);
    for (size_t i = 0; i < ids->n; i++) {
        size_t n;
        const char *piece = tokenizer_piece(tok, ids->ids[i], &n);
        write_piece(&out, piece, n);
    }
    json_out_array_end(&out);
    json_out_object_end(&out);
    return print_json(&buf, err);
}

static void print_piece(const char *piece, size_t n)
{
    const bool whole = utf8_valid(piece, n);
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)piece[i];
        if (c == '\n') {
            fputs("\\n", stdout);
        } else if (c == '\t') {
            fputs("\\t", stdout);
        } else if (c == '\\') {
            fputs("\\\\", stdout);
        } else if (c < 0x20 || c == 0x7f || (c >= 0x80 && !whole)) {
            printf("\\x%02x", c);
        } else {
            putchar(c);
        }
    }
}

static int print_tokens(const struct tokenizer *tok, const struct token_ids *ids)
{
    for (size_t i = 0; i < ids->n; i++) {
        size_t n;
        const char *piece = tokenizer_piece(tok, ids->ids[i], &n);
        printf("%7d  '", (int)ids->ids[i]);
        print_piece(piece, n);
        fputs("'\n", stdout);
    }
    return EXIT_DONE;
}

static int open_tokenizer(const struct args *args, struct text_files *files, struct err *err)
{
    const char *name = args->positional[0];
    struct found_model model = {0};
    int rc;
    if (is_model_path(name)) {
        rc = text_files_open(files, name, err);
    } else {
        rc = find_model(&model, &args->settings, name, err);
        rc = rc == 0 ? text_files_open(files, model.spec.base_path, err) : rc;
        found_model_release(&model);
    }
    if (rc == 0 && files->tokenizer == NULL) {
        rc = err_set(err, ERR_INVALID, "%s brings no tokenizer", name);
    }
    return rc;
}

static int run(const struct args *args, struct err *err)
{
    const char *given = args_get(args, "text");
    const char *path = args_get(args, "file");
    const unsigned flags =
        (args_get(args, "no-special") == NULL ? (unsigned)TOKENIZER_ADD_SPECIAL : 0u) |
        (args_get(args, "literal") == NULL ? (unsigned)TOKENIZER_PARSE_SPECIAL : 0u);
    struct text_files files = {0};
    struct token_ids ids;
    struct buf text;
    int status = EXIT_FAILED;
    if ((given == NULL) == (path == NULL)) {
        (void)err_set(err, ERR_INVALID, "give either --text TEXT or --file FILE");
        return EXIT_USAGE;
    }
    buf_init(&text, TOKENIZER_TEXT_BYTES_MAX);
    token_ids_init(&ids, TOKENIZER_TEXT_BYTES_MAX + TOKENIZER_AFFIX_MAX * 2);
    int rc = open_tokenizer(args, &files, err);
    if (rc == 0 && path != NULL) {
        rc = read_whole(path, &text, err);
    } else if (rc == 0) {
        buf_puts(&text, given);
        rc = buf_check(&text, "the text", err);
    }
    if (rc == 0) {
        rc = tokenizer_encode(files.tokenizer, text.data != NULL ? text.data : "", text.len, flags,
                              &ids, err);
    }
    if (rc == 0) {
        status = args->json ? print_tokens_json(files.tokenizer, &ids, err)
                            : print_tokens(files.tokenizer, &ids);
    }
    token_ids_release(&ids);
    buf_release(&text);
    text_files_release(&files);
    return status;
}

const struct command command_tokenize = {
    .name = "tokenize",
    .summary = "Print the tokens of a text: ids and pieces",
    .usage = "FILE|MODEL --text TEXT        FILE: a GGUF (a vocabulary will do), tokenizer.json or "
             "tokenizer.model",
    .examples = "  mlx-hub tokenize model.gguf --text \"Hello, world\"\n"
                "  mlx-hub tokenize tokenizer.json --file essay.txt --no-special --json\n",
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .positional_min = 1,
    .positional_max = 1,
    .run = run,
};
