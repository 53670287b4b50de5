/* How it works: bytes come in blocks through read(2), are hashed as they come, and are cut into
 * lines in one buffer that grows to the longest line.
 *
 *   window[begin, end) = bytes read and not yet handed out
 *   next → find '\n' in the window ── found ──→ parse the line ──→ row
 *            ↑                └ none: compact, read a block (or end of file: the rest is a line)
 *
 * Invariants:
 *  1. The hash has seen every byte up to read_bytes, so at the end it is the file's.
 *  2. A row borrows from `tree`, which lives until the next call.
 *  3. After a bad row the window stands at the next line's first byte.
 */
#include "formats/dataset.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/utf8.h"

enum { BLOCK_BYTES = 1 << 16, NAME_BYTES = 256, WHY_BYTES = 512 };

struct dataset_reader {
    int fd;
    char name[NAME_BYTES]; /* the file's own name, for messages */
    struct dataset_columns columns;
    struct sha256 hash;
    char *window;
    size_t begin, end, cap;
    uint64_t read_bytes;
    int64_t line, rows;
    bool at_end;
    json_t *tree;
};

static const char *const shapes[] = {"completion", "chat", "text"};

const char *dataset_shape_name(enum dataset_shape shape)
{
    return shapes[shape];
}

/* --- columns --- */

static void columns_defaults(struct dataset_columns *columns)
{
    memset(columns, 0, sizeof *columns);
    memcpy(columns->messages, "messages", sizeof "messages");
    memcpy(columns->tools, "tools", sizeof "tools");
    memcpy(columns->prompt, "prompt", sizeof "prompt");
    memcpy(columns->completion, "completion", sizeof "completion");
    memcpy(columns->text, "text", sizeof "text");
}

static char *column_slot(struct dataset_columns *columns, const char *key)
{
    const struct {
        const char *key;
        char *slot;
    } slots[] = {
        {"messages", columns->messages},     {"tools", columns->tools}, {"prompt", columns->prompt},
        {"completion", columns->completion}, {"text", columns->text},
    };

    for (size_t i = 0; i < sizeof slots / sizeof slots[0]; i++)
        if (strcmp(slots[i].key, key) == 0)
            return slots[i].slot;
    return NULL;
}

int dataset_columns_parse(struct dataset_columns *columns, const json_t *json, struct err *err)
{
    const char *key;
    json_t *value;

    columns_defaults(columns);
    if (!json || json_is_null(json))
        return 0;
    if (!json_is_object(json))
        return err_set(err, ERR_UNPROCESSABLE, "columns must be an object");
    json_object_foreach((json_t *)json, key, value)
    {
        char *slot = column_slot(columns, key);
        const char *text = json_string_value(value);

        if (!slot)
            return err_set(err, ERR_UNPROCESSABLE,
                           "Unknown column '%.100s': known are messages, tools, prompt, "
                           "completion, text",
                           key);
        if (!text || !*text || strlen(text) >= DATASET_COLUMN_BYTES)
            return err_set(err, ERR_UNPROCESSABLE, "columns.%s must be a name of 1 to %d bytes",
                           key, DATASET_COLUMN_BYTES - 1);
        memcpy(slot, text, strlen(text) + 1);
    }
    return 0;
}

/* --- opening --- */

static int make_room(struct dataset_reader *reader, struct err *err)
{
    if (reader->begin > 0) {
        memmove(reader->window, reader->window + reader->begin, reader->end - reader->begin);
        reader->end -= reader->begin;
        reader->begin = 0;
    }
    if (reader->cap - reader->end >= BLOCK_BYTES)
        return 0;
    size_t cap = reader->cap ? reader->cap * 2 : 2 * BLOCK_BYTES;
    char *window = mem_realloc(reader->window, cap, 1);
    if (!window)
        return mem_err(err, cap);
    reader->window = window;
    reader->cap = cap;
    return 0;
}

static int open_file(struct dataset_reader *reader, const char *path, struct err *err)
{
    struct stat info;

    errno = EIO;
    reader->fd = fault_hit(FAULT_OPEN) ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (reader->fd < 0)
        return err_set_errno(err, errno, "%s", path);
    if (fstat(reader->fd, &info) < 0)
        return err_set_errno(err, errno, "%s", path);
    if (!S_ISREG(info.st_mode))
        return err_set(err, ERR_INVALID, "Not a file: %s", path);
    return 0;
}

int dataset_reader_new(struct dataset_reader **out, const char *path,
                       const struct dataset_columns *columns, struct err *err)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    struct dataset_reader *reader = mem_calloc(1, sizeof *reader);
    int rc;

    *out = NULL;
    if (!reader)
        return mem_err(err, sizeof *reader);
    reader->fd = -1;
    dataset_reader_rename(reader, name);
    if (columns)
        reader->columns = *columns;
    else
        columns_defaults(&reader->columns);
    rc = open_file(reader, path, err);
    if (rc == 0)
        rc = make_room(reader, err);
    if (rc == 0)
        rc = sha256_init(&reader->hash, err);
    if (rc < 0) {
        dataset_reader_free(reader);
        return rc;
    }
    *out = reader;
    return 0;
}

void dataset_reader_rename(struct dataset_reader *reader, const char *name)
{
    size_t bytes = strlen(name);

    if (bytes >= NAME_BYTES)
        bytes = utf8_complete_prefix(name, NAME_BYTES - 1);
    memcpy(reader->name, name, bytes);
    reader->name[bytes] = '\0';
}

void dataset_reader_free(struct dataset_reader *reader)
{
    if (!reader)
        return;
    if (reader->fd >= 0)
        close(reader->fd);
    sha256_release(&reader->hash);
    json_decref(reader->tree);
    mem_free(reader->window);
    mem_free(reader);
}

uint64_t dataset_reader_bytes(const struct dataset_reader *reader)
{
    return reader->read_bytes;
}

int dataset_reader_sha256(struct dataset_reader *reader, char out[SHA256_HEX_BYTES],
                          struct err *err)
{
    return sha256_final_hex(&reader->hash, out, err);
}

/* --- lines --- */

static int fill(struct dataset_reader *reader, struct err *err)
{
    ssize_t got;
    int rc = make_room(reader, err);

    if (rc < 0)
        return rc;
    do {
        errno = EIO;
        got = fault_hit(FAULT_READ) ? -1
                                    : read(reader->fd, reader->window + reader->end, BLOCK_BYTES);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return err_set_errno(err, errno, "Cannot read %s", reader->name);
    reader->at_end = got == 0;
    rc = sha256_update(&reader->hash, reader->window + reader->end, (size_t)got, err);
    reader->end += (size_t)got;
    reader->read_bytes += (uint64_t)got;
    return rc;
}

/* Drops what is left of a line that is too long, so that the next call starts at a line. */
static int skip_line(struct dataset_reader *reader, struct err *err)
{
    for (;;) {
        char *from = reader->window + reader->begin;
        char *newline = memchr(from, '\n', reader->end - reader->begin);

        if (newline) {
            reader->begin = (size_t)(newline + 1 - reader->window);
            return 0;
        }
        reader->begin = reader->end;
        if (reader->at_end)
            return 0;
        int rc = fill(reader, err);
        if (rc < 0)
            return rc;
    }
}

static int bad_row(const struct dataset_reader *reader, const char *why, struct err *err)
{
    return err_set(err, ERR_INVALID, "%s:%lld: %s", reader->name, (long long)reader->line, why);
}

/* key: as the file has it. */
static int bad_key(const struct dataset_reader *reader, const char *key, const char *why,
                   struct err *err)
{
    return err_set(err, ERR_INVALID, "%s:%lld: %s %s", reader->name, (long long)reader->line, key,
                   why);
}

/* The next line without its '\n'; *more false at the end of the file. */
static int next_line(struct dataset_reader *reader, const char **line, size_t *length, bool *more,
                     struct err *err)
{
    size_t searched = 0;

    *more = true;
    for (;;) {
        size_t have = reader->end - reader->begin;
        char *from = reader->window + reader->begin;
        char *newline = have > searched ? memchr(from + searched, '\n', have - searched) : NULL;

        if (newline || (reader->at_end && have > 0)) {
            *line = from;
            *length = newline ? (size_t)(newline - from) : have;
            reader->begin += *length + (newline ? 1 : 0);
            reader->line++;
            return 0;
        }
        if (reader->at_end) {
            *more = false;
            return 0;
        }
        if (have > DATASET_LINE_BYTES_MAX) {
            int skipped = skip_line(reader, err);

            reader->line++;
            return skipped < 0 ? skipped : bad_row(reader, "the line is longer than 16 MiB", err);
        }
        searched = have;
        int rc = fill(reader, err);
        if (rc < 0)
            return rc;
    }
}

static bool is_blank(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r' && text[i] != '\n')
            return false;
    return true;
}

/* --- rows --- */

static bool has_words(const json_t *value)
{
    return json_is_string(value) && !is_blank(json_string_value(value), json_string_length(value));
}

/* NULL when the message is fine, else why not. *learns is set when there is a target in it. */
static const char *check_message(const json_t *message, bool *learns)
{
    const json_t *content = json_object_get(message, "content");
    const json_t *calls = json_object_get(message, "tool_calls");
    const char *role = json_string_value(json_object_get(message, "role"));
    bool has_calls = json_is_array(calls) && json_array_size(calls) > 0;

    if (!json_is_object(message))
        return " is not an object";
    if (!role)
        return ".role is missing or not a string";
    if (strcmp(role, "system") != 0 && strcmp(role, "user") != 0 &&
        strcmp(role, "assistant") != 0 && strcmp(role, "tool") != 0)
        return ".role is none of system, user, assistant, tool";
    if (calls && !json_is_null(calls) && !json_is_array(calls))
        return ".tool_calls is not a list";
    if (!json_is_string(content) && !(has_calls && (!content || json_is_null(content))))
        return content ? ".content is not a string" : ".content is missing";
    if (strcmp(role, "assistant") == 0 && (has_words(content) || has_calls))
        *learns = true;
    return NULL;
}

static int chat_row(struct dataset_reader *reader, struct dataset_row *row, struct err *err)
{
    const struct dataset_columns *columns = &reader->columns;
    const json_t *messages = json_object_get(reader->tree, columns->messages);
    const json_t *tools = json_object_get(reader->tree, columns->tools);
    size_t n = json_array_size(messages);
    bool learns = false;

    if (!json_is_array(messages) || n == 0)
        return bad_key(reader, columns->messages, "is not a list with at least one message", err);
    if (n > DATASET_MESSAGES_MAX)
        return bad_key(reader, columns->messages, "has more than 4096 messages", err);
    if (tools && !json_is_null(tools) && !json_is_array(tools))
        return bad_key(reader, columns->tools, "is not a list", err);
    for (size_t i = 0; i < n; i++) {
        const char *why = check_message(json_array_get(messages, i), &learns);

        if (why)
            return err_set(err, ERR_INVALID, "%s:%lld: %s[%zu]%s", reader->name,
                           (long long)reader->line, columns->messages, i, why);
    }
    if (!learns)
        return bad_key(reader, columns->messages,
                       "has nothing to learn: no assistant message with content", err);
    row->shape = DATASET_CHAT;
    row->messages = messages;
    row->tools = json_is_array(tools) ? tools : NULL;
    return 0;
}

static struct dataset_text text_of(const json_t *value)
{
    return (struct dataset_text){json_string_value(value), json_string_length(value)};
}

static int completion_row(struct dataset_reader *reader, struct dataset_row *row, struct err *err)
{
    const struct dataset_columns *columns = &reader->columns;
    const json_t *prompt = json_object_get(reader->tree, columns->prompt);
    const json_t *completion = json_object_get(reader->tree, columns->completion);

    if (!json_is_string(prompt))
        return bad_key(reader, columns->prompt, "is not a string", err);
    if (!json_is_string(completion))
        return bad_key(reader, columns->completion, "is not a string", err);
    if (!has_words(completion))
        return bad_key(reader, columns->completion, "is empty: nothing to learn", err);
    row->shape = DATASET_COMPLETION;
    row->prompt = text_of(prompt);
    row->completion = text_of(completion);
    return 0;
}

static int text_row(struct dataset_reader *reader, struct dataset_row *row, struct err *err)
{
    const json_t *text = json_object_get(reader->tree, reader->columns.text);

    if (!json_is_string(text))
        return bad_key(reader, reader->columns.text, "is not a string", err);
    if (!has_words(text))
        return bad_key(reader, reader->columns.text, "is empty: nothing to learn", err);
    row->shape = DATASET_TEXT;
    row->text = text_of(text);
    return 0;
}

static int parse_row(struct dataset_reader *reader, const char *line, size_t length,
                     struct dataset_row *row, struct err *err)
{
    const struct dataset_columns *columns = &reader->columns;
    struct err why = {0};
    struct dataset_row found = {.line = reader->line, .index = reader->rows};
    int rc;

    reader->tree = json_parse(line, length, &why);
    if (!reader->tree && why.code == ERR_NOMEM)
        return err_set(err, ERR_NOMEM, "%s", why.message);
    if (!reader->tree)
        return err_set(err, ERR_INVALID, "%s:%lld: not JSON: %.*s", reader->name,
                       (long long)reader->line, WHY_BYTES, why.message);
    if (!json_is_object(reader->tree))
        return bad_row(reader, "not a JSON object", err);
    if (json_object_get(reader->tree, columns->prompt) &&
        json_object_get(reader->tree, columns->completion))
        rc = completion_row(reader, &found, err);
    else if (json_object_get(reader->tree, columns->messages))
        rc = chat_row(reader, &found, err);
    else if (json_object_get(reader->tree, columns->text))
        rc = text_row(reader, &found, err);
    else
        rc = err_set(err, ERR_INVALID, "%s:%lld: no %s, no %s with %s, no %s", reader->name,
                     (long long)reader->line, columns->messages, columns->prompt,
                     columns->completion, columns->text);
    if (rc == 0) {
        *row = found;
        reader->rows++;
    }
    return rc;
}

int dataset_reader_next(struct dataset_reader *reader, struct dataset_row *row, bool *more,
                        struct err *err)
{
    static const char bom[] = "\xef\xbb\xbf";

    json_decref(reader->tree);
    reader->tree = NULL;
    for (;;) {
        const char *line = NULL;
        size_t length = 0;
        int rc = next_line(reader, &line, &length, more, err);

        if (rc < 0 || !*more)
            return rc;
        if (reader->line == 1 && length >= 3 && memcmp(line, bom, 3) == 0) {
            line += 3;
            length -= 3;
        }
        if (!is_blank(line, length))
            return parse_row(reader, line, length, row, err);
    }
}

/* --- checking a whole file --- */

struct complaints {
    struct err said; /* the first ones, joined */
    int64_t count;
};

static void complain(struct complaints *complaints, const struct err *why)
{
    size_t used = strlen(complaints->said.message);
    size_t length = strlen(why->message);
    size_t room = ERR_MESSAGE_BYTES_MAX / DATASET_BAD_ROWS_SHOWN - 8;

    if (complaints->count++ >= DATASET_BAD_ROWS_SHOWN)
        return;
    if (used > 0) {
        memcpy(complaints->said.message + used, "; ", 3);
        used += 2;
    }
    if (length > room)
        length = utf8_complete_prefix(why->message, room);
    memcpy(complaints->said.message + used, why->message, length);
    complaints->said.message[used + length] = '\0';
}

static int verdict(const struct complaints *complaints, const struct dataset_report *report,
                   const struct dataset_reader *reader, struct err *err)
{
    if (complaints->count > DATASET_BAD_ROWS_SHOWN)
        return err_set(err, ERR_INVALID, "%s; and %lld more", complaints->said.message,
                       (long long)(complaints->count - DATASET_BAD_ROWS_SHOWN));
    if (complaints->count > 0)
        return err_set(err, ERR_INVALID, "%s", complaints->said.message);
    if (report->rows == 0)
        return err_set(err, ERR_INVALID, "%s has no rows", reader->name);
    return 0;
}

int dataset_check(const char *path, const char *name, const struct dataset_columns *columns,
                  struct dataset_report *report, struct err *err)
{
    struct dataset_reader *reader = NULL;
    struct dataset_row row;
    struct complaints complaints = {0};
    bool more = true;
    int rc = dataset_reader_new(&reader, path, columns, err);

    memset(report, 0, sizeof *report);
    if (rc == 0 && name)
        dataset_reader_rename(reader, name);
    while (rc == 0 && more) {
        struct err why = {0};

        rc = dataset_reader_next(reader, &row, &more, &why);
        if (rc == -ERR_INVALID) {
            complain(&complaints, &why);
            rc = 0;
        } else if (rc < 0) {
            rc = err_set(err, why.code, "%s", why.message);
        } else if (more) {
            report->rows++;
            report->by_shape[row.shape]++;
        }
    }
    if (rc == 0) {
        report->bytes = dataset_reader_bytes(reader);
        rc = dataset_reader_sha256(reader, report->sha256, err);
    }
    if (rc == 0)
        rc = verdict(&complaints, report, reader, err);
    dataset_reader_free(reader);
    return rc;
}
