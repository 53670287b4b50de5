/* Running a template: scopes, calls, operators, built-in filters, tests, functions and methods.
 *
 * What is built in is tables of `struct builtin`, so that arguments are bound and checked in one
 * place. All of it runs on the machine of one render (jinja_value.h), on one thread.
 */
#ifndef TEXT_JINJA_EVAL_H
#define TEXT_JINJA_EVAL_H

#include "text/jinja_ast.h"
#include "text/jinja_value.h"

enum { PARAMS_MAX = 5 };

struct jkeyword {
    const char *name;
    struct jvalue value;
};

struct jargs {
    struct jvalue *at;
    uint32_t n;
    struct jkeyword *keywords;
    uint32_t n_keywords;
};

/* A filter, test, function or method. `in` is what it is applied to. `p` holds the arguments in
 * the order of `params`, J_MISSING where not given; `args` has them all as they came. A parameter
 * whose name starts with '/' can't be given by name. */
struct builtin {
    const char *name;
    int (*run)(struct jinja *j, struct jvalue in, const struct jvalue *p, const struct jargs *args,
               struct jvalue *out);
    const char *params[PARAMS_MAX];
    uint8_t required;
    bool any_args; /* takes whatever comes; params are not bound */
};

struct jbound {
    struct jvalue self;
    const struct builtin *method;
};

/* --- scopes -------------------------------------------------------------------------------- */
struct variable {
    uint32_t symbol;
    struct jvalue value;
};

struct frame {
    struct frame *outer; /* NULL: the template's top level */
    struct variable *vars;
    uint32_t n, cap;
};

/* Opens a scope, with what it hides set to missing. */
int frame_new(struct jinja *j, struct frame *outer, const struct symbols *hidden,
              struct frame **out) MUST_CHECK;
/* Forgets the variables of a scope that is entered again. */
int frame_again(struct jinja *j, struct frame *frame, const struct symbols *hidden) MUST_CHECK;
int frame_set(struct jinja *j, struct frame *frame, uint32_t symbol,
              struct jvalue value) MUST_CHECK;

enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE };

struct jmacro {
    const struct macro_def *def;
    struct frame *frame; /* where it was defined */
};

struct jloop {
    struct jiter it;
    const struct loop_def *def;
    struct frame *outer;
    int64_t index0, length; /* length -1: not asked for yet */
    int64_t depth0;
    struct jvalue over;                     /* what is looped over, tests left out */
    struct jvalue previous, current, after; /* missing where there is none */
    struct jvalue changed;
    enum flow flow; /* a break in the else body, which leaves the loop around */
};

/* --- evaluating ---------------------------------------------------------------------------- */
int eval(struct jinja *j, struct frame *frame, const struct node *node,
         struct jvalue *out) MUST_CHECK;
int eval_args(struct jinja *j, struct frame *frame, const struct call_args *in,
              struct jargs *out) MUST_CHECK;
/* Assigns to a name, namespace attribute or tuple of them. */
int assign(struct jinja *j, struct frame *frame, const struct node *target,
           struct jvalue value) MUST_CHECK;
int exec_body(struct jinja *j, struct frame *frame, const struct nodes *body,
              enum flow *flow) MUST_CHECK;
/* Runs a body and gives its output; a break or continue that leaves it drops the output. */
int exec_capture(struct jinja *j, struct frame *frame, const struct nodes *body, enum flow *flow,
                 struct jvalue *out) MUST_CHECK;
int exec_for(struct jinja *j, struct frame *frame, const struct node *node,
             enum flow *flow) MUST_CHECK;
int exec_macro(struct jinja *j, struct frame *frame, const struct node *node) MUST_CHECK;
int exec_call_block(struct jinja *j, struct frame *frame, const struct node *node) MUST_CHECK;
/* Counts one call of a macro or recursive loop; paired with j->calls--. */
int call_enter(struct jinja *j) MUST_CHECK;
int macro_call(struct jinja *j, const struct jmacro *macro, const struct jargs *args,
               struct jvalue *out) MUST_CHECK;
/* Renders the body of a recursive loop over something else. */
int loop_recurse(struct jinja *j, const struct jloop *loop, struct jvalue over,
                 struct jvalue *out) MUST_CHECK;
/* Takes the item after the current one without moving on; missing at the end. */
int loop_peek(struct jinja *j, struct jloop *loop, struct jvalue *out) MUST_CHECK;
int loop_length(struct jinja *j, struct jloop *loop, int64_t *out) MUST_CHECK;

/* --- calls --------------------------------------------------------------------------------- */
int jinja_call(struct jinja *j, struct jvalue callee, const struct jargs *args,
               struct jvalue *out) MUST_CHECK;
int builtin_run(struct jinja *j, const struct builtin *b, struct jvalue in,
                const struct jargs *args, struct jvalue *out) MUST_CHECK;

/* --- operators (jinja_ops.c) --------------------------------------------------------------- */
int jv_arithmetic(struct jinja *j, enum token_kind op, struct jvalue a, struct jvalue b,
                  struct jvalue *out) MUST_CHECK;
int jv_sign(struct jinja *j, bool negative, struct jvalue v, struct jvalue *out) MUST_CHECK;
/* Sandboxed obj.name and obj[key] as jinja2's environment has them: undefined when absent. */
int jv_attribute(struct jinja *j, struct jvalue object, const char *name,
                 struct jvalue *out) MUST_CHECK;
int jv_item(struct jinja *j, struct jvalue object, struct jvalue key,
            struct jvalue *out) MUST_CHECK;
/* obj[a:b:c]; parts are none when absent. */
int jv_slice(struct jinja *j, struct jvalue object, const struct jvalue part[3],
             struct jvalue *out) MUST_CHECK;
/* The attribute that Python's getattr finds; missing when there is none. */
int python_attribute(struct jinja *j, struct jvalue object, const char *name,
                     struct jvalue *out) MUST_CHECK;
int loop_attribute(struct jinja *j, struct jloop *loop, const char *name,
                   struct jvalue *out) MUST_CHECK;

/* --- formatting (jinja_percent.c, jinja_format.c) ------------------------------------------ */
int jv_percent(struct jinja *j, struct jvalue format, struct jvalue values,
               struct jvalue *out) MUST_CHECK;
int jv_format(struct jinja *j, struct jvalue format, const struct jargs *args,
              struct jvalue *out) MUST_CHECK;
/* Python's float formatting: kind is one of eEfFgG%, alternate keeps the point. */
void jreal_format(struct buf *out, double value, char kind, int precision, bool alternate);

/* Python's round(value, digits), and int(text, base) / float(text): false for no number. */
double jreal_round(double value, int64_t digits);
bool jtext_to_real(struct jvalue text, double *out);
enum jparse { JP_OK, JP_INVALID, JP_OVERFLOW };
enum jparse jtext_to_int(struct jvalue text, int64_t base, int64_t *out);

/* "YYYY-MM-DD" of a day that exists; false otherwise. */
bool jdate_parse(const char *text, struct jdate *out);
/* Appends the date as strftime would print it. */
int jdate_format(struct jinja *j, const struct jdate *d, struct jvalue format) MUST_CHECK;

/* --- tables -------------------------------------------------------------------------------- */
const struct builtin *filter_find(const char *name);
bool filter_is_unsupported(const char *name); /* one of Jinja2's that is not here */
const struct builtin *test_find(const char *name);
/* NULL when the type has no such method. */
const struct builtin *text_method(const char *name);
const struct builtin *dict_method(const char *name);
const struct builtin *list_method(const char *name, bool tuple);
const struct builtin *loop_method(const char *name);
/* Functions that every template has, by name; missing when there is none. */
struct jvalue global_find(const struct jinja *j, const char *name);

extern const struct builtin text_filters[];     /* jinja_filters_text.c, ends with a NULL name */
extern const struct builtin sequence_filters[]; /* jinja_filters_seq.c */
extern const struct builtin map_filters[];      /* jinja_filters_map.c */

/* Pieces of string methods that filters share (jinja_text.c). */
int text_case(struct jinja *j, struct jvalue text, int how, struct jvalue *out) MUST_CHECK;
int text_strip(struct jinja *j, struct jvalue text, struct jvalue chars, bool left, bool right,
               struct jvalue *out) MUST_CHECK;
int text_replace(struct jinja *j, struct jvalue text, struct jvalue old, struct jvalue new,
                 int64_t count, struct jvalue *out) MUST_CHECK;
int text_lines(struct jinja *j, struct jvalue text, bool keep_ends, struct jvalue *out) MUST_CHECK;
int text_join(struct jinja *j, struct jvalue glue, struct jvalue items, bool convert,
              struct jvalue *out) MUST_CHECK;
int text_center(struct jinja *j, struct jvalue text, int64_t width, struct jvalue fill, int where,
                struct jvalue *out) MUST_CHECK;

/* The value of attribute path "a.b.0" (or an index) of an item, as filters take it. */
struct attribute_path {
    struct jvalue *parts;
    uint32_t n;
};
int attribute_path(struct jinja *j, struct jvalue attribute, struct attribute_path *out) MUST_CHECK;
int attribute_get(struct jinja *j, const struct attribute_path *path, struct jvalue item,
                  struct jvalue fallback, struct jvalue *out) MUST_CHECK;

#endif
