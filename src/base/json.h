/* JSON in and JSON out.
 *
 * In: jansson parses, allocating through mem.h (so what json_dumps returns is freed with mem_free),
 * under our limits: depth, size, duplicate keys refused, NUL allowed inside
 * strings, UTF-8 required. The tree is jansson's json_t; json_decref frees it.
 *
 * Out: answers are written straight from rows by `struct json_out` into a bounded buffer, with the
 * shortest number text that reads back to the same double. NaN and infinities become null.
 * The writer places commas itself; calls must nest properly (asserted: the nesting is ours).
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* What comes in, and what goes out: a tree that came in fits inside an answer's own nesting. */
enum { JSON_DEPTH_MAX = 64, JSON_OUT_DEPTH_MAX = 160 };

/* Parses exactly one value from `length` bytes. ERR_UNPROCESSABLE with line and column for bad
 * syntax, bad UTF-8, a duplicate key or too deep nesting. A whole number that 64 bits do not hold
 * (Hugging Face writes 10^30 for "no limit") makes all numbers of that text reals. NULL on error.
 */
json_t *json_parse(const char *text, size_t length, struct err *err) MUST_CHECK;
/* As json_parse, reading a whole file of at most bytes_max. */
json_t *json_parse_file(const char *path, size_t bytes_max, struct err *err) MUST_CHECK;

/* Typed member access on an object. A missing or null member gives `fallback`; a member of another
 * type is ERR_UNPROCESSABLE naming the key. Numbers: an int is taken where a real is wanted, and a
 * real with no fraction where an int is wanted. Strings are borrowed from the tree. */
int json_get_string(const json_t *object, const char *key, const char *fallback, const char **out,
                    struct err *err) MUST_CHECK;
int json_get_int(const json_t *object, const char *key, int64_t fallback, int64_t *out,
                 struct err *err) MUST_CHECK;
int json_get_real(const json_t *object, const char *key, double fallback, double *out,
                  struct err *err) MUST_CHECK;
int json_get_bool(const json_t *object, const char *key, bool fallback, bool *out,
                  struct err *err) MUST_CHECK;

/* Writes a double in the shortest form that reads back equal ("0.1", "1e-05", "3"); out ≥ 32 bytes.
 * NaN and infinities give "null". */
void json_format_real(double value, char out[32]);

struct json_out {
    struct buf *buf;
    unsigned depth;
    bool first[JSON_OUT_DEPTH_MAX];
    bool after_key;
};

void json_out_init(struct json_out *out, struct buf *buf);
void json_out_object(struct json_out *out);
void json_out_object_end(struct json_out *out);
void json_out_array(struct json_out *out);
void json_out_array_end(struct json_out *out);
void json_out_key(struct json_out *out, const char *key);
void json_out_string(struct json_out *out,
                     const char *text); /* NULL gives null; bad UTF-8 → U+FFFD */
void json_out_string_n(struct json_out *out, const char *text, size_t length);
void json_out_int(struct json_out *out, int64_t value);
void json_out_uint(struct json_out *out, uint64_t value);
void json_out_real(struct json_out *out, double value);
void json_out_bool(struct json_out *out, bool value);
void json_out_null(struct json_out *out);
void json_out_raw(struct json_out *out, const char *json); /* text that is already JSON */
void json_out_tree(struct json_out *out, const json_t *value);

/* key and value in one call */
void json_out_kv_string(struct json_out *out, const char *key, const char *text);
void json_out_kv_int(struct json_out *out, const char *key, int64_t value);
void json_out_kv_real(struct json_out *out, const char *key, double value);
void json_out_kv_bool(struct json_out *out, const char *key, bool value);
void json_out_kv_null(struct json_out *out, const char *key);
void json_out_kv_raw(struct json_out *out, const char *key, const char *json);
void json_out_kv_tree(struct json_out *out, const char *key, const json_t *value);

#endif
