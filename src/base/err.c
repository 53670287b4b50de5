/* How it works. The first error set in a struct stays until err_clear; everything here is plain
 * formatting into the struct's own array, so raising an error can never fail.
 *
 * 1. message is NUL-terminated and, if what was formatted was UTF-8, ends at a character's edge.
 * 2. code is ERR_NONE exactly when no error is set.
 */
#include "base/err.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

struct code_info {
    const char *name;
    int http_status;
};

static const struct code_info CODES[ERR_CODE_COUNT] = {
    [ERR_NONE] = {"none", 200},
    [ERR_INVALID] = {"invalid", 400},
    [ERR_UNAUTHORIZED] = {"unauthorized", 401},
    [ERR_FORBIDDEN] = {"forbidden", 403},
    [ERR_NOT_FOUND] = {"not_found", 404},
    [ERR_METHOD] = {"method_not_allowed", 405},
    [ERR_CONFLICT] = {"conflict", 409},
    [ERR_TOO_LARGE] = {"too_large", 413},
    [ERR_MEDIA] = {"unsupported_media_type", 415},
    [ERR_UNPROCESSABLE] = {"unprocessable", 422},
    [ERR_BUSY] = {"busy", 429},
    [ERR_UNSUPPORTED] = {"unsupported", 501},
    [ERR_UNAVAILABLE] = {"unavailable", 503},
    [ERR_NOMEM] = {"out_of_memory", 503},
    [ERR_NOSPACE] = {"no_space", 503},
    [ERR_IO] = {"io", 500},
    [ERR_CORRUPT] = {"corrupt", 500},
    [ERR_CANCELLED] = {"cancelled", 503},
    [ERR_TIMEOUT] = {"timeout", 503},
    [ERR_CLOSED] = {"closed", 503},
    [ERR_INTERNAL] = {"internal", 500},
};

void err_clear(struct err *err)
{
    if (!err)
        return;
    err->code = ERR_NONE;
    err->file = NULL;
    err->line = 0;
    err->message[0] = '\0';
}

/* Cuts a message that snprintf had to shorten (`wanted` bytes) at a character's edge. */
static void trim(char *message, int wanted)
{
    if (wanted < ERR_MESSAGE_BYTES_MAX)
        return;
    size_t length = strlen(message);
    message[utf8_complete_prefix(message, length)] = '\0';
}

static void fill(struct err *err, enum err_code code, const char *file, int line, const char *fmt,
                 va_list args) PRINTF_LIKE(5, 0);

static void fill(struct err *err, enum err_code code, const char *file, int line, const char *fmt,
                 va_list args)
{
    err->code = code;
    err->file = file;
    err->line = line;
    int wanted = vsnprintf(err->message, sizeof err->message, fmt, args);
    if (wanted < 0)
        err->message[0] = '\0';
    else
        trim(err->message, wanted);
}

int err_set_at(struct err *err, enum err_code code, const char *file, int line, const char *fmt,
               ...)
{
    assert(code > ERR_NONE && code < ERR_CODE_COUNT);
    if (!err)
        return -(int)code;
    if (err->code != ERR_NONE)
        return -(int)err->code;
    va_list args;
    va_start(args, fmt);
    fill(err, code, file, line, fmt, args);
    va_end(args);
    return -(int)code;
}

static enum err_code code_of_errno(int errnum)
{
    switch (errnum) {
    case ENOENT:
        return ERR_NOT_FOUND;
    case ENOSPC:
    case EDQUOT:
        return ERR_NOSPACE;
    case ENOMEM:
        return ERR_NOMEM;
    case EACCES:
    case EPERM:
        return ERR_FORBIDDEN;
    default:
        return ERR_IO;
    }
}

/* strerror_r comes in two shapes; both end as text in `out` or a static string. */
static const char *errno_text(int errnum, char *out, size_t out_bytes)
{
#ifdef __GLIBC__
    return strerror_r(errnum, out, out_bytes);
#else
    if (strerror_r(errnum, out, out_bytes) != 0)
        snprintf(out, out_bytes, "error %d", errnum);
    return out;
#endif
}

int err_set_errno_at(struct err *err, int errnum, const char *file, int line, const char *fmt, ...)
{
    enum err_code code = code_of_errno(errnum);
    if (!err)
        return -(int)code;
    if (err->code != ERR_NONE)
        return -(int)err->code;
    va_list args;
    va_start(args, fmt);
    fill(err, code, file, line, fmt, args);
    va_end(args);
    char text[128];
    size_t length = strlen(err->message);
    size_t room = sizeof err->message - length;
    int wanted =
        snprintf(err->message + length, room, ": %s", errno_text(errnum, text, sizeof text));
    if (wanted > 0)
        trim(err->message, (int)length + wanted);
    return -(int)code;
}

void err_prefix(struct err *err, const char *fmt, ...)
{
    if (!err || err->code == ERR_NONE)
        return;
    char whole[ERR_MESSAGE_BYTES_MAX];
    va_list args;
    va_start(args, fmt);
    int prefix = vsnprintf(whole, sizeof whole, fmt, args);
    va_end(args);
    if (prefix < 0)
        return;
    int wanted = prefix;
    if (prefix < (int)sizeof whole) {
        int rest = snprintf(whole + prefix, sizeof whole - (size_t)prefix, ": %s", err->message);
        wanted += rest > 0 ? rest : 0;
    }
    trim(whole, wanted);
    memcpy(err->message, whole, strlen(whole) + 1);
}

const char *err_code_name(enum err_code code)
{
    if ((int)code < 0 || code >= ERR_CODE_COUNT)
        return "unknown";
    return CODES[code].name;
}

int err_http_status(int code)
{
    if (code <= -ERR_CODE_COUNT || code >= ERR_CODE_COUNT)
        return 500;
    return CODES[code < 0 ? -code : code].http_status;
}
