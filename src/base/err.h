/* Errors that travel: a code, a sentence for a person, and where it was raised.
 *
 * A fallible function returns 0 or a negative ERR_* code, is MUST_CHECK and takes a
 * `struct err *` as its last argument. The first error wins: setting an error that is already
 * set keeps the first and returns the first's code, so a failing clean-up never hides the cause.
 * The caller owns the struct; there is no thread-local last error and nothing here exits.
 * Any function accepts err == NULL when the caller only wants the code.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdarg.h>

#define MUST_CHECK             __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

enum err_code {
    ERR_NONE = 0,
    ERR_INVALID,       /* the request contradicts the world, or input is malformed: HTTP 400 */
    ERR_UNAUTHORIZED,  /* 401 */
    ERR_FORBIDDEN,     /* 403 */
    ERR_NOT_FOUND,     /* 404 */
    ERR_METHOD,        /* 405 */
    ERR_CONFLICT,      /* 409 */
    ERR_TOO_LARGE,     /* 413 */
    ERR_MEDIA,         /* 415 */
    ERR_UNPROCESSABLE, /* wrong type, unknown field, bad enum: 422 */
    ERR_BUSY,          /* queue full, rate limit: 429 with Retry-After */
    ERR_UNSUPPORTED,   /* a known feature that is not served: 400 or 501 by protocol */
    ERR_UNAVAILABLE,   /* cannot now: memory budget, database or runner down: 503 */
    ERR_NOMEM,         /* an allocation failed: 503 */
    ERR_NOSPACE,       /* the disk is full: 503 */
    ERR_IO,            /* the operating system refused: 500 */
    ERR_CORRUPT,       /* a file of ours or a model file is not what it claims: 400 or 500 */
    ERR_CANCELLED,     /* the caller asked to stop */
    ERR_TIMEOUT,       /* 503 */
    ERR_CLOSED,        /* the other end of a pipe or socket is gone */
    ERR_INTERNAL,      /* a promise of ours was broken: 500 */
    ERR_CODE_COUNT
};

enum { ERR_MESSAGE_BYTES_MAX = 2048 };

struct err {
    enum err_code code;
    const char *file; /* static string, never owned */
    int line;
    char message[ERR_MESSAGE_BYTES_MAX];
};

/* Makes `err` empty. A `struct err e = {0}` is empty too. */
void err_clear(struct err *err);

/* The analyzer reads one file at a time and cannot see that err.c returns negative codes only; told
 * so, it does not follow paths where a call failed and its caller sees a 0. */
#ifdef __clang_analyzer__
#define err_negative(call)                                                                         \
    ({                                                                                             \
        int err_code_ = (call);                                                                    \
        if (err_code_ >= 0) {                                                                      \
            __builtin_unreachable();                                                               \
        }                                                                                          \
        err_code_;                                                                                 \
    })
/* For machines that remember their first failure in a field `failed`: their fail and alloc. */
#define err_sticky(machine, call)                                                                  \
    ({                                                                                             \
        int err_code_ = (call);                                                                    \
        if (err_code_ >= 0 || (machine)->failed >= 0) {                                            \
            __builtin_unreachable();                                                               \
        }                                                                                          \
        err_code_;                                                                                 \
    })
#define err_sticky_alloc(machine, call)                                                            \
    ({                                                                                             \
        void *err_block_ = (call);                                                                 \
        if (err_block_ == NULL && (machine)->failed >= 0) {                                        \
            __builtin_unreachable();                                                               \
        }                                                                                          \
        err_block_;                                                                                \
    })
#else
#define err_negative(call) (call)
#endif

/* Sets code and message unless an error is already set; returns the negative code that stands.
 * A message that does not fit is cut at a UTF-8 character's edge. */
#define err_set(err, code, ...)                                                                    \
    err_negative(err_set_at((err), (code), __FILE__, __LINE__, __VA_ARGS__))
int err_set_at(struct err *err, enum err_code code, const char *file, int line, const char *fmt,
               ...) PRINTF_LIKE(5, 6);

/* As err_set, with ": " and the text of errno value `errnum` appended; the code is chosen from
 * errnum (ENOENT → NOT_FOUND, ENOSPC/EDQUOT → NOSPACE, ENOMEM → NOMEM, EACCES/EPERM →
 * FORBIDDEN, everything else IO). */
#define err_set_errno(err, errnum, ...)                                                            \
    err_negative(err_set_errno_at((err), (errnum), __FILE__, __LINE__, __VA_ARGS__))
int err_set_errno_at(struct err *err, int errnum, const char *file, int line, const char *fmt, ...)
    PRINTF_LIKE(5, 6);

/* Puts "<context>: " in front of the message of an error that is set. */
void err_prefix(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* The field's name of a code ("not_found"), for logs. Static. */
const char *err_code_name(enum err_code code);

/* The HTTP status that a code means on the hub's own routes; accepts negative codes too. */
int err_http_status(int code);

#endif
