/* Values of the template language, and the machine that one render runs on.
 *
 * A value is sixteen bytes, passed by value; what it points to lives in the render's arena (or in
 * the template's, for constants, or in the caller's JSON, for strings that came in) and is never
 * changed once a template can see it. Two things are mutable: a namespace and an iterator.
 *
 * Fallible functions return 0 or a negative code and leave a message in the machine's err; the
 * code is repeated in `failed` for callers of the functions that return a pointer.
 * Everything here belongs to the one thread that renders.
 */
#ifndef TEXT_JINJA_VALUE_H
#define TEXT_JINJA_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"

enum jtype {
    J_MISSING, /* no value at all: an unset variable, an argument not given; never seen outside */
    J_UNDEFINED,
    J_NONE,
    J_BOOL,
    J_INT,
    J_FLOAT,
    J_STRING,
    J_LIST,
    J_TUPLE,
    J_DICT,
    J_NAMESPACE,
    J_RANGE,
    J_VIEW,     /* dict.keys(), .values(), .items() */
    J_ITERATOR, /* a generator: what map, select, batch … give; can be walked once */
    J_LOOP,
    J_MACRO,
    J_FUNCTION,
    J_METHOD
};

/* jvalue.flag */
enum {
    JF_NONE = 0,
    JF_MARKUP = 1, /* string: already safe HTML, escapes what is joined to it */
    JF_GROUP = 1,  /* tuple: (grouper, list) of groupby */
    /* undefined: why */
    JF_NAME = 0,      /* no such variable; as.text is its name */
    JF_ATTRIBUTE = 1, /* no such attribute as.text of an object whose type is in len */
    JF_HINT = 2,      /* as.text is the whole message */
    JF_UNSAFE = 3     /* as JF_HINT; using it breaks the sandbox */
};

struct jvalue {
    uint8_t type;
    uint8_t flag;
    uint32_t len; /* string: bytes · undefined: type of the object */
    union {
        bool boolean;
        int64_t integer;
        double real;
        const char *text; /* not NUL-terminated for strings */
        struct jlist *list;
        struct jdict *dict; /* dict and namespace */
        struct jrange *range;
        struct jview *view;
        struct jiter *iter;
        struct jloop *loop;
        struct jmacro *macro;
        const struct builtin *function;
        struct jbound *bound; /* method with its object */
    } as;
};

/* The tail of a store is shared: `xs + [x]` appends in place when xs ends where the store does. */
struct jlist {
    uint32_t n;
    struct jvalue *items;
    struct jstore *store; /* NULL when the items can't be extended */
};

struct jpair {
    struct jvalue key;
    struct jvalue value;
    uint64_t hash;
};

/* Insertion-ordered; `slots` (a power of two, indices + 1) exists from JDICT_SMALL pairs on. */
enum { JDICT_SMALL = 8 };
struct jdict {
    uint32_t n, cap, n_slots;
    int32_t message; /* index when this is one of the messages, else -1 */
    struct jpair *pairs;
    uint32_t *slots;
};

struct jrange {
    int64_t start, stop, step;
    uint32_t n;
};

enum jview_kind { JVIEW_KEYS, JVIEW_VALUES, JVIEW_ITEMS };
struct jview {
    enum jview_kind kind;
    struct jdict *dict;
};

struct jinja;

/* Walks a value. When `pull` is set the items come from there; `data` is its own. */
struct jiter {
    struct jvalue over;
    size_t at;
    int (*pull)(struct jinja *j, struct jiter *it, struct jvalue *out, bool *done);
    void *data;
};

struct jbuilder {
    char *base;
    size_t used, cap;
};
enum { JINJA_BUILDERS = 4, JINJA_LEVELS_MAX = 1200 };

struct jdate {
    bool set;
    int year, month, day;
};

/* One render.
 * 1. `scratch` is a stack of texts under construction: who opens one closes it before anything
 *    below grows again. The lowest is the output.
 * 2. `root` has one value for each symbol of the template: inputs and globals, then whatever the
 *    template sets at its top level.
 * 3. `levels` counts C recursion, so that no template can exhaust the stack. */
struct jinja {
    const struct template *t;
    struct arena arena;
    struct buf scratch;
    struct err *err;
    int failed;
    uint64_t steps, steps_max;
    unsigned levels;
    unsigned calls;
    int line;
    bool blamed; /* the message at fault has been named */
    struct jvalue *root;
    struct jdate date;
    struct jbuilder builders[JINJA_BUILDERS];
    unsigned next_builder;
};

/* Sets "template line N: …" and returns the negative code. */
int jinja_fail(struct jinja *j, enum err_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Zeroed memory of the render; NULL with the error set and its code in j->failed. */
void *jinja_alloc(struct jinja *j, size_t n, size_t size);
#ifdef __clang_analyzer__
#define jinja_fail(j, ...)      err_sticky((j), (jinja_fail)((j), __VA_ARGS__))
#define jinja_alloc(j, n, size) err_sticky_alloc((j), (jinja_alloc)((j), (n), (size)))
#endif
int jinja_step(struct jinja *j) MUST_CHECK;
/* Counts the work of moving or reading `bytes`; noticed at the next step. */
void jinja_charge(struct jinja *j, size_t bytes);
/* Enters one level of C recursion; each success is paired with jinja_leave. */
int jinja_enter(struct jinja *j) MUST_CHECK;
void jinja_leave(struct jinja *j);

/* --- making values ------------------------------------------------------------------------- */
struct jvalue jv_missing(void);
struct jvalue jv_none(void);
struct jvalue jv_bool(bool b);
struct jvalue jv_int(int64_t i);
struct jvalue jv_float(double d);
struct jvalue jv_string(const char *text, size_t length); /* borrowed */
struct jvalue jv_text(const char *text);                  /* borrowed, NUL-terminated */
struct jvalue jv_undefined(const char *hint);             /* borrowed message */
struct jvalue jv_no_attribute(struct jvalue object, const char *name);
int jv_copy(struct jinja *j, const char *text, size_t length, struct jvalue *out) MUST_CHECK;
int jv_printf(struct jinja *j, struct jvalue *out, const char *fmt, ...) MUST_CHECK
    PRINTF_LIKE(3, 4);
/* A list or tuple of n missing items, to be filled before anyone sees it. */
int jv_list(struct jinja *j, enum jtype type, size_t n, struct jvalue *out) MUST_CHECK;
int jv_pair(struct jinja *j, struct jvalue a, struct jvalue b, struct jvalue *out) MUST_CHECK;
int jv_dict(struct jinja *j, size_t cap, struct jvalue *out) MUST_CHECK;
int jv_list_concat(struct jinja *j, struct jvalue a, struct jvalue b,
                   struct jvalue *out) MUST_CHECK;
int jv_string_concat(struct jinja *j, struct jvalue a, struct jvalue b,
                     struct jvalue *out) MUST_CHECK;
/* Wraps a list as a generator. */
int jv_generator(struct jinja *j, struct jvalue list, struct jvalue *out) MUST_CHECK;

/* --- text under construction ------------------------------------------------------------------
 * open; append to j->scratch; close (copies to the arena) or drop. Failure shows at close. */
size_t jtext_open(struct jinja *j);
int jtext_close(struct jinja *j, size_t mark, struct jvalue *out) MUST_CHECK;
int jtext_check(struct jinja *j) MUST_CHECK;

/* --- dicts --------------------------------------------------------------------------------- */
int jdict_set(struct jinja *j, struct jdict *d, struct jvalue key, struct jvalue value) MUST_CHECK;
/* *out is J_MISSING when the key is absent; fails for a key that can't be hashed. */
int jdict_get(struct jinja *j, const struct jdict *d, struct jvalue key,
              struct jvalue *out) MUST_CHECK;
/* The value of a string key, or J_MISSING. */
struct jvalue jdict_find(const struct jdict *d, const char *text, size_t length);

/* --- asking values ------------------------------------------------------------------------- */
const char *jv_type_name(const struct jvalue *v); /* Python's: "str", "dict" … */
bool jv_is(struct jvalue v, enum jtype type);
bool jv_is_number(struct jvalue v); /* bool, int, float */
bool jv_is_text(struct jvalue v, const char *text);
bool jv_truth(struct jvalue v);
bool jv_same(struct jvalue a, struct jvalue b); /* Python's `is` */
uint64_t jv_hash_text(const char *text, size_t length);
int jv_hash(struct jinja *j, struct jvalue v, uint64_t *out) MUST_CHECK;
int jv_equal(struct jinja *j, struct jvalue a, struct jvalue b, bool *out) MUST_CHECK;
enum jcompare { JC_LT, JC_LE, JC_GT, JC_GE };
int jv_compare(struct jinja *j, enum jcompare op, struct jvalue a, struct jvalue b,
               bool *out) MUST_CHECK;
int jv_contains(struct jinja *j, struct jvalue container, struct jvalue item, bool *out) MUST_CHECK;
/* Python's len(); TypeError for what has none. */
int jv_length(struct jinja *j, struct jvalue v, int64_t *out) MUST_CHECK;
bool jv_has_length(struct jvalue v);
/* Takes a bool or int as int64; TypeError naming `what` otherwise. */
int jv_as_int(struct jinja *j, struct jvalue v, const char *what, int64_t *out) MUST_CHECK;
/* Fails with the message of an undefined value; does nothing for others. */
int jv_need_defined(struct jinja *j, struct jvalue v) MUST_CHECK;

/* --- iterating ----------------------------------------------------------------------------- */
bool jv_iterable(struct jvalue v);
int jiter_open(struct jinja *j, struct jvalue v, struct jiter *it) MUST_CHECK;
int jiter_next(struct jinja *j, struct jiter *it, struct jvalue *out, bool *done) MUST_CHECK;
/* Python's list(v) as a list or tuple. */
int jv_collect(struct jinja *j, struct jvalue v, enum jtype type, struct jvalue *out) MUST_CHECK;
int jview_item(struct jinja *j, const struct jview *view, size_t i, struct jvalue *out) MUST_CHECK;
int64_t jrange_item(const struct jrange *range, size_t i);

/* --- text of values (jinja_repr.c, jinja_json.c) ------------------------------------------- */
/* Appends Python's str(v) or repr(v) to j->scratch. */
int jv_put_str(struct jinja *j, struct jvalue v) MUST_CHECK;
int jv_put_repr(struct jinja *j, struct jvalue v) MUST_CHECK;
/* str(v) as a string value; a string gives itself, without its markup flag. */
int jv_to_string(struct jinja *j, struct jvalue v, struct jvalue *out) MUST_CHECK;
/* As jv_to_string, but markup stays markup (markupsafe.soft_str). */
int jv_soft_string(struct jinja *j, struct jvalue v, struct jvalue *out) MUST_CHECK;
/* HTML-escapes str(v) unless it is markup; the result is markup. */
int jv_escape(struct jinja *j, struct jvalue v, struct jvalue *out) MUST_CHECK;
/* Python's repr of a double. */
enum { JREAL_TEXT_BYTES = 48 };
void jreal_text(double value, char out[JREAL_TEXT_BYTES]);

struct jjson {
    bool ascii;
    bool sort_keys;
    bool indented;
    struct jvalue indent; /* string, repeated for each level */
    struct jvalue item_separator, key_separator;
};
/* json.dumps(v) as a string value. */
int jv_to_json(struct jinja *j, struct jvalue v, const struct jjson *how,
               struct jvalue *out) MUST_CHECK;
/* Stable sort of n indices by keys, ascending or descending, as Python's sorted. */
int jv_sort(struct jinja *j, const struct jvalue *keys, uint32_t *order, size_t n,
            bool reverse) MUST_CHECK;

#endif
